"""How much a job's pods and its workspace need: the planner's estimates turned into requests. Pure arithmetic."""

from dataclasses import dataclass
from decimal import Decimal

from tunesmith_api import Architecture, FineTuneJobSpec
from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import LoraSpec
from tunesmith_api.jobconfig import Stage
from tunesmith_api.planner import (
    FRAMEWORK_BYTES,
    estimate_export_memory,
    estimate_lora_memory,
)
from tunesmith_api.quantity import parse_quantity
from tunesmith_api.resolve import sequence_length
from tunesmith_operator.pools import Resources

#: Head room above an estimate, and the least that a stage gets.
MARGIN = 1.2
LEAST_BYTES = 1536 * 2**20
#: Requests for a model of unknown size.
UNKNOWN_BYTES = 8 * 2**30
UNKNOWN_WORKSPACE_BYTES = 50 * 2**30
#: Room in the workspace beside weights: data, caches, reports.
WORKSPACE_SLACK_BYTES = 2 * 2**30
#: Bytes per weight in the workspace: fetched (4), merged (4) and exported with its scratch copy (8).
WORKSPACE_BYTES_PER_WEIGHT = 16
SIDE_STAGE_CPU = Decimal("0.25")
MOST_CPU = Decimal(8)


@dataclass(frozen=True)
class Sizing:
    """What the stages of a job need.

    Attributes:
        peak_bytes: planned peak memory of the training, on the device where the pool has one; None when unknown.
        workspace_bytes: size of the workspace claim.
        memory_bytes: host memory of each stage; request and limit.
        reasons: sentences for the plan.
    """

    peak_bytes: int | None
    workspace_bytes: int
    memory_bytes: dict[Stage, int]
    reasons: tuple[str, ...] = ()


def size_job(spec: FineTuneJobSpec, model: Architecture | None, *, on_device: bool) -> Sizing:
    """The needs of a job; `on_device` says that the training's tensors lie in a device's own memory."""
    if model is None:
        reason = (
            f"The model's size is not in the catalog: each stage asks for {UNKNOWN_BYTES // 2**30} GiB; "
            "set compute.resources.memory and workspace.size if that does not fit."
        )
        return Sizing(None, UNKNOWN_WORKSPACE_BYTES, dict.fromkeys(Stage, UNKNOWN_BYTES), (reason,))
    peak = estimate_lora_memory(
        model,
        spec.technique.lora or LoraSpec(),
        batch_size=spec.training.batch_size,
        sequence_length=sequence_length(spec, model),
    ).total
    loading = model.parameters * 4 + FRAMEWORK_BYTES
    quantized = spec.export.precision is not ExportPrecision.EXACT
    memory = {
        Stage.PREPARE: _with_margin(FRAMEWORK_BYTES),
        Stage.TRAIN: _with_margin(loading if on_device else peak),
        Stage.EXPORT: _with_margin(estimate_export_memory(model, quantized=quantized) + model.parameters * 8),
    }
    return Sizing(peak, model.parameters * WORKSPACE_BYTES_PER_WEIGHT + WORKSPACE_SLACK_BYTES, memory)


def _with_margin(count: float) -> int:
    return max(int(count * MARGIN), LEAST_BYTES)


def train_request(spec: FineTuneJobSpec, sizing: Sizing, *, device: bool) -> Resources:
    """What the training asks of one node: the planned amounts, unless compute.resources overrides them.

    CPU is not part of it: a training pod takes what the pool's nodes have, see `train_cpu`.
    """
    override = spec.compute.resources
    memory = sizing.memory_bytes[Stage.TRAIN]
    if override is not None and override.memory is not None:
        memory = int(parse_quantity(override.memory))
    cpu = parse_quantity(override.cpu) if override is not None and override.cpu is not None else SIDE_STAGE_CPU
    return Resources(cpu, memory, 1 if device else 0)


def train_cpu(spec: FineTuneJobSpec, largest: Resources | None) -> tuple[Decimal, int]:
    """CPU request of the training and its number of threads.

    Half of the largest node is requested, so that servers and the cluster's own pods still fit beside it, and the
    threads may use the whole node.
    """
    override = spec.compute.resources
    if override is not None and override.cpu is not None:
        cpu = parse_quantity(override.cpu)
        return cpu, threads_of(cpu)
    if largest is None or largest.cpu <= 0:
        return Decimal(1), 1
    cpu = max(SIDE_STAGE_CPU, min(MOST_CPU, Decimal(int(largest.cpu * 500)) / 1000))
    return cpu, threads_of(min(largest.cpu, 2 * cpu))


def threads_of(cpu: Decimal) -> int:
    """Threads for an amount of CPU."""
    return max(1, round(cpu))
