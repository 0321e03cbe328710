"""What the operator knows without asking: read-only views over the informers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from tunesmith_api import ComputePoolSpec
from tunesmith_operator.finetunejob.manifests import stage_name
from tunesmith_operator.kinds import FINETUNEJOB, JOB, Body
from tunesmith_operator.modelendpoint.manifests import server_name
from tunesmith_operator.plans import Children, Key, child_name, controlled_by
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.pools import Landscape, NodeFacts, Pool

#: One informer: key to the objects under it, as kopf's indices are.
Index = Mapping[Any, Iterable[Any]]


class Caches(Protocol):
    """The operator's knowledge of the cluster; it may be a moment old."""

    def get(self, key: Key) -> Body | None:
        """An object of ours."""

    def keys(self, kind: str) -> Iterator[Key]:
        """Every object of ours of a kind."""

    def children(self, key: Key, uid: str) -> Children:
        """The children that an owner of this uid controls."""

    def pods(self, key: Key) -> tuple[PodFacts, ...]:
        """The pods of an owner."""

    def landscape(self) -> Landscape:
        """All pools and nodes."""


def _pool(body: Body) -> Pool | None:
    """A pool; None when its spec is refused, which its own status says: the other pools work on."""
    try:
        return Pool(body["metadata"]["name"], ComputePoolSpec.model_validate(body["spec"]))
    except ValidationError:
        return None


def _controls(key: Key, pod: PodFacts) -> bool:
    if key.kind == FINETUNEJOB.name:
        return pod.controller == f"{JOB.name}/{stage_name(key.name, pod.stage)}"
    return pod.controller.startswith(f"ReplicaSet/{server_name(key.name)}-")


class IndexedCaches:
    """Caches over indices, by their names: FineTuneJob, ModelEndpoint, ComputePool, children, pods, nodes."""

    def __init__(self, indices: Mapping[str, Index], *, node_access: bool) -> None:
        self._indices = indices
        self._node_access = node_access
        self._landscape = Landscape()
        self._landscape_of: tuple[list[Body], tuple[NodeFacts, ...] | None] | None = None

    def get(self, key: Key) -> Body | None:
        """An object of ours."""
        return next(iter(self._indices[key.kind].get(key, ())), None)

    def keys(self, kind: str) -> Iterator[Key]:
        """Every object of ours of a kind."""
        return iter(list(self._indices[kind]))

    def children(self, key: Key, uid: str) -> Children:
        """The children that an owner of this uid controls."""
        found = self._indices["children"].get(key, ())
        return {child_name(body): body for body in found if controlled_by(body, uid)}

    def pods(self, key: Key) -> tuple[PodFacts, ...]:
        """The pods of an owner's Jobs or servers: labels alone, which anybody can set, make none its own."""
        return tuple(pod for pod in self._indices["pods"].get(key, ()) if _controls(key, pod))

    def landscape(self) -> Landscape:
        """All pools and nodes."""
        bodies = [body for key in self.keys("ComputePool") if (body := self.get(key)) is not None]
        nodes: tuple[NodeFacts, ...] | None = None
        if self._node_access:
            nodes = tuple(node for found in self._indices["nodes"].values() for node in found)
        if self._landscape_of != (bodies, nodes):  # mostly the same objects, which are not compared again
            pools = [pool for body in bodies if (pool := _pool(body)) is not None]
            self._landscape = Landscape(tuple(sorted(pools, key=lambda pool: pool.name)), nodes)
            self._landscape_of = bodies, nodes
        return self._landscape
