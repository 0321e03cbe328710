"""Objects as the API server has them, and a control plane with the operator on it."""

import copy
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from operator_rig import Kubectl, Rig, rig_on

from tunesmith_api import ComputePoolSpec
from tunesmith_operator.pools import Landscape, NodeFacts, Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]


@pytest.fixture
def now() -> datetime:
    """The moment at which tests begin."""
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def images() -> Images:
    """Image names."""
    return Images("registry/trainer:1", "registry/server:1")


@pytest.fixture
def node() -> Callable[..., NodeFacts]:
    """Makes a node."""

    def make(name: str = "node", *, cpu: str = "8", memory: str = "32Gi", **options: Any) -> NodeFacts:
        allocatable = {"cpu": cpu, "memory": memory, **options.pop("devices", {})}
        facts = {"labels": {}, "taints": (), "schedulable": True, **options}
        return NodeFacts(name=name, allocatable=allocatable, **facts)

    return make


@pytest.fixture
def landscape(node: Callable[..., NodeFacts]) -> Landscape:
    """One CPU node and no pool."""
    return Landscape(nodes=(node(),))


@pytest.fixture
def pool() -> Callable[..., Pool]:
    """Makes a pool from its spec."""

    def make(name: str, **spec: Any) -> Pool:
        return Pool(name, ComputePoolSpec.model_validate(spec))

    return make


@pytest.fixture
def job() -> Callable[..., Body]:
    """Makes a FineTuneJob; keyword arguments go over the spec."""

    def make(name: str = "bot", *, status: Body | None = None, generation: int = 1, **spec: Any) -> Body:
        base = {
            "model": {"preset": "tiny-phi3"},
            "dataset": {"train": {"uri": "configmap://rows/train.jsonl"}},
        }
        return {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": f"uid-{name}",
                "generation": generation,
                "resourceVersion": "1",
            },
            "spec": {**base, **spec},
            "status": copy.deepcopy(status or {}),
        }

    return make


@pytest.fixture(scope="session")
def rig(apiserver: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One operator on a real API server, for the session."""
    with rig_on(apiserver, tmp_path_factory.mktemp("operator"), free_port()) as found:
        yield found


def free_port() -> int:
    """A loopback port that is free, as is the one after it."""
    with socket.socket() as probe, socket.socket() as following:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        following.bind(("127.0.0.1", port + 1))
    return port
