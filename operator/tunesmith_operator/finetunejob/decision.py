"""What is decided about a FineTuneJob before anything is spent: technique, pool, requests. Pure."""

from dataclasses import replace
from typing import Any

from tunesmith_api import Architecture, FineTuneJobSpec
from tunesmith_api.enums import PoolClass, Strategy
from tunesmith_api.finetunejob import PlanStatus
from tunesmith_api.resolve import planned
from tunesmith_operator.finetunejob.manifests import Facts
from tunesmith_operator.finetunejob.mounts import mounts_of
from tunesmith_operator.finetunejob.sizing import Sizing, size_job, train_cpu, train_request
from tunesmith_operator.finetunejob.validation import architecture_of, model_of
from tunesmith_operator.kinds import Body
from tunesmith_operator.pools import IMPLICIT_POOL, Diagnosis, Landscape, Pool, Resources, choose
from tunesmith_operator.settings import Images


def decide(body: Body, spec: FineTuneJobSpec, landscape: Landscape, images: Images) -> Facts | Diagnosis:
    """The pool and the requests of a job, or why there is no pool.

    A pool that was planned once stays, whatever happens to the others.
    """
    model = architecture_of(spec)
    planned_pool = body.get("status", {}).get("plan", {}).get("pool")
    if planned_pool is not None:
        pool = _planned_pool(planned_pool, landscape)
    else:
        wanted = None if spec.compute.device_class is None else PoolClass(spec.compute.device_class)
        pool = choose(landscape, spec.compute.pool, wanted, lambda one: _need(spec, model, one))
    if isinstance(pool, Diagnosis):
        return pool
    return _facts(body, spec, pool, landscape, images)


def _planned_pool(name: str, landscape: Landscape) -> Pool | Diagnosis:
    if name == IMPLICIT_POOL and landscape.named(name) is None:
        return Pool(IMPLICIT_POOL)  # planned before somebody made the first pool
    return choose(replace(landscape, nodes=None), name, None, lambda _: Resources())


def _sizing(spec: FineTuneJobSpec, model: Architecture | None, pool: Pool) -> Sizing:
    has_own_memory = pool.spec.device is not None and pool.spec.device.memory is not None
    return size_job(resolve(spec), model, on_device=has_own_memory or pool.spec.device_class is PoolClass.GPU)


def _need(spec: FineTuneJobSpec, model: Architecture | None, pool: Pool) -> Resources:
    return train_request(spec, _sizing(spec, model, pool), device=pool.device is not None)


def _facts(body: Body, spec: FineTuneJobSpec, pool: Pool, landscape: Landscape, images: Images) -> Facts:
    sizing = _sizing(spec, architecture_of(spec), pool)
    cpu, threads = train_cpu(spec, landscape.largest(pool))
    memory = train_request(spec, sizing, device=False).memory_bytes
    return Facts(body, spec, pool, sizing, memory, cpu, threads, mounts_of(spec), images)


def resolve(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """The spec with each Auto of technique and distribution replaced, without what may change during the run."""
    resolved, _ = planned(spec, model_of(spec))
    return resolved.model_copy(update={"suspend": False, "ttl_seconds_after_finished": None})


def plan_status(facts: Facts, landscape: Landscape) -> dict[str, Any]:
    """What status.plan says."""
    return PlanStatus(
        technique=resolve(facts.spec).technique.type,
        pool=facts.pool.name,
        workers=1,
        memory_bytes=facts.sizing.peak_bytes,
        reasons=[*_reasons(facts, landscape), *facts.sizing.reasons],
    ).wire()


def _reasons(facts: Facts, landscape: Landscape) -> list[str]:
    spec, pool = facts.spec, facts.pool
    found = [planned(spec, model_of(spec))[1]]
    if spec.distribution.strategy is Strategy.AUTO:
        found.append("Distribution Auto: None, as one worker trains.")
    if spec.compute.pool is None:
        found.append(
            f"Pool {pool.name} ({pool.spec.device_class}): the first that fits, CPU before devices, then by price."
        )
    if landscape.nodes is None:
        found.append("Nodes cannot be read: that the pool has room was not checked.")
    return found
