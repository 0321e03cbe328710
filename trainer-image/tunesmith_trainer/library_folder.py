"""Publishing in the libraries' own layouts: PEFT's for an adapter, transformers' for the merged weights."""

import shutil
from importlib.metadata import version
from pathlib import Path

from tunesmith_api import ExportReport, TrainReport, load_catalog
from tunesmith_api.enums import ExportFormat
from tunesmith_api.finetunejob import ArtifactStatus, FineTuneJobSpec
from tunesmith_trainer import log
from tunesmith_trainer.marian_tokenizer import FILES
from tunesmith_trainer.model_folder import folder_digest, folder_size
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipes import load_recipe
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tuned import load_tuned, merged
from tunesmith_trainer.workspace import make_readable, read_json, replace_folder, write_json

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", *FILES)
_LIBRARIES = ("torch", "transformers", "peft")


def make_library_folder(run: Run, prepared: Prepared, trained: TrainReport, uri: str) -> ExportReport:
    """Put the adapter or the merged weights, the tokenizer and a report into the export folder; nothing is converted.

    Merged weights are fp32: what the update adds to a weight is mostly less than bf16 would round away.
    """
    workspace, wanted = run.workspace, run.config.spec.export.format
    folder = workspace.export.with_name("export.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if wanted is ExportFormat.ADAPTER:
        _copy_adapter(run, folder)
    else:
        recipe = load_recipe(run, prepared)
        recipe.save_merged(merged(load_tuned(recipe.load_base(), workspace.adapter)), folder)
    for name in _TOKENIZER:
        if (prepared.model_path / name).is_file():
            shutil.copyfile(prepared.model_path / name, folder / name)
    report = _report(run, folder, trained, uri)
    write_json(folder / workspace.export_report.name, report)
    make_readable([folder])
    replace_folder(folder, workspace.export)
    log.info("exported", format=wanted, size_bytes=report.artifact.size_bytes)
    return report


def _copy_adapter(run: Run, folder: Path) -> None:
    adapter = run.workspace.adapter
    shutil.copyfile(adapter / _WEIGHTS, folder / _WEIGHTS)
    config = read_json(adapter / _CONFIG) or {}
    write_json(folder / _CONFIG, config | {"base_model_name_or_path": base_name(run.config.spec)})


def base_name(spec: FineTuneJobSpec) -> str:
    """The base model as PEFT names it: a hub's repository, else where it lies."""
    preset = load_catalog().get(spec.model.preset or "")
    uri = preset.uri if preset else spec.model.uri or ""
    return uri.removeprefix("hf://")


def _report(run: Run, folder: Path, trained: TrainReport, uri: str) -> ExportReport:
    spec = run.config.spec
    return ExportReport(
        job=run.config.name,
        model=spec.model.preset or spec.model.uri or "",
        format=spec.export.format,
        artifact=ArtifactStatus(uri=uri, digest=folder_digest(folder), size_bytes=folder_size(folder)),
        gates=trained.gates,
        versions={name: version(name) for name in _LIBRARIES},
    )
