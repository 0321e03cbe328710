"""What is to be done about a ModelEndpoint. Pure: no I/O and no clock."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tunesmith_api import (
    ConditionType,
    FailureCategory,
    ModelEndpointSpec,
    Reason,
    UriError,
    parse_uri,
    unsupported_endpoint_fields,
)
from tunesmith_api.enums import PoolClass
from tunesmith_operator.conditions import Conditions
from tunesmith_operator.drift import drifted
from tunesmith_operator.hindrances import hindrance
from tunesmith_operator.kinds import DEPLOYMENT, Body
from tunesmith_operator.modelendpoint.manifests import (
    DIGEST_ANNOTATION,
    KIND,
    POOL_ANNOTATION,
    SOURCE_ANNOTATION,
    TEMPLATE_ANNOTATION,
    Facts,
    children,
    needs,
    selector_labels,
    server_name,
)
from tunesmith_operator.modelendpoint.source import Served, Waiting, find_model
from tunesmith_operator.plans import ChildName, Children, Plan, Trouble, child_name
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.pools import Demand, Landscape, Pool, choose
from tunesmith_operator.settings import Images

#: How often a missing claim or a pool without room is looked at again.
RECHECK_SECONDS = 15.0
#: How often the providers of a running server are asked while they are not known.
PROVIDERS_SECONDS = 5.0
#: Longest piece of a server's last words in a message.
WORDS_LIMIT = 500


@dataclass(frozen=True)
class Observed:
    """What is the case beside the ModelEndpoint itself.

    Attributes:
        children: its live children.
        pods: its pods.
        jobs: the FineTuneJobs of its namespace.
        landscape: pools and nodes.
        providers: execution providers that a ready server uses; None when none could be asked.
        missing_claim: name of the claim that the model lies on and that does not exist; else empty.
        trouble: what went wrong while the children were brought.
    """

    children: Children = field(default_factory=dict)
    pods: tuple[PodFacts, ...] = ()
    jobs: tuple[Body, ...] = ()
    landscape: Landscape = field(default_factory=Landscape)
    providers: tuple[str, ...] | None = None
    missing_claim: str = ""
    trouble: Trouble | None = None


def plan(body: Body, observed: Observed, now: datetime, images: Images) -> Plan:
    """What is to be done about a ModelEndpoint that the API server has as `body`."""
    if "deletionTimestamp" in body["metadata"]:
        return Plan()
    status = deepcopy(body.get("status", {}))
    conditions = Conditions.of(status, body["metadata"]["generation"], now)
    found = _examine(body, observed, images)
    if isinstance(found, Trouble):
        found.show(conditions)
        conditions.set(ConditionType.SERVING, status=_answers(observed), reason=found.reason, message=found.message)
        return Plan(_wire(body, status, conditions, observed), requeue_after=RECHECK_SECONDS)
    if isinstance(found, Waiting):
        conditions.progressing(Reason.WAITING_FOR_MODEL, found.message)
        conditions.set(
            ConditionType.SERVING,
            status=_answers(observed),
            reason=Reason.WAITING_FOR_MODEL,
            message=found.message,
        )
        return Plan(_wire(body, status, conditions, observed))
    wanted = children(found)
    superfluous = _superfluous(observed.children, wanted)
    servers = next(one for one in wanted if one["kind"] == DEPLOYMENT.name)
    rolled_out, message = _rollout(_deployment(body, observed), servers)
    _follow_rollout(observed, conditions, message, rolled_out=rolled_out)
    _note_version(found, observed, status, rolled_out=rolled_out)
    asks = observed.providers is None and conditions.is_true(ConditionType.READY) and found.spec.replicas.min > 0
    return Plan(
        _wire(body, status, conditions, observed),
        apply=wanted,
        delete=superfluous,
        requeue_after=PROVIDERS_SECONDS if asks else None,
    )


def _examine(body: Body, observed: Observed, images: Images) -> Facts | Trouble | Waiting:
    try:
        spec = ModelEndpointSpec.model_validate(body["spec"])
        problem = _problem(spec, observed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Trouble(Reason.INVALID_SPEC, f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except UriError as error:
        return Trouble(Reason.INVALID_SPEC, f"spec.source.uri: {error}")
    if problem is not None:
        return problem
    model = find_model(spec, observed.jobs)
    if isinstance(model, Waiting):
        return model
    return _place(body, spec, model, observed, images)


def _problem(spec: ModelEndpointSpec, observed: Observed) -> Trouble | None:
    if spec.source.uri is not None:
        parse_uri(spec.source.uri)
    unsupported = "; ".join(map(str, unsupported_endpoint_fields(spec)))
    missing = f"Claim {observed.missing_claim!r}, where the model lies, does not exist."
    found = (
        (Reason.NOT_SUPPORTED, unsupported),
        (Reason.INPUT_NOT_FOUND, missing if observed.missing_claim else ""),
    )
    return next((Trouble(reason, message) for reason, message in found if message), observed.trouble)


def _place(body: Body, spec: ModelEndpointSpec, model: Served, observed: Observed, images: Images) -> Facts | Trouble:
    size = _model_bytes(model, observed.jobs)
    wanted, name, landscape = spec.compute.device_class, spec.compute.pool, observed.landscape
    present = _present_pool(body, observed)
    if name is None and wanted is None:
        wanted = PoolClass.CPU  # servers leave accelerators alone unless they are told otherwise
    if present is not None and name in {None, present.name} and wanted in {None, present.spec.device_class}:
        pool: Pool | Trouble = present  # running servers do not move by themselves
    else:
        pool = choose(landscape, name, wanted, lambda one: Demand(needs(spec, size, one)))
    if isinstance(pool, Trouble):
        return pool
    live = _deployment(body, observed)
    return Facts(body, spec, model, size, pool, images, live["spec"].get("replicas") if live else None)


def _deployment(body: Body, observed: Observed) -> Body | None:
    return observed.children.get(ChildName("Deployment", server_name(body["metadata"]["name"])))


def _present_pool(body: Body, observed: Observed) -> Pool | None:
    live = _deployment(body, observed)
    name = live["metadata"].get("annotations", {}).get(POOL_ANNOTATION) if live else None
    return observed.landscape.named(name) if name else None


def _model_bytes(model: Served, jobs: tuple[Body, ...]) -> int:
    for job in jobs:
        if model.source == f"job://{job['metadata']['name']}":
            return int(job["status"]["artifact"]["sizeBytes"])
    return 0


def _superfluous(live: Children, wanted: tuple[Body, ...]) -> tuple[Body, ...]:
    """An autoscaler or a budget that the spec no longer asks for."""
    names = {child_name(one) for one in wanted}
    return tuple(one for name, one in live.items() if name not in names)


def _follow_rollout(observed: Observed, conditions: Conditions, message: str, *, rolled_out: bool) -> None:
    answers = _answers(observed)
    broken = _broken(observed.pods)
    if rolled_out:
        conditions.ready(message, Reason.AVAILABLE)
    elif broken:
        conditions.progressing(Reason.UNAVAILABLE, broken)
    else:
        waiting = next((hindrance(pod) for pod in observed.pods if pod.unschedulable), None)
        if waiting is not None:
            conditions.progressing(Reason.WAITING_FOR_CAPACITY, f"{waiting.message} {waiting.resolution}")
        else:
            conditions.progressing(Reason.ROLLING_OUT, message)
    conditions.set(
        ConditionType.SERVING,
        status=answers,
        reason=Reason.AVAILABLE if answers else Reason.UNAVAILABLE,
        message="At least one server answers." if answers else "No server answers.",
    )


def _rollout(live: Body | None, desired: Body) -> tuple[bool, str]:
    """Whether a Deployment is where its manifest wants it, by the rules of `kubectl rollout status`, and in words."""
    if live is None:
        return False, "The Deployment is being made."
    if _is_behind(live, desired):
        return False, "The Deployment is being changed."
    status, wanted = live.get("status", {}), live["spec"]["replicas"]
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    message = f"{available} of {wanted} servers answer, {updated} have the newest model."
    if wanted == 0:
        message = "spec.replicas.min is 0: no server runs, and none is woken; set min to 1 or more."
    current = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    return current and updated >= wanted and total <= updated and available >= wanted, message


def _is_behind(live: Body, desired: Body) -> bool:
    """Whether the Deployment still speaks of an earlier spec: what it reports then says nothing of the present one."""
    made_as = live["metadata"].get("annotations", {}).get(TEMPLATE_ANNOTATION)
    changed = made_as != desired["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    return changed or drifted(live["spec"], desired["spec"])


def _broken(pods: tuple[PodFacts, ...]) -> str:
    """Why the newest server that cannot start does not, and what helps."""
    for pod in sorted(pods, key=lambda one: one.created_at, reverse=True):
        found = hindrance(pod)
        if found is not None and found.category is not FailureCategory.UNSCHEDULABLE:
            return f"Pod {pod.name} does not start: {found.message} {found.resolution}"
        if pod.waiting_reason == "CrashLoopBackOff" or pod.exit_reason == "OOMKilled":
            return f"Pod {pod.name} does not start: {_crash(pod)}"
    return ""


def _crash(pod: PodFacts) -> str:
    if "OOMKilled" in {pod.exit_reason, pod.last_exit_reason}:
        return (
            f"its server {pod.overrun} "
            "Raise compute.resources.memory, or lower runtime.maxConcurrency or runtime.maxContext."
        )
    return f"{pod.waiting_reason}: {pod.waiting_message} {pod.last_exit_message[-WORDS_LIMIT:]}".strip()


def _answers(observed: Observed) -> bool:
    return any(map(_is_answering, observed.pods))


def _is_answering(pod: PodFacts) -> bool:
    return pod.ready and not pod.deleting


def _note_version(facts: Facts, observed: Observed, status: dict[str, Any], *, rolled_out: bool) -> None:
    """The stable version: the newest once every server has it; until then the one that answers."""
    live = _deployment(facts.body, observed)
    if not rolled_out and "stable" in status and _answers(observed):
        return
    annotations: Mapping[str, str] = live["spec"]["template"]["metadata"].get("annotations", {}) if live else {}
    source = annotations.get(SOURCE_ANNOTATION, facts.model.source)
    version: dict[str, Any] = {"source": source}
    digest = annotations.get(DIGEST_ANNOTATION, facts.model.digest)
    if digest and facts.model.digest:
        version["digest"] = digest
    status["stable"] = version


def _wire(body: Body, status: dict[str, Any], conditions: Conditions, observed: Observed) -> dict[str, Any]:
    metadata = body["metadata"]
    name = metadata["name"]
    labels = selector_labels(name)
    result = {
        **status,
        "observedGeneration": metadata["generation"],
        "phase": _phase(conditions),
        "conditions": conditions.wire(),
        "url": f"http://{name}.{metadata['namespace']}.svc/v1",
        "replicas": sum(not pod.deleting and not pod.ended for pod in observed.pods),
        "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
    }
    if "stable" in status:
        result["stable"] = {**status["stable"], "readyReplicas": sum(map(_is_answering, observed.pods))}
    if observed.providers is not None:
        result["activeProviders"] = list(observed.providers)
    elif not _answers(observed):
        result.pop("activeProviders", None)
    return result


def _phase(conditions: Conditions) -> str:
    serving = conditions.is_true(ConditionType.SERVING)
    if conditions.is_true(ConditionType.READY):
        return "Ready"
    if conditions.is_true(ConditionType.STALLED):
        return "Degraded" if serving else "Failed"
    reason = conditions.items.get(ConditionType.READY, {}).get("reason")
    if reason == Reason.WAITING_FOR_MODEL:
        return "Degraded" if serving else "Pending"
    return "Degraded" if reason == Reason.UNAVAILABLE else "Deploying"


__all__ = ["KIND", "Observed", "plan"]
