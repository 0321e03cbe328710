"""What is decided about a FineTuneJob before anything is spent: technique, pool, requests. Pure."""

from dataclasses import dataclass, replace
from typing import Any

from tunesmith_api import Architecture, FineTuneJobSpec, Stage
from tunesmith_api.enums import PoolClass, Strategy
from tunesmith_api.finetunejob import PlanStatus
from tunesmith_api.planner import (
    MARGIN,
    DataSize,
    Settled,
    Spending,
    estimate_spending,
    offload_reasons,
    settle,
    share_name,
)
from tunesmith_api.quantity import format_bytes
from tunesmith_api.resolve import planned
from tunesmith_api.tasks import answer_reasons
from tunesmith_operator.finetunejob.manifests import Facts
from tunesmith_operator.finetunejob.mounts import mounts_of
from tunesmith_operator.finetunejob.offers import offer_of, offers
from tunesmith_operator.finetunejob.sizing import Sizing, side_request, size_job, train_cpu, train_request
from tunesmith_operator.finetunejob.validation import architecture_of
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import Trouble
from tunesmith_operator.pools import IMPLICIT_POOL, Demand, Landscape, Pool, Resources, choose
from tunesmith_operator.settings import Images, Variables


def decide(
    body: Body, spec: FineTuneJobSpec, landscape: Landscape, images: Images, trainer_env: Variables = ()
) -> Facts | Trouble:
    """The technique, the pool and the requests of a job, or why there is no pool.

    What was planned once stays, whatever happens to the pools: without its pool a job's running stage is followed to
    its end, and `Facts.obstacle` says why no other starts. Only a model by URI is planned twice: in the dark, for
    prepare, and again with the numbers that prepare has read.
    """
    status = body.get("status", {})
    made, model = status.get("plan", {}), architecture_of(spec, status)
    anew = bool(made) and model is not None and "memoryBytes" not in made
    recorded = PlanStatus.model_validate(made) if made and not anew else None
    settled = settle(spec, model, offers(spec, landscape), recorded=recorded)
    job = resolve(spec, settled)
    wanted = _Wanted(job, model)
    if recorded is not None and recorded.pool is not None:
        found = _planned_pool(recorded.pool, landscape)
    else:
        found = _chosen_pool(wanted, settled, landscape)
    obstacle = found if isinstance(found, Trouble) else None
    if obstacle is not None and "pool" not in made:
        return obstacle
    pool = found if isinstance(found, Pool) else landscape.named(made["pool"]) or Pool(made["pool"])
    sizing = wanted.sizing(pool)
    cpu, threads = train_cpu(spec, landscape.largest(pool), landscape.count(pool))
    memory = train_request(spec, sizing, device=False).memory_bytes
    return Facts(
        body=body,
        spec=spec,
        job=job,
        model=model,
        technique_reasons=settled.reasons,
        technique=settled.name,
        pool=pool,
        sizing=sizing,
        train_memory_bytes=memory,
        train_cpu=cpu,
        threads=threads,
        mounts=mounts_of(spec),
        images=images,
        trainer_env=trainer_env,
        obstacle=obstacle,
        anew=anew,
    )


@dataclass(frozen=True)
class _Wanted:
    """A resolved job and its model's numbers, where they are known."""

    job: FineTuneJobSpec
    model: Architecture | None

    def sizing(self, pool: Pool) -> Sizing:
        """What the stages need on a pool."""
        return size_job(self.job, self.model, on_device=pool.spec.device_class.trains_on_device)

    def need(self, pool: Pool) -> Demand:
        """What the job asks of a pool."""
        sizing = self.sizing(pool)
        each = train_request(self.job, sizing, device=pool.device is not None)
        on_device = int((sizing.peak_bytes or 0) * MARGIN) if pool.spec.device_class.trains_on_device else 0
        return Demand(each, self.job.distribution.workers, side_request(sizing), on_device)


def _chosen_pool(wanted: _Wanted, settled: Settled, landscape: Landscape) -> Pool | Trouble:
    """The pool that Auto chose its technique for where its nodes have all that is needed, else the first that has."""
    job = wanted.job
    of_class = None if job.compute.device_class is None else PoolClass(job.compute.device_class)

    def choose_among(name: str | None) -> Pool | Trouble:
        return choose(landscape, name, of_class, wanted.need)

    if job.compute.pool is None and settled.pool is not None:
        found = choose_among(settled.pool)
        if isinstance(found, Pool):
            return found
    return choose_among(job.compute.pool)


def _planned_pool(name: str, landscape: Landscape) -> Pool | Trouble:
    """The pool of the plan, if it is still there."""
    if name == IMPLICIT_POOL and landscape.named(name) is None:
        return Pool(IMPLICIT_POOL)  # planned before somebody made the first pool
    return choose(replace(landscape, nodes=None), name, None, lambda _: Demand(Resources()))


def resolve(spec: FineTuneJobSpec, settled: Settled) -> FineTuneJobSpec:
    """The spec with each Auto of technique and distribution replaced, without what may change during the run."""
    resolved = planned(spec, settled)
    return resolved.model_copy(update={"suspend": False, "ttl_seconds_after_finished": None})


def plan_status(facts: Facts, landscape: Landscape) -> dict[str, Any]:
    """What status.plan says."""
    spent = spending_of(facts, landscape)
    return PlanStatus(
        technique=facts.technique,
        sharing=share_name(facts.job.distribution),
        pool=facts.pool.name,
        workers=facts.workers,
        memory_bytes=facts.sizing.peak_bytes,
        duration_seconds=None if spent.seconds is None else round(spent.seconds),
        cost=None if spent.cost is None else round(spent.cost, 4),
        reasons=[*_reasons(facts, landscape), *facts.sizing.reasons],
    ).wire()


def spending_of(facts: Facts, landscape: Landscape) -> Spending:
    """Time and cost of the training, as far as pool, model and data tell."""
    data = facts.body.get("status", {}).get("dataset", {})
    if facts.model is None:
        return Spending()
    size = DataSize(data.get("examples"), data.get("tokens"))
    return estimate_spending(facts.job, facts.model, offer_of(facts.pool, landscape), size)


def _reasons(facts: Facts, landscape: Landscape) -> list[str]:
    spec, pool = facts.spec, facts.pool
    found = list(facts.technique_reasons)
    if spec.distribution.strategy is Strategy.AUTO and not any(reason.startswith("Distribution ") for reason in found):
        over = "one process" if spec.distribution.processes == 1 else f"{spec.distribution.processes} processes"
        found.append(f"Distribution {share_name(facts.job.distribution)}: the usual one for {over}.")
    if spec.compute.pool is None and not any(reason.startswith("Pool ") for reason in found):
        found.append(
            f"Pool {pool.name} ({pool.spec.device_class}): the first that fits, CPU before devices, then by price."
        )
    found += answer_reasons(spec.task, facts.model.kind if facts.model is not None else None)
    if pool.spec.device_class is PoolClass.FPGA:
        found.append(
            f"Pool {pool.name} has FPGAs, on which PyTorch does not train: the training runs on its nodes' CPUs."
        )
    found += offload_reasons(facts.job.distribution, pool.name, pool.spec.device_class)
    needed = facts.sizing.memory_bytes[Stage.TRAIN]
    if facts.train_memory_bytes < needed:
        found.append(
            f"compute.resources.memory is {format_bytes(facts.train_memory_bytes)}, below the {format_bytes(needed)}"
            " that were planned: the training may be killed for its memory."
        )
    if landscape.nodes is None:
        found.append("Nodes cannot be read: that the pool has room was not checked.")
    return found
