"""Pools: members, choice, diagnosis."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from tunesmith_api import Reason
from tunesmith_api.enums import PoolClass
from tunesmith_operator.plans import Trouble
from tunesmith_operator.pools import Demand, Landscape, NodeFacts, Pool, Resources, choose

GPU = "nvidia.com/gpu"
NodeMaker = Callable[..., NodeFacts]
PoolMaker = Callable[..., Pool]


def _need(pool: Pool) -> Demand:
    return Demand(Resources(Decimal(2), 2**30, 1 if pool.device else 0))


@pytest.fixture
def three(node: NodeMaker, pool: PoolMaker) -> Landscape:
    """A CPU, a GPU and an FPGA pool with one node each."""
    fpga = "amd.com/xilinx_u250"
    nodes = (
        node("c", labels={"pool": "cpu"}),
        node("g", labels={"pool": "gpu"}, devices={GPU: "4"}, taints=({"key": GPU, "effect": "NoSchedule"},)),
        node("f", labels={"pool": "fpga"}, devices={fpga: "1"}),
    )
    pools = (
        pool("cpu", nodeSelector={"pool": "cpu"}),
        pool(
            "gpu",
            **{"class": "GPU", "device": {"resource": GPU}, "nodeSelector": {"pool": "gpu"}},
            tolerations=[{"key": GPU, "operator": "Exists"}],
        ),
        pool("fpga", **{"class": "FPGA", "device": {"resource": fpga}, "nodeSelector": {"pool": "fpga"}}),
    )
    return Landscape(pools, nodes)


@pytest.mark.parametrize(
    ("name", "wanted", "chosen"),
    [
        (None, None, "cpu"),
        ("gpu", None, "gpu"),
        (None, PoolClass.GPU, "gpu"),
        (None, PoolClass.FPGA, "fpga"),
    ],
)
def test_choice(three: Landscape, name: str | None, wanted: PoolClass | None, chosen: str) -> None:
    """A pool is chosen by name, by class, or CPU first."""
    found = choose(three, name, wanted, _need)
    assert isinstance(found, Pool)
    assert found.name == chosen


def test_the_cheaper_pool_wins(node: NodeMaker, pool: PoolMaker) -> None:
    """Of two pools that fit, the one with the lower price is chosen; one without a price comes last."""
    pools = (pool("a"), pool("b", pricePerHour=2), pool("c", pricePerHour=1))
    found = choose(Landscape(pools, (node(),)), None, None, _need)
    assert isinstance(found, Pool)
    assert found.name == "c"


def test_unknown_pool_lists_the_others(three: Landscape) -> None:
    """A pool that does not exist is a diagnosis that names those that do."""
    found = choose(three, "tpu", None, _need)
    assert isinstance(found, Trouble)
    assert found.reason is Reason.POOL_NOT_FOUND
    assert all(name in found.message for name in ("'tpu'", "cpu (CPU)", "gpu (GPU)", "fpga (FPGA)"))


def test_a_pool_that_can_never_fit_is_diagnosed(three: Landscape) -> None:
    """The diagnosis names what was asked, what the largest node has, and which pools would fit."""

    def much(pool: Pool) -> Demand:
        return Demand(Resources(Decimal(2), 2**40 if pool.device else 2**30, 1 if pool.device else 0))

    found = choose(three, "gpu", None, much)
    assert isinstance(found, Trouble)
    assert found.reason is Reason.NO_POOL_FITS
    assert "2 CPU, 1048576Mi memory, 1 device" in found.message
    assert "8 CPU, 32768Mi memory, 4 devices" in found.message
    assert "these pools would fit: cpu" in found.message


def test_no_pool_means_every_node(landscape: Landscape) -> None:
    """Without any ComputePool there is one of every schedulable node."""
    found = choose(landscape, None, None, _need)
    assert isinstance(found, Pool)
    assert found.name == "default"


def test_without_node_access_pools_are_trusted(pool: PoolMaker) -> None:
    """An operator that may not read nodes takes the pool without checking its room."""
    found = choose(Landscape((pool("cpu"),), None), None, None, _need)
    assert isinstance(found, Pool)


@pytest.mark.parametrize(
    ("options", "member"),
    [
        ({"labels": {"pool": "a"}}, True),
        ({"labels": {"pool": "b"}}, False),
        ({"labels": {"pool": "a"}, "schedulable": False}, False),
        ({"labels": {"pool": "a"}, "taints": ({"key": "k", "value": "v", "effect": "NoSchedule"},)}, True),
        ({"labels": {"pool": "a"}, "taints": ({"key": "k", "value": "w", "effect": "NoSchedule"},)}, False),
        ({"labels": {"pool": "a"}, "taints": ({"key": "x", "effect": "PreferNoSchedule"},)}, True),
        ({"labels": {"pool": "a"}, "taints": ({"key": "x", "effect": "NoExecute"},)}, False),
    ],
)
def test_members(node: NodeMaker, pool: PoolMaker, options: dict[str, object], *, member: bool) -> None:
    """A node belongs to a pool by labels, readiness and tolerated taints."""
    one = pool("p", nodeSelector={"pool": "a"}, tolerations=[{"key": "k", "value": "v"}])
    assert one.takes(node(**options)) is member


def test_node_facts() -> None:
    """A node that is not Ready or is cordoned is not schedulable."""
    body = {
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "3900m", "memory": "1Gi"},
        },
    }
    facts = NodeFacts.of(body)
    assert facts.schedulable
    assert facts.resources(GPU) == Resources(Decimal("3.9"), 2**30, 0)
    assert not NodeFacts.of({**body, "spec": {"unschedulable": True}}).schedulable
    assert not NodeFacts.of({**body, "status": {}}).schedulable


@pytest.mark.parametrize(("pods", "fits"), [(1, True), (4, True), (5, False)])
def test_a_pool_holds_all_workers_or_none(node: NodeMaker, pool: PoolMaker, pods: int, *, fits: bool) -> None:
    """Workers may share nodes; a pool whose nodes cannot hold all of them is diagnosed with what it holds."""
    nodes = (node("a", devices={GPU: "3"}), node("b", devices={GPU: "1"}), node("c"))
    gpu = pool("gpu", **{"class": "GPU", "device": {"resource": GPU}})
    found = choose(Landscape((gpu,), nodes), "gpu", None, lambda one: replace(_need(one), pods=pods))
    assert isinstance(found, Pool) is fits
    if isinstance(found, Trouble):
        assert found.reason is Reason.NO_POOL_FITS
        assert "5 pods of 2 CPU, 1024Mi memory, 1 device each" in found.message
        assert "its 3 nodes hold 4 such pods" in found.message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cpu", "ask its nodes for 250m CPU, 65536Mi memory on one node, and the largest has 8 CPU, 32768Mi memory"),
        ("gpu", "ask nodes that take pods without a toleration for"),
    ],
)
def test_work_without_a_device_needs_room_too(three: Landscape, name: str, said: str) -> None:
    """A pool that holds the training, but whose job could never be exported, is refused before anything is spent."""
    found = choose(three, name, None, lambda one: replace(_need(one), side=Resources(Decimal("0.25"), 2**36)))
    assert isinstance(found, Trouble)
    assert found.reason is Reason.NO_POOL_FITS
    assert said in found.message
    assert "has room for the training" in found.message


def test_work_without_a_device_stays_off_tainted_nodes(node: NodeMaker, pool: PoolMaker) -> None:
    """Where every node is a device pool's own, prepare and export have nowhere to go, which is said."""
    taint = {"key": GPU, "effect": "NoSchedule"}
    gpu = pool("gpu", **{"class": "GPU", "device": {"resource": GPU}}, tolerations=[{"key": GPU, "operator": "Exists"}])
    only = Landscape((gpu,), (node("g", devices={GPU: "4"}, taints=(taint,)),))
    found = choose(only, "gpu", None, lambda one: replace(_need(one), side=Resources(Decimal("0.25"), 2**30)))
    assert isinstance(found, Trouble)
    assert "and there is none" in found.message
