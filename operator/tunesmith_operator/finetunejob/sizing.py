"""How much a job's pods and its workspace need: the planner's estimates turned into requests. Pure arithmetic."""

from dataclasses import dataclass
from decimal import Decimal
from math import ceil

from tunesmith_api import Architecture, FineTuneJobSpec
from tunesmith_api.jobconfig import Stage
from tunesmith_api.planner import FRAMEWORK_BYTES, MARGIN, estimate_job, export_bytes
from tunesmith_api.quantity import parse_quantity
from tunesmith_operator.pools import Resources

#: The least that a stage gets.
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
            "The model's size is known once prepare has read it: until then each stage asks for"
            f" {UNKNOWN_BYTES // 2**30} GiB; set compute.resources.memory and workspace.size if that does not fit."
        )
        return Sizing(None, UNKNOWN_WORKSPACE_BYTES, dict.fromkeys(Stage, UNKNOWN_BYTES), (reason,))
    processes = spec.distribution.processes_per_worker
    estimate = estimate_job(spec, model, device=on_device)
    host = estimate.host if on_device else estimate.total * processes
    memory = {
        Stage.PREPARE: _with_margin(FRAMEWORK_BYTES),
        Stage.TRAIN: _with_margin(host),
        Stage.EXPORT: _with_margin(export_bytes(spec, model)),
    }
    peak = estimate.total if on_device else estimate.total * processes
    claimed = model.parameters * WORKSPACE_BYTES_PER_WEIGHT + WORKSPACE_SLACK_BYTES
    if spec.model.preset is None:
        claimed = UNKNOWN_WORKSPACE_BYTES  # it was made before the size was known, and a claim does not shrink
    return Sizing(peak, claimed, memory)


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
    return Resources(cpu, memory, spec.distribution.processes_per_worker if device else 0)


def side_request(sizing: Sizing) -> Resources:
    """What the larger of the stages without a device asks of one node."""
    return Resources(SIDE_STAGE_CPU, max(sizing.memory_bytes[Stage.PREPARE], sizing.memory_bytes[Stage.EXPORT]))


def train_cpu(spec: FineTuneJobSpec, largest: Resources | None, nodes: int = 1) -> tuple[Decimal, int]:
    """CPU request of a training pod and the threads of each of its processes.

    Half of the largest node is requested, so that servers and the cluster's own pods still fit beside it, and the
    threads may use the whole node. Workers that outnumber the pool's `nodes` share both.
    """
    override, processes = spec.compute.resources, spec.distribution.processes_per_worker
    if override is not None and override.cpu is not None:
        cpu = parse_quantity(override.cpu)
        return cpu, threads_of(cpu / processes)
    if largest is None or largest.cpu <= 0:
        return Decimal(1), 1
    whole = largest.cpu / ceil(spec.distribution.workers / max(nodes, 1))
    cpu = max(SIDE_STAGE_CPU, min(MOST_CPU, Decimal(int(whole * 500)) / 1000))
    return cpu, threads_of(min(whole, 2 * cpu) / processes)


def threads_of(cpu: Decimal) -> int:
    """Threads for an amount of CPU."""
    return max(1, round(cpu))
