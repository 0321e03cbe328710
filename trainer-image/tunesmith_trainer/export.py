"""The export stage: merge, build the ONNX model, compare it, measure it, and publish it when it passes."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tunesmith_api import ExportReport, TrainReport
from tunesmith_api.enums import ExportFormat
from tunesmith_api.finetunejob import ArtifactStatus, EvaluationStatus, Scores
from tunesmith_api.jobconfig import WORKSPACE_PATH
from tunesmith_trainer import log
from tunesmith_trainer.environment import worker_threads
from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.gates import check_gates, require_gates
from tunesmith_trainer.library_folder import make_library_folder
from tunesmith_trainer.model_folder import folder_digest, folder_size
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.parity import require_parity
from tunesmith_trainer.plots import draw_evaluation, save
from tunesmith_trainer.prepared import Prepared, read_prepared
from tunesmith_trainer.publish import publish_output
from tunesmith_trainer.recipe import Recipe
from tunesmith_trainer.recipes import load_recipe
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tuned import load_tuned, merged, result_file
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
    if report.parity is not None:
        require_parity(report.parity, spec.export.precision)
    require_gates(report.gates)
    uri = publish_output(run.config, workspace.export) or report.artifact.uri
    outcome.artifact = report.artifact.model_copy(update={"uri": uri})
    write_json(workspace.root / "exported.json", {"key": key})


def _train_report(workspace: Workspace) -> TrainReport:
    report = read_json(workspace.train_report)
    if report is None:
        raise InputNotFoundError(f"{workspace.train_report} is absent; run the train stage first")
    return TrainReport.model_validate(report)


def _weights(workspace: Workspace) -> Path:
    path = result_file(workspace.adapter)
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
    if spec.export.format is not ExportFormat.ONNX:
        return make_library_folder(run, prepared, trained, artifact_uri(run))
    folder = workspace.export.with_name("export.tmp")
    recipe = load_recipe(run, prepared)
    for leftover in (folder, workspace.merged):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        reference = _merge(workspace, recipe)
        recipe.build(workspace.merged, folder, spec.export.precision)
    finally:
        shutil.rmtree(workspace.merged, ignore_errors=True)
    report = _measure(run, folder, recipe, reference, trained)
    write_json(folder / workspace.export_report.name, report)
    make_readable([folder])
    assert report.parity is not None
    require_parity(report.parity, spec.export.precision)
    replace_folder(folder, workspace.export)
    assert report.exported is not None
    scores = {"base": trained.base, "tuned": trained.tuned, "exported": report.exported}
    save(draw_evaluation(run.config.name, scores), workspace.plots / "evaluation.png")
    return report


def _merge(workspace: Workspace, recipe: Recipe) -> Any:
    """Save the merged fp32 model, and keep what it says."""
    return recipe.save_merged(merged(load_tuned(recipe.load_base(), workspace.adapter)), workspace.merged)


def _measure(run: Run, folder: Path, recipe: Recipe, reference: Any, trained: TrainReport) -> ExportReport:
    spec = run.config.spec
    model = recipe.open(folder)
    parity = recipe.compare(model, reference)
    log.info("compared with the torch model", **parity.model_dump())
    exported: Scores = recipe.score(model).scores
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
