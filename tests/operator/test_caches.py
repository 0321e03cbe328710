"""The views over the informers."""

from collections.abc import Callable

from tunesmith_operator.caches import IndexedCaches
from tunesmith_operator.plans import Key
from tunesmith_operator.pods import PodFacts
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


def test_labels_alone_make_no_pod_ours() -> None:
    """Somebody else's pod that carries our labels is neither a worker nor a server."""
    mine = PodFacts("mine", "bot", "train", controller="Job/bot-train")
    theirs = [PodFacts("loose", "bot", "train"), PodFacts("other", "bot", "train", controller="Job/bot-prepare")]
    server = PodFacts("server", "bot", controller="ReplicaSet/bot-server-5d9c")
    alien = PodFacts("alien", "bot", controller="ReplicaSet/nginx-5d9c")
    job, endpoint = Key("FineTuneJob", "team", "bot"), Key("ModelEndpoint", "team", "bot")
    caches = IndexedCaches({"pods": {job: [mine, *theirs], endpoint: [server, alien]}}, node_access=False)
    assert caches.pods(job) == (mine,)
    assert caches.pods(endpoint) == (server,)
    assert caches.pods(Key("FineTuneJob", "team", "absent")) == ()
