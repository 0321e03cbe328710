"""Names, ports and files of clusters, and what the tools are built from."""

import pytest

from cluster import images, layout, teardown, tools
from cluster.errors import ClusterError


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))


def test_a_saved_cluster_is_found_again():
    """`load` gives back what `save` remembered."""
    saved = layout.Cluster("one", 17000, has_node=False)
    saved.save()
    assert layout.load("one") == saved
    assert list(layout.known()) == [saved]


def test_an_unknown_cluster_is_an_error_with_the_way_out():
    """The message has the command that starts it."""
    with pytest.raises(ClusterError, match="up --name nobody"):
        layout.require("nobody")


def test_clusters_get_ports_of_their_own():
    """Two clusters never share a block of ports, even while neither listens."""
    first = layout.free_port_base("one")
    layout.Cluster("one", first, has_node=False).save()
    assert abs(layout.free_port_base("two") - first) >= layout.PORTS_PER_CLUSTER


@pytest.mark.parametrize("tool", tools.TOOLS, ids=lambda tool: tool.name)
def test_every_tool_is_pinned(tool):
    """Each tool's package is a `tool` line of its go.mod, and go.sum is there."""
    module = tools.MODULES / tool.module
    assert tool.package in (module / "go.mod").read_text()
    assert (module / "go.sum").stat().st_size > 0


@pytest.mark.parametrize("part", images.PARTS)
def test_an_image_is_named_by_its_content(part, monkeypatch):
    """The reference stays while the inputs do, and another base image changes it."""
    before = images.reference(part)
    assert images.reference(part) == before
    monkeypatch.setattr(images.base_image, "SUITE", "another")
    assert images.reference(part) != before


RULES = [
    "-N CNI-ADMIN",
    "-N CNI-FORWARD",
    "-N CNI-ours",
    "-N CNI-theirs",
    "-N KUBE-FIREWALL",
    '-A POSTROUTING -s 10.244.0.4/32 -m comment --comment "name: \\"tunesmith\\" id: \\"1\\"" -j CNI-ours',
    '-A POSTROUTING -s 10.9.0.4/32 -m comment --comment "name: \\"other\\" id: \\"2\\"" -j CNI-theirs',
    "-A CNI-FORWARD -j CNI-ADMIN",
]


@pytest.mark.parametrize(
    ("chain", "ours"),
    [("CNI-ours", True), ("CNI-theirs", False), ("KUBE-FIREWALL", True), ("CNI-FORWARD", True), ("DOCKER", False)],
)
def test_only_our_chains_are_removed(chain, ours):
    """Chains of other CNI networks and of Docker are left alone."""
    assert teardown._is_ours(chain, RULES) is ours


def test_a_shared_chain_stays_while_another_network_uses_it():
    """CNI-FORWARD is kept when rules of other pods remain in it."""
    assert not teardown._is_ours("CNI-FORWARD", [*RULES, "-A CNI-FORWARD -s 10.9.0.4/32 -j ACCEPT"])


@pytest.mark.parametrize(("address", "ours"), [("10.244.3.4", True), ("10.9.0.4", False)])
def test_only_our_pods_forwarding_rules_are_removed(address, ours):
    """A forwarding rule is ours by its pod's address."""
    assert teardown._is_forwarding(f"-A CNI-FORWARD -s {address}/32 -j ACCEPT") is ours
