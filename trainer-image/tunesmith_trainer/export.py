"""The export stage: merge, build the ONNX model, compare it, measure it, and publish it when it passes."""

import shutil
from importlib.metadata import version
from pathlib import Path

import torch

from tunesmith_api import ExportReport, Scheme, TrainReport, parse_uri
from tunesmith_api.finetunejob import ArtifactStatus, EvaluationStatus, Scores
from tunesmith_api.jobconfig import WORKSPACE_PATH
from tunesmith_trainer import log
from tunesmith_trainer.builder import build_onnx
from tunesmith_trainer.environment import worker_threads
from tunesmith_trainer.errors import InputNotFoundError, OutputNotWritableError
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.gates import check_gates, require_gates
from tunesmith_trainer.model import load_adapter, load_base
from tunesmith_trainer.model_folder import (
    folder_digest,
    folder_size,
    publish,
    write_description,
    write_tokenizer,
)
from tunesmith_trainer.onnx_model import OnnxModel
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.parity import Reference, compare, require_parity, take_reference
from tunesmith_trainer.plots import plot_evaluation
from tunesmith_trainer.prepared import Prepared, read_prepared
from tunesmith_trainer.stages import Run
from tunesmith_trainer.torch_model import TorchModel
from tunesmith_trainer.train import make_evaluator
from tunesmith_trainer.workspace import (
    Workspace,
    file_digest,
    key_of,
    make_readable,
    read_json,
    replace_folder,
    write_json,
)

_LIBRARIES = ("torch", "transformers", "peft", "onnx", "onnxruntime", "onnxruntime-genai")


def export(run: Run, outcome: Outcome) -> None:
    """Run the stage; a model folder that is complete for the same adapter and precision is published again as it is.

    Raises:
        InputNotFoundError: prepare or train has not run to its end.
        GateFailedError: the exported model differs from the torch model, or misses a gate.
        OutputNotWritableError: the output cannot be written.
    """
    torch.set_num_threads(worker_threads())
    workspace = run.workspace
    prepared = read_prepared(workspace)
    trained = _train_report(workspace)
    spec = run.config.spec
    key = key_of(prepared.key, file_digest(_weights(workspace)), spec.export.wire(), spec.evaluation.wire())
    report = _completed(run, key)
    if report is None:
        report = _make(run, prepared, trained)
    outcome.evaluation = EvaluationStatus(
        base=trained.base, tuned=trained.tuned, exported=report.exported, gates=report.gates
    )
    require_parity(report.parity, report.artifact.precision)
    require_gates(report.gates)
    _publish(run)
    outcome.artifact = report.artifact
    write_json(workspace.root / "exported.json", {"key": key})


def _train_report(workspace: Workspace) -> TrainReport:
    report = read_json(workspace.train_report)
    if report is None:
        raise InputNotFoundError(f"{workspace.train_report} is absent; run the train stage first")
    return TrainReport.model_validate(report)


def _weights(workspace: Workspace) -> Path:
    path = workspace.adapter / "adapter_model.safetensors"
    if not path.is_file():
        raise InputNotFoundError(f"{path} is absent; run the train stage first")
    return path


def _completed(run: Run, key: str) -> ExportReport | None:
    report = read_json(run.workspace.export_report)
    if report is None or (read_json(run.workspace.root / "exported.json") or {}).get("key") != key:
        return None
    log.info("already exported", key=key)
    known = ExportReport.model_validate(report)
    artifact = known.artifact.model_copy(update={"uri": artifact_uri(run)})
    moved = known.model_copy(update={"artifact": artifact})
    write_json(run.workspace.export_report, moved)
    return moved


def _make(run: Run, prepared: Prepared, trained: TrainReport) -> ExportReport:
    workspace, spec = run.workspace, run.config.spec
    folder = workspace.export.with_name("export.tmp")
    evaluator = make_evaluator(run, prepared)
    for leftover in (folder, workspace.merged):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        reference = _merge(workspace, prepared, evaluator)
        build_onnx(workspace.merged, folder, spec.export.precision)
    finally:
        shutil.rmtree(workspace.merged, ignore_errors=True)
    write_tokenizer(folder, prepared.model_path, evaluator.tokenizer)
    write_description(folder, run.config.name, evaluator.tokenizer)
    report = _measure(run, folder, evaluator, reference, trained)
    write_json(folder / workspace.export_report.name, report)
    make_readable([folder])
    require_parity(report.parity, spec.export.precision)
    replace_folder(folder, workspace.export)
    scores = {"base": trained.base, "tuned": trained.tuned, "exported": report.exported}
    plot_evaluation(workspace.plots / "evaluation.png", run.config.name, scores)
    return report


def _merge(workspace: Workspace, prepared: Prepared, evaluator: Evaluator) -> Reference:
    """Save the merged fp32 model, which stops at every token that ends an answer, and keep what it says."""
    model = load_adapter(load_base(prepared.model_path), workspace.adapter).merge_and_unload()
    model.generation_config.eos_token_id = sorted(evaluator.stop_ids)
    model.config.eos_token_id = sorted(evaluator.stop_ids)
    model.save_pretrained(workspace.merged)
    name_rope_type(workspace.merged / "config.json")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (prepared.model_path / name).is_file():
            shutil.copyfile(prepared.model_path / name, workspace.merged / name)
    return take_reference(TorchModel(model), evaluator.rows, evaluator.context)


def name_rope_type(path: Path) -> None:
    """Name the kind of scaled rotary embedding by its older key too, which the model builder reads."""
    config = read_json(path) or {}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default" and "type" not in rope:
        rope["type"] = rope["rope_type"]
        write_json(path, config)


def _measure(run: Run, folder: Path, evaluator: Evaluator, reference: Reference, trained: TrainReport) -> ExportReport:
    spec = run.config.spec
    model = OnnxModel(folder)
    parity = compare(model, reference)
    log.info("compared with the torch model", **parity.model_dump())
    exported: Scores = evaluator.score(model)
    log.info("exported model measured", **exported.model_dump())
    artifact = ArtifactStatus(
        uri=artifact_uri(run),
        digest=folder_digest(folder),
        size_bytes=folder_size(folder),
        precision=spec.export.precision,
        parity=parity,
    )
    return ExportReport(
        job=run.config.name,
        model=spec.model.preset or spec.model.uri or "",
        artifact=artifact,
        parity=parity,
        exported=exported,
        gates=check_gates(spec.evaluation.gates, exported, trained.base, "exported"),
        versions={name: version(name) for name in _LIBRARIES},
    )


def artifact_uri(run: Run) -> str:
    """Where the model folder will lie: the job's output, else the workspace's claim, or its path in a local run."""
    if run.config.spec.output is not None:
        return run.config.spec.output.uri
    if run.config.workspace == WORKSPACE_PATH:
        return f"pvc://{run.config.name}-workspace/{run.workspace.export.name}"
    return f"file://{run.workspace.export.absolute()}"


def _publish(run: Run) -> None:
    output = run.config.spec.output
    if output is None:
        return
    location = parse_uri(output.uri)
    path = location.path if location.scheme is Scheme.FILE else run.config.outputs.get(output.uri)
    if path is None:
        raise OutputNotWritableError(f"spec.output.uri: {output.uri} is not mounted")
    publish(run.workspace.export, Path(path))
    log.info("published", uri=output.uri)
