"""What a ComputePool says of its nodes: what they have, what is free, whether there are any."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tunesmith_api import ComputePoolStatus
from tunesmith_operator.caches import IndexedCaches
from tunesmith_operator.computepool.plan import REFRESH_SECONDS, Observed, plan, pod_request
from tunesmith_operator.plans import Key, Plan
from tunesmith_operator.pools import NodeFacts

Body = dict[str, Any]
NodeMaker = Callable[..., NodeFacts]
GPU = "nvidia.com/gpu"
GPU_POOL = {"class": "GPU", "device": {"resource": GPU}, "nodeSelector": {"pool": "gpu"}}


def _pool(status: Body | None = None, **spec: Any) -> Body:
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ComputePool",
        "metadata": {"name": "gpu", "generation": 3},
        "spec": spec,
        "status": status or {},
    }


def _holder(node: str, **requests: str) -> Body:
    return {"spec": {"nodeName": node, "containers": [{"resources": {"requests": requests}}]}}


def _condition(found: Plan, kind: str) -> Body:
    assert found.status is not None
    ComputePoolStatus.model_validate(found.status)
    return next((one for one in found.status["conditions"] if one["type"] == kind), {})


@pytest.fixture
def nodes(node: NodeMaker) -> tuple[NodeFacts, ...]:
    """Two GPU nodes of different sizes, one that is cordoned, one that is tainted, and a CPU node."""
    gpu = {"pool": "gpu"}
    return (
        node("small", labels=gpu, cpu="4", memory="16Gi", devices={GPU: "1"}),
        node("large", labels=gpu, cpu="7500m", memory="32Gi", devices={GPU: "4"}),
        node("cordoned", labels=gpu, devices={GPU: "8"}, schedulable=False),
        node("tainted", labels=gpu, devices={GPU: "8"}, taints=({"key": "k", "effect": "NoSchedule"},)),
        node("cpu", labels={"pool": "cpu"}),
    )


def test_amounts(nodes: tuple[NodeFacts, ...], now: datetime) -> None:
    """Capacity is the sum of the pool's schedulable nodes, free is what their pods have not requested."""
    pods = (
        _holder("small", cpu="500m", memory="1Gi"),
        _holder("large", cpu="1", memory="2Gi", **{GPU: "3"}),
        _holder("cpu", cpu="8"),
        _holder("cordoned", **{GPU: "8"}),
    )
    found = plan(_pool(**GPU_POOL), Observed(nodes, pods), now)
    assert found.status is not None
    assert found.status["nodes"] == 2
    assert found.status["capacity"] == {"cpu": "11500m", "memory": "49152Mi", "devices": 5}
    assert found.status["largestNode"] == {"cpu": "7500m", "memory": "32768Mi", "devices": 4}
    assert found.status["free"] == {"cpu": "10", "memory": "46080Mi", "devices": 2}
    assert found.status["observedGeneration"] == 3
    assert _condition(found, "Ready")["status"] == "True"
    assert found.requeue_after == REFRESH_SECONDS


def test_a_toleration_lets_a_node_in(nodes: tuple[NodeFacts, ...], now: datetime) -> None:
    """A tainted node counts once the pool tolerates its taint."""
    found = plan(_pool(**GPU_POOL, tolerations=[{"key": "k", "operator": "Exists"}]), Observed(nodes, ()), now)
    assert found.status is not None
    assert (found.status["nodes"], found.status["capacity"]["devices"]) == (3, 13)


def test_an_overbooked_node_is_full(nodes: tuple[NodeFacts, ...], now: datetime) -> None:
    """A node whose pods have more than it offers, as after a change of its size, takes nothing from the others."""
    found = plan(_pool(**GPU_POOL), Observed(nodes, (_holder("small", cpu="99", memory="1Ti"),)), now)
    assert found.status is not None
    assert found.status["free"] == {"cpu": "7500m", "memory": "32768Mi", "devices": 5}


def test_no_nodes(now: datetime, nodes: tuple[NodeFacts, ...]) -> None:
    """A pool without nodes is not Ready with reason NoNodes and nothing in it; it heals when one joins."""
    empty = plan(_pool(nodeSelector={"pool": "none"}), Observed(nodes, ()), now)
    assert empty.status is not None
    assert _condition(empty, "Reconciling")["reason"] == "NoNodes"
    assert (empty.status["nodes"], empty.status["capacity"]["cpu"]) == (0, "0")
    healed = plan(_pool(empty.status, nodeSelector={"pool": "cpu"}), Observed(nodes, ()), now)
    assert _condition(healed, "Ready")["status"] == "True"
    assert _condition(healed, "Reconciling") == {}


def test_without_rights(nodes: tuple[NodeFacts, ...], now: datetime) -> None:
    """Without pods nothing is said of free room, without nodes nothing of amounts; what was said before goes."""
    before = plan(_pool(**GPU_POOL), Observed(nodes, ()), now).status
    no_pods = plan(_pool(before, **GPU_POOL), Observed(nodes, None), now)
    assert no_pods.status is not None
    assert "free" not in no_pods.status
    assert no_pods.status["nodes"] == 2
    blind = plan(_pool(before, **GPU_POOL), Observed(None, None), now)
    assert blind.status is not None
    assert not {"nodes", "capacity", "largestNode", "free"} & set(blind.status)
    assert "may not read nodes" in _condition(blind, "Ready")["message"]
    assert blind.requeue_after is None


def test_a_spec_that_is_refused(now: datetime) -> None:
    """A spec that the types refuse stalls its own pool."""
    found = plan(_pool(**{"class": "GPU"}), Observed((), ()), now)
    assert _condition(found, "Stalled")["reason"] == "InvalidSpec"
    assert "device.resource" in _condition(found, "Stalled")["message"]


def test_a_refused_pool_does_not_stop_the_others() -> None:
    """The other pools are offered while one has a spec that the types refuse."""
    bodies = {name: {"metadata": {"name": name}, "spec": spec} for name, spec in (("bad", {"class": "GPU"}), ("b", {}))}
    pools = {Key("ComputePool", "", name): [body] for name, body in bodies.items()}
    landscape = IndexedCaches({"ComputePool": pools}, node_access=False).landscape()
    assert [pool.name for pool in landscape.pools] == ["b"]


def _with(cpu: str, **more: Any) -> Body:
    return {"resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("spec", "cores"),
    [
        ({"containers": [_with("1"), _with("500m"), {}]}, "1500m"),
        ({"containers": [_with("1")], "initContainers": [_with("3"), _with("2")]}, "3"),
        ({"containers": [_with("4")], "initContainers": [_with("3")]}, "4"),
        ({"containers": [_with("1")], "initContainers": [_with("2", restartPolicy="Always")]}, "3"),
        ({"containers": [_with("1")], "initContainers": [_with("4"), _with("1", restartPolicy="Always")]}, "4"),
        ({"containers": [_with("1")], "initContainers": [_with("1", restartPolicy="Always"), _with("4")]}, "5"),
        ({"containers": [_with("1")], "overhead": {"cpu": "250m"}}, "1250m"),
        ({}, "0"),
    ],
)
def test_what_a_pod_holds(spec: Body, cores: str) -> None:
    """A pod holds its containers and sidecars, or an init container with the sidecars before it if that is more."""
    assert str(pod_request(spec, None)).startswith(f"{cores} CPU")
