"""`tunesmith estimate`: what a job needs, by goal and by model, before anything is spent."""

from collections.abc import Iterator

from rich.table import Table

from tunesmith_api import CatalogModel, FineTuneJob, Resolution, load_catalog, resolve
from tunesmith_api.enums import ExportPrecision, Goal, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, LoraSpec, TechniqueSpec, TrainingSpec
from tunesmith_api.planner import (
    DEFAULT_SEQUENCE_LENGTH,
    estimate_export_memory,
    estimate_lora_memory,
    lora_parameters,
    widest_rank,
)
from tunesmith_cli.errors import CliError
from tunesmith_cli.machine import Machine
from tunesmith_cli.render import size

_PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "framework")


def estimate(job: FineTuneJob, machine: Machine) -> Iterator[Table | str]:
    """What to print: the job's own memory, the goals of technique Auto, and every model of the catalog.

    Raises:
        CliError: the size of the job's model is not known.
    """
    resolution = resolve(job.spec)
    if resolution.model is None:
        raise CliError(f"spec.model.uri: the size of {job.spec.model.uri} is known only once prepare has fetched it")
    here = f"this machine ({machine.cpus} CPUs, {size(machine.memory_bytes)})"
    yield f"{job.metadata.name}: {resolution.model.name} on {here}"
    yield _own_table(resolution, machine)
    yield _goal_table(job.spec, resolution.model)
    yield _model_table(resolution.spec, resolution.model, machine)


def _own_table(resolution: Resolution, machine: Machine) -> Table:
    table = Table("memory of the job", "", title_justify="left")
    assert resolution.memory is not None
    assert resolution.export_memory_bytes is not None
    for part in _PARTS:
        table.add_row(part, size(getattr(resolution.memory, part)))
    table.add_row("train stage", size(resolution.memory.total), style="bold")
    table.add_row("export stage", size(resolution.export_memory_bytes), style="bold")
    peak = max(resolution.memory.total, resolution.export_memory_bytes)
    table.add_row("fits this machine", _fits(peak, machine), style="bold")
    return table


def _goal_table(spec: FineTuneJobSpec, model: CatalogModel) -> Table:
    table = Table("technique Auto with goal", "rank", "trained weights", "share", "train stage")
    for goal in Goal:
        technique = TechniqueSpec(type=TechniqueType.AUTO, goal=goal)
        found = resolve(spec.model_copy(update={"technique": technique}))
        rank = (found.spec.technique.lora or LoraSpec()).rank
        trained = lora_parameters(model.architecture, rank)
        assert found.memory is not None
        share = f"{trained / model.architecture.parameters:.2%}"
        table.add_row(goal, str(rank), f"{trained:,}", share, size(found.memory.total))
    return table


def _model_table(spec: FineTuneJobSpec, own: CatalogModel, machine: Machine) -> Table:
    table = Table("model, same settings", "weights", "tokens", "train", "export", "fits")
    table.columns[0].no_wrap = True
    for model in load_catalog().values():
        if not (model.trainable and model.exportable):
            continue
        train, export, length = _needs(spec, model)
        cells = (f"{model.architecture.parameters / 1e9:.3g} B", str(length), size(train), size(export))
        style = "bold" if model.name == own.name else None
        table.add_row(model.name, *cells, "yes" if max(train, export) <= machine.memory_bytes else "no", style=style)
    return table


def _needs(spec: FineTuneJobSpec, model: CatalogModel) -> tuple[int, int, int]:
    """Bytes of training and of export, and the tokens of a row, where the job's model is another one."""
    training: TrainingSpec = spec.training
    length = min(training.max_sequence_length or DEFAULT_SEQUENCE_LENGTH, model.architecture.max_position_embeddings)
    asked = spec.technique.lora or LoraSpec()
    lora = asked.model_copy(update={"rank": min(asked.rank, widest_rank(model.architecture))})
    train = estimate_lora_memory(model.architecture, lora, batch_size=training.batch_size, sequence_length=length)
    quantized = spec.export.precision is not ExportPrecision.EXACT
    return train.total, estimate_export_memory(model.architecture, quantized=quantized), length


def _fits(needed: int, machine: Machine) -> str:
    return "yes" if needed <= machine.memory_bytes else f"no, {size(needed - machine.memory_bytes)} short"
