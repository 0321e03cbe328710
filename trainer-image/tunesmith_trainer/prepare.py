"""The prepare stage: fetch, convert, check and tokenise, so that bad inputs fail before an accelerator is asked for."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api import JobConfig
from tunesmith_api.enums import DataFormat
from tunesmith_api.finetunejob import DatasetStatus, FineTuneJobSpec
from tunesmith_api.reports import SAMPLE_COUNT, Sample
from tunesmith_api.reports import Turn as SampleTurn
from tunesmith_trainer import log
from tunesmith_trainer.config import lora_of, refuse_unmeasured_gates
from tunesmith_trainer.encode import EncodedRow, Encoder, make_encoder
from tunesmith_trainer.encoded import write_encoded
from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.fetch import Input, locate_data
from tunesmith_trainer.formats import Example
from tunesmith_trainer.model_files import ModelFiles, check_rank, locate_base_model, lora_targets, sequence_length
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.rows import choose_format, convert_rows
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tables import data_files, read_rows
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.workspace import Workspace, file_digest, key_of, read_json, write_json, write_text

_TRAIN, _EVALUATION = "spec.dataset.train", "spec.dataset.evaluation"


@dataclass(frozen=True)
class _Sources:
    """Local paths of the data."""

    train: Path
    evaluation: Path | None


@dataclass(frozen=True)
class _Split:
    """Converted rows."""

    format: DataFormat
    train: list[Example]
    evaluation: list[Example]


def prepare(run: Run, outcome: Outcome) -> None:
    """Run the stage; skips what an earlier run completed with the same inputs.

    Raises:
        StageError: an input is bad, absent or unreachable.
    """
    spec, workspace = run.config.spec, run.workspace
    files = locate_base_model(run.config, workspace)
    check_rank(files, lora_of(spec))
    limit = sequence_length(files, spec.training.max_sequence_length)
    sources = _locate(run.config, workspace)
    key = _key(spec, files, sources, limit)
    done = _completed(workspace, key)
    if done is not None:
        log.info("already prepared", key=key)
        outcome.dataset = done
        return
    split = _convert(spec, sources)
    refuse_unmeasured_gates(spec, split.format)
    encoder = make_encoder(load_tokenizer(files.path), spec.task, limit)
    outcome.dataset = _write(workspace, split, encoder)
    write_json(workspace.prepare_report, outcome.dataset)
    prepared = Prepared(
        key=key,
        model_path=files.path,
        format=split.format,
        sequence_length=limit,
        lora_targets=lora_targets(files, lora_of(spec)),
        stop_token=encoder.stop,
    )
    write_json(workspace.prepared, prepared.model_dump(mode="json"))


def _locate(config: JobConfig, workspace: Workspace) -> _Sources:
    dataset = config.spec.dataset
    train = locate_data(config, workspace, Input(_TRAIN, dataset.train.uri, dataset.train.secret_ref))
    evaluation = dataset.evaluation
    if evaluation.uri is None:
        return _Sources(train, None)
    source = Input(_EVALUATION, evaluation.uri, evaluation.secret_ref)
    return _Sources(train, locate_data(config, workspace, source))


def _key(spec: FineTuneJobSpec, files: ModelFiles, sources: _Sources, limit: int) -> str:
    paths = [sources.train] + ([sources.evaluation] if sources.evaluation else [])
    data = [file_digest(file) for path in paths for file in data_files(path)]
    model = [file_digest(files.path / name) for name in ("config.json", "tokenizer.json")]
    weights = [(file.name, file.stat().st_size) for file in sorted(files.path.glob("*.safetensors"))]
    targets = lora_targets(files, lora_of(spec))
    asked = (spec.model.wire(), spec.dataset.wire(), spec.task, spec.training.seed, limit)
    return key_of(
        asked, str(files.path), data, model, weights, targets, [gate.wire() for gate in spec.evaluation.gates]
    )


def _completed(workspace: Workspace, key: str) -> DatasetStatus | None:
    report = read_json(workspace.prepare_report)
    written = workspace.training_rows.is_file() and workspace.evaluation_rows.is_file()
    if report is None or not written or (read_json(workspace.prepared) or {}).get("key") != key:
        return None
    return DatasetStatus.model_validate(report)


def _convert(spec: FineTuneJobSpec, sources: _Sources) -> _Split:
    dataset = spec.dataset
    rows = read_rows(sources.train)
    format_ = choose_format(rows, dataset.format, dataset.columns, _TRAIN)
    train = convert_rows(rows, format_, dataset.columns, spec.task, _TRAIN)
    if sources.evaluation is None:
        kept, held_out = _hold_out(train, dataset.evaluation.fraction or 0.1, spec.training.seed)
        return _Split(format_, kept, held_out)
    rows = read_rows(sources.evaluation)
    evaluation_format = choose_format(rows, dataset.format, dataset.columns, _EVALUATION)
    return _Split(format_, train, convert_rows(rows, evaluation_format, dataset.columns, spec.task, _EVALUATION))


def _hold_out(examples: list[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    count = max(1, round(len(examples) * fraction))
    if count >= len(examples):
        raise BadDataError(
            f"{_TRAIN}: holding out a fraction of {fraction} of {len(examples)} rows leaves none to train on; add rows"
        )
    chosen = set(random.Random(seed).sample(range(len(examples)), count))  # noqa: S311 - a split, no secret
    kept = [example for place, example in enumerate(examples) if place not in chosen]
    return kept, [examples[place] for place in sorted(chosen)]


def _write(workspace: Workspace, split: _Split, encoder: Encoder) -> DatasetStatus:
    workspace.prepared.unlink(missing_ok=True)
    train, warnings = _encode(encoder, split.train, _TRAIN)
    evaluation, more = _encode(encoder, split.evaluation, _EVALUATION)
    write_encoded(workspace.training_rows, train)
    write_encoded(workspace.evaluation_rows, evaluation)
    write_text(workspace.samples, "".join(f"{sample.model_dump_json()}\n" for sample in _samples(split.evaluation)))
    return DatasetStatus(
        examples=len(train),
        evaluation_examples=len(evaluation),
        tokens=sum(len(row.input_ids) for row in train),
        longest_tokens=max(len(row.input_ids) for row in train),
        format=split.format,
        digest=key_of(*([repr(example) for example in part] for part in (split.train, split.evaluation))),
        warnings=[*warnings, *more, *_leaks(split)],
    )


def _samples(examples: Sequence[Example]) -> Iterator[Sample]:
    """The first evaluation rows with an answer, as people read them."""
    for example in [example for example in examples if example.turns][:SAMPLE_COUNT]:
        turns = [SampleTurn(role=turn.role, content=turn.content) for turn in example.turns]
        yield Sample(messages=turns[:-1], reference=turns[-1].content)


def _encode(encoder: Encoder, examples: Sequence[Example], field: str) -> tuple[list[EncodedRow], list[str]]:
    encoded = [encoder.encode(example) for example in examples]
    rows = [row for row in encoded if row is not None]
    dropped, cut = len(encoded) - len(rows), sum(row.truncated for row in rows)
    if dropped + cut == len(encoded):
        raise BadDataError(
            f"{field}: every row is longer than {encoder.limit} tokens;"
            " raise spec.training.maxSequenceLength or shorten them"
        )
    warnings = []
    if dropped:
        warnings.append(f"{field}: {dropped} rows dropped, their prompts fill all {encoder.limit} tokens")
    if cut:
        warnings.append(f"{field}: {cut} rows cut to {encoder.limit} tokens, their answers lack the end")
    return rows, warnings


def _leaks(split: _Split) -> list[str]:
    count = len(set(split.train) & set(split.evaluation))
    return [f"{count} evaluation rows are among the training rows; their scores say little"] if count else []
