"""The table of technique and pool: what each way to train needs, whether it fits, how long it takes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import Goal, PoolClass, Precision, TechniqueType
from tunesmith_api.finetunejob import DistributionSpec, FineTuneJobSpec, TechniqueSpec
from tunesmith_api.misfits import refusals
from tunesmith_api.planner.candidates import CANDIDATES, Candidate
from tunesmith_api.planner.evidence import Evidence, approach_of, evidence
from tunesmith_api.planner.job import estimate_job, export_bytes, workload_of
from tunesmith_api.planner.memory import MemoryEstimate
from tunesmith_api.planner.offers import PoolOffer
from tunesmith_api.planner.sharing import distributions_for
from tunesmith_api.planner.throughput import Spending, spending, training_tokens
from tunesmith_api.planner.trained import shapes_of, trained_parameters
from tunesmith_api.support import unsupported_job_fields

#: Room above an estimate that a pod asks for: data whose answers fill more of a row than was assumed needs it.
MARGIN = 1.2


@dataclass(frozen=True)
class DataSize:
    """What is known of the training rows: their number and tokens."""

    rows: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Row:
    """One technique on one pool, by one way to share the model.

    Attributes:
        name: the candidate's name, or the technique's that was asked for.
        technique: its spec.
        distribution: how the processes share the model; not Auto.
        quality: accuracy in PEFT's benchmark; None for a technique that was asked for.
        balanced: place in the order of goal Balanced.
        pool: where.
        memory: of one training process.
        host_bytes: what a worker's pod needs of the host.
        device_bytes: what a process needs of a device; 0 without.
        trained: weights that are trained.
        spending: time and cost.
        fits: whether the pool holds all workers at once; None where its size is not known.
        evidence: what the scenario matrix says of it for the job's goal and task.
        bf16_bytes: what a process needs in BF16, where precision Auto leaves it to the processor; else None.
    """

    name: str
    technique: TechniqueSpec
    distribution: DistributionSpec
    quality: float | None
    balanced: int
    pool: PoolOffer
    memory: MemoryEstimate
    host_bytes: int
    device_bytes: int
    trained: int
    spending: Spending
    fits: bool | None
    evidence: Evidence
    bf16_bytes: int | None = None


def candidates_for(spec: FineTuneJobSpec, model: Architecture | None) -> list[tuple[Candidate | None, TechniqueSpec]]:
    """The techniques of a job's table: the one that is asked for, or with Auto those that this release can run."""
    asked = spec.technique
    if asked.type is not TechniqueType.AUTO:
        return [(None, asked)]
    if asked.lora is not None:
        return [(None, TechniqueSpec(type=TechniqueType.LORA, lora=asked.lora))]
    goal = asked.goal or Goal.BALANCED
    every = [(one, one.technique(model)) for one in CANDIDATES if one.only in {None, goal}]
    return [(one, technique) for one, technique in every if _can_run(spec, technique, model)]


def _can_run(spec: FineTuneJobSpec, technique: TechniqueSpec, model: Architecture | None) -> bool:
    """Whether neither the release nor the job's other fields nor the model stand against a technique."""
    job = spec.model_copy(update={"technique": technique})
    if any(found.field.startswith("spec.technique") for found in unsupported_job_fields(job)):
        return False
    return not (refusals(job) if model is None else refusals(job, model.kind, shapes_of(model)))


def table(
    spec: FineTuneJobSpec, model: Architecture, pools: Sequence[PoolOffer], data: DataSize | None = None
) -> list[Row]:
    """Every technique of the job on every pool, where the strategy is Auto by every way to share the model."""
    goal = spec.technique.goal or Goal.BALANCED
    return [
        _row(candidate, job, model, pool, data or DataSize(), goal=goal)
        for candidate, technique in candidates_for(spec, model)
        for job in _shared(spec.model_copy(update={"technique": technique}), model)
        for pool in pools
    ]


def _shared(job: FineTuneJobSpec, model: Architecture) -> list[FineTuneJobSpec]:
    """The job by each way to share its model that its technique and its other fields allow; the first always is."""
    first, *others = [job.model_copy(update={"distribution": one}) for one in distributions_for(job.distribution)]
    return [first, *(one for one in others if not (unsupported_job_fields(one) or refusals(one, model.kind)))]


def _row(
    candidate: Candidate | None,
    job: FineTuneJobSpec,
    model: Architecture,
    pool: PoolOffer,
    data: DataSize,
    *,
    goal: Goal,
) -> Row:
    technique = job.technique
    on_device = pool.device_class.trains_on_device
    memory = estimate_job(job, model, device=on_device)
    host = memory.host if on_device else memory.total * job.distribution.processes_per_worker
    device = memory.total if on_device else 0
    exports = export_bytes(job, model) if pool.device_class is PoolClass.CPU else 0  # elsewhere it runs on CPU nodes
    return Row(
        name=candidate.name if candidate else str(technique.peft.method if technique.peft else technique.type),
        technique=technique,
        distribution=job.distribution,
        quality=candidate.quality if candidate else None,
        balanced=candidate.balanced if candidate else 0,
        pool=pool,
        memory=memory,
        host_bytes=host,
        device_bytes=device,
        trained=trained_parameters(model, technique),
        spending=estimate_spending(job, model, pool, data),
        fits=_fits(pool, job.distribution, host, device, exports),
        evidence=evidence(job, approach_of(job), goal),
        bf16_bytes=_bf16_bytes(job, model, on_device=on_device),
    )


def _bf16_bytes(job: FineTuneJobSpec, model: Architecture, *, on_device: bool) -> int | None:
    if job.training.precision is not Precision.AUTO:
        return None
    training = job.training.model_copy(update={"precision": Precision.BF16})
    return estimate_job(job.model_copy(update={"training": training}), model, device=on_device).total


def estimate_spending(job: FineTuneJobSpec, model: Architecture, pool: PoolOffer, data: DataSize) -> Spending:
    """Time and cost of a resolved job on a pool."""
    work, nodes = workload_of(job, model, autocast=False), pool.nodes_of(job.distribution.workers)
    return spending(
        model,
        job.technique,
        work,
        tokens=training_tokens(job, work, data.tokens, data.rows),
        teraflops=pool.teraflops,
        device_class=pool.device_class,
        price_per_hour=pool.price_per_hour,
        nodes=nodes,
        engines=job.distribution.processes if pool.device_class.trains_on_device else nodes,
    )


def _fits(pool: PoolOffer, distribution: DistributionSpec, host: int, device: int, exports: int) -> bool | None:
    """Whether a pool holds a worker's `host`, a process's `device` and the export's bytes, with room to spare."""
    checks = (
        _within(device, pool.device_bytes),
        _within(exports, pool.host_bytes),
        _within(host, pool.host_bytes),
        _holds_workers(pool, distribution, host),
    )
    if False in checks:
        return False
    return None if None in checks else True


def _within(needed: int, have: int | None) -> bool | None:
    if not needed:
        return True
    return None if have is None else needed * MARGIN <= have


def _holds_workers(pool: PoolOffer, distribution: DistributionSpec, host: int) -> bool | None:
    """Whether the nodes hold every worker at once, several on one node where it has room for them."""
    pairs = [(int(host * MARGIN), pool.host_bytes)]
    if pool.device_class is not PoolClass.CPU:  # a pod takes a device of every pool that has them, FPGAs too
        pairs.append((distribution.processes_per_worker, pool.devices))
    known = [have // needed for needed, have in pairs if have is not None]
    if pool.nodes is not None and known and min(known) * pool.nodes < distribution.workers:
        return False
    if len(known) == len(pairs) and min(known) * (pool.nodes or 1) >= distribution.workers:
        return True
    return None
