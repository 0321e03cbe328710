"""The views over the informers."""

from collections.abc import Callable

from tunesmith_operator.caches import IndexedCaches
from tunesmith_operator.plans import Key
from tunesmith_operator.pools import NodeFacts, Pool


def _pool(name: str, **selector: str) -> dict[Key, list[object]]:
    return {Key("ComputePool", "", name): [{"metadata": {"name": name}, "spec": {"nodeSelector": selector}}]}


def test_the_landscape_follows_nodes_and_pools(node: Callable[..., NodeFacts]) -> None:
    """The landscape is made once for the same nodes and pools, and anew when one of them comes, changes or goes."""
    nodes = {"a": [node("a", cpu="4")]}
    pools: dict[Key, list[object]] = {}
    caches = IndexedCaches({"nodes": nodes, "ComputePool": pools}, node_access=True)
    first = caches.landscape()
    assert caches.landscape() is first
    everything = Pool("default")
    assert [size.cpu for size in first.sizes(everything)] == [4]
    nodes["b"] = [node("b", cpu="16", labels={"zone": "north"})]
    assert [size.cpu for size in caches.landscape().sizes(everything)] == [16, 4]
    nodes["a"] = [node("a", cpu="4", schedulable=False)]
    assert [size.cpu for size in caches.landscape().sizes(everything)] == [16]
    pools.update(_pool("south", zone="south"))
    assert caches.landscape().sizes(caches.landscape().pools[0]) == {}
    pools.update(_pool("south", zone="north"))
    assert len(caches.landscape().sizes(caches.landscape().pools[0])) == 1
    pools.clear()
    assert caches.landscape().pools == ()
