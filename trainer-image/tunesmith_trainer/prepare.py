"""The prepare stage: fetch, convert, check and tokenise, so that bad inputs fail before an accelerator is asked for."""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith_api import Architecture, JobConfig
from tunesmith_api.enums import DataFormat
from tunesmith_api.finetunejob import DatasetStatus, FineTuneJobSpec
from tunesmith_api.shapes import architecture_of
from tunesmith_api.tasks import model_kind
from tunesmith_trainer import log
from tunesmith_trainer.config import lora_of, refuse_unmeasured_gates
from tunesmith_trainer.controls import control_tokens
from tunesmith_trainer.fetch import Input, locate_data
from tunesmith_trainer.instructions import Instruction
from tunesmith_trainer.making import (
    EVALUATION,
    REVISION,
    TRAIN,
    Job,
    Made,
    content_of,
    leaks,
    make_parts,
    tokenizer_digests,
)
from tunesmith_trainer.model_files import ModelFiles, check_technique, locate_base_model, lora_targets, sequence_length
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.output import check_output
from tunesmith_trainer.parts import PartReport
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipes import find_entry, refuse_unserved
from tunesmith_trainer.rows import Check, Request, accept
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tables import Split
from tunesmith_trainer.tracking import check_logins
from tunesmith_trainer.workspace import Workspace, key_of, read_json, write_json, write_text

#: What a DatasetStatus has room for.
MOST_WARNINGS = 16


@dataclass(frozen=True)
class _Sources:
    """Local paths of the data, and the folder for what must be unpacked to be read."""

    train: Path
    evaluation: Path | None
    scratch: Path


def prepare(run: Run, outcome: Outcome) -> None:
    """Run the stage; skips what an earlier run completed with the same inputs.

    Raises:
        StageError: an input is bad, absent or unreachable.
    """
    spec, workspace = run.config.spec, run.workspace
    check_output(run.config)
    check_logins(run.config)
    files = locate_base_model(run.config, workspace)
    outcome.model = _numbers(spec, files)
    check_technique(files, spec)
    refuse_unserved(spec, files.path)
    refuse_unmeasured_gates(spec, spec.dataset.format, model_kind(files.config))
    limit = sequence_length(files, spec)
    sources = _locate(run.config, workspace)
    key = _key(spec, files, sources, limit)
    done = _completed(workspace, key)
    if done is not None:
        log.info("already prepared", key=key)
        outcome.dataset = done
        return
    workspace.prepared.unlink(missing_ok=True)
    shutil.rmtree(workspace.unpacked, ignore_errors=True)  # of a run that was killed while it read
    job = Job(spec, files, limit)
    check = find_entry(spec.task, files.path).check(spec.task, files.path)
    made = make_parts(workspace, job, _requests(spec, sources, check, control_tokens(files.path)))
    outcome.dataset = _status(made, workspace)
    write_json(workspace.prepare_report, outcome.dataset)
    write_text(workspace.samples, "".join(f"{sample.model_dump_json()}\n" for sample in made.evaluation.samples))
    prepared = Prepared(
        key=key,
        model_path=files.path,
        format=made.train.format,
        sequence_length=limit,
        lora_targets=lora_targets(files, lora_of(spec)),
        stop_token=made.stop,
        labels=made.train.labels,
        multiple_labels=made.train.multiple_labels,
        instruction=_instruction(job, made.train),
    )
    write_json(workspace.prepared, prepared.model_dump(mode="json"))


def _instruction(job: Job, train: PartReport) -> Instruction | None:
    """What the model is asked; None where the rows are prompts already, which are learnt as they are."""
    if train.format is DataFormat.PROMPT_COMPLETION:
        return None
    return job.instruction(train.labels, multiple=train.multiple_labels)


def _numbers(spec: FineTuneJobSpec, files: ModelFiles) -> Architecture | None:
    """What the planner needs of a model by URI; None for a preset, and where its config.json does not say it."""
    if spec.model.preset is not None:
        return None
    try:
        return architecture_of(files.config)
    except ValueError as error:
        log.warn("the model's size is not known", reason=str(error))
        return None


def _locate(config: JobConfig, workspace: Workspace) -> _Sources:
    dataset = config.spec.dataset
    train = locate_data(config, workspace, Input(TRAIN, dataset.train.uri, dataset.train.secret_ref))
    evaluation = dataset.evaluation
    if evaluation.uri is None:
        return _Sources(train, None, workspace.unpacked)
    source = Input(EVALUATION, evaluation.uri, evaluation.secret_ref)
    return _Sources(train, locate_data(config, workspace, source), workspace.unpacked)


def _key(spec: FineTuneJobSpec, files: ModelFiles, sources: _Sources, limit: int) -> str:
    data = [content_of(request) for request in _requests(spec, sources) if request is not None]
    weights = [(file.name, file.stat().st_size) for file in sorted(files.path.glob("*.safetensors"))]
    targets = lora_targets(files, lora_of(spec))
    asked = (REVISION, spec.model.wire(), spec.dataset.wire(), spec.task, spec.training.seed, limit)
    return key_of(
        asked,
        str(files.path),
        data,
        tokenizer_digests(files),
        weights,
        targets,
        [gate.wire() for gate in spec.evaluation.gates],
    )


def _completed(workspace: Workspace, key: str) -> DatasetStatus | None:
    report = read_json(workspace.prepare_report)
    written = workspace.training_rows.is_file() and workspace.evaluation_rows.is_file()
    if report is None or not written or (read_json(workspace.prepared) or {}).get("key") != key:
        return None
    return DatasetStatus.model_validate(report)


def _requests(
    spec: FineTuneJobSpec, sources: _Sources, check: Check = accept, controls: re.Pattern[str] | None = None
) -> tuple[Request, Request | None]:
    dataset = spec.dataset
    read = (spec.task, dataset.format, dataset.columns, check, sources.scratch, controls)
    train = Request(TRAIN, sources.train, Split.TRAIN, *read)
    if sources.evaluation is None:
        return train, None
    return train, replace(train, field=EVALUATION, path=sources.evaluation, split=Split.EVALUATION)


def _status(made: Made, workspace: Workspace) -> DatasetStatus:
    train, evaluation = made.train, made.evaluation
    warnings = [*train.warnings, *evaluation.warnings, *leaks(workspace, made)]
    return DatasetStatus(
        examples=train.examples,
        evaluation_examples=evaluation.examples,
        tokens=train.tokens,
        longest_tokens=train.longest_tokens,
        format=train.format,
        digest=key_of(train.digest, evaluation.digest),
        warnings=warnings[:MOST_WARNINGS],
    )
