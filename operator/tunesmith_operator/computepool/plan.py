"""What is to be said about a ComputePool: its nodes, what they have, what is free. Pure: no I/O and no clock."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tunesmith_api import ComputePoolSpec, Reason
from tunesmith_api.quantity import format_bytes, parse_quantity
from tunesmith_operator.conditions import Conditions
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import Plan
from tunesmith_operator.pools import NodeFacts, Pool, Resources, format_cores, largest

#: How often the free amounts are worked out: pods of others are listed for it, not watched.
REFRESH_SECONDS = 30.0


@dataclass(frozen=True)
class Observed:
    """What is the case beside the ComputePool itself.

    Attributes:
        nodes: every node; None when the operator may not read nodes.
        pods: every pod of the cluster that holds resources; None when the operator may not list them.
    """

    nodes: tuple[NodeFacts, ...] | None = None
    pods: tuple[Body, ...] | None = None


def plan(body: Body, observed: Observed, now: datetime) -> Plan:
    """The status of a ComputePool that the API server has as `body`."""
    status = deepcopy(body.get("status", {}))
    generation = body["metadata"]["generation"]
    conditions = Conditions.of(status, generation, now)
    try:
        pool = Pool(body["metadata"]["name"], ComputePoolSpec.model_validate(body["spec"]))
    except ValidationError as error:
        conditions.stalled(Reason.INVALID_SPEC, str(error.errors(include_url=False)[0]["msg"]))
        return Plan({**status, "observedGeneration": generation, "conditions": conditions.wire()})
    for name in ("nodes", "capacity", "largestNode", "free"):
        status.pop(name, None)
    if observed.nodes is None:
        conditions.ready("The operator may not read nodes: the pool is trusted to have room.", Reason.AVAILABLE)
    else:
        _describe(pool, observed.nodes, observed.pods, status, conditions)
    status = {**status, "observedGeneration": generation, "conditions": conditions.wire()}
    return Plan(status, requeue_after=None if observed.nodes is None else REFRESH_SECONDS)


def _describe(
    pool: Pool,
    nodes: tuple[NodeFacts, ...],
    pods: tuple[Body, ...] | None,
    status: dict[str, Any],
    conditions: Conditions,
) -> None:
    members = tuple(node for node in nodes if pool.takes(node))
    total = sum((node.resources(pool.device) for node in members), Resources())
    status["nodes"] = len(members)
    status["capacity"] = _wire(total)
    status["largestNode"] = _wire(largest(members, pool.device))
    if pods is not None:
        status["free"] = _wire(_free(members, pods, pool.device))
    if members:
        conditions.ready(f"{len(members)} schedulable nodes: {total}.", Reason.AVAILABLE)
    else:
        message = "No schedulable node matches nodeSelector and tolerations; the pool fills when one joins."
        conditions.progressing(Reason.NO_NODES, message)


def _free(nodes: Iterable[NodeFacts], pods: Iterable[Body], device: str | None) -> Resources:
    """What the pods on some nodes have not requested; a node that is overbooked takes nothing from the others."""
    left = {node.name: node.resources(device) for node in nodes}
    for pod in pods:
        name = pod["spec"].get("nodeName")
        if name in left:
            left[name] -= pod_request(pod["spec"], device)
    return sum((_greatest(one, Resources()) for one in left.values()), Resources())


def pod_request(spec: Mapping[str, Any], device: str | None) -> Resources:
    """What the scheduler reserves for a pod: its containers together, or a larger init container, and the overhead.

    The rules are those of https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    running = sum((_request(one, device) for one in spec.get("containers", [])), Resources())
    starting, sidecars = Resources(), Resources()
    for one in spec.get("initContainers", []):
        if one.get("restartPolicy") == "Always":
            sidecars += _request(one, device)
        else:  # beside it run the sidecars that were started before it
            starting = _greatest(starting, sidecars + _request(one, device))
    return _greatest(running + sidecars, starting) + _amount(spec.get("overhead", {}), device)


def _request(container: Mapping[str, Any], device: str | None) -> Resources:
    return _amount(container.get("resources", {}).get("requests", {}), device)


def _amount(found: Mapping[str, str], device: str | None) -> Resources:
    return Resources(
        parse_quantity(found.get("cpu", "0")),
        int(parse_quantity(found.get("memory", "0"))),
        int(parse_quantity(found.get(device, "0"))) if device else 0,
    )


def _greatest(one: Resources, other: Resources) -> Resources:
    return Resources(
        max(one.cpu, other.cpu), max(one.memory_bytes, other.memory_bytes), max(one.devices, other.devices)
    )


def _wire(amount: Resources) -> dict[str, Any]:
    return {
        "cpu": format_cores(amount.cpu),
        "memory": format_bytes(amount.memory_bytes),
        "devices": amount.devices,
    }
