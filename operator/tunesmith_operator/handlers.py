"""The informers and what their events set off: indices, and one line per event. The only module that imports kopf."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import kopf

from tunesmith_api import API_VERSION
from tunesmith_api.resource import OWNER_KIND_LABEL, OWNER_NAME_LABEL
from tunesmith_operator.caches import Index
from tunesmith_operator.kinds import (
    CHILDREN,
    COMPUTEPOOL,
    FINETUNEJOB,
    MODELENDPOINT,
    NODE,
    POD,
    Body,
    ObjectKind,
)
from tunesmith_operator.plans import Key
from tunesmith_operator.pods import pod_facts
from tunesmith_operator.pools import NodeFacts
from tunesmith_operator.routing import Router
from tunesmith_operator.settings import Settings

OWN_KINDS = (FINETUNEJOB, MODELENDPOINT, COMPUTEPOOL)
_ENDS = frozenset({"Complete", "Failed"})
#: Names of the indices that `IndexedCaches` reads.
INDICES = (*(kind.name for kind in OWN_KINDS), "children", "pods", "nodes")

Startup = Callable[[dict[str, Index]], Awaitable[Router]]
Cleanup = Callable[[], Awaitable[None]]


class NoDiffs(kopf.DiffBaseStorage):
    """Keeps kopf from copying every object for handlers of changes: there are none, only of events."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """An essence without content."""
        del body, extra_fields
        return {}

    def fetch(self, *, body: Any) -> Any:
        """Nothing was stored."""
        del body

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is stored."""


def selector(kind: ObjectKind) -> tuple[str, str, str]:
    """A kind as kopf's decorators take it."""
    group, _, version = kind.api_version.rpartition("/")
    return group, version, kind.plural


def plain(body: Any) -> Body:
    """Kopf's view of an object as a dictionary, without what nobody reads."""
    found = dict(body)
    found["metadata"] = {key: value for key, value in found["metadata"].items() if key != "managedFields"}
    return found


def owner_key(body: Any) -> Key | None:
    """The owner that an object's labels name."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    if OWNER_KIND_LABEL not in labels or OWNER_NAME_LABEL not in labels:
        return None
    return Key(labels[OWNER_KIND_LABEL], metadata.get("namespace", ""), labels[OWNER_NAME_LABEL])


def own_key(kind: ObjectKind, body: Any) -> Key:
    """The key of an object of ours."""
    return Key(kind.name, body["metadata"].get("namespace", ""), body["metadata"]["name"])


def is_over(body: Any) -> bool:
    """Whether a child is on its way out, or a Job has ended: what the owner should see at once."""
    conditions = body.get("status", {}).get("conditions", [])
    ended = any(one["type"] in _ENDS and one["status"] == "True" for one in conditions)
    return ended or "deletionTimestamp" in body["metadata"]


def build_registry(settings: Settings, startup: Startup, cleanup: Cleanup) -> kopf.OperatorRegistry:
    """Everything that kopf has to know.

    Args:
        settings: the operator's settings.
        startup: gets the indices, live, and returns what events are routed to.
        cleanup: stops what `startup` started.
    """
    registry = kopf.OperatorRegistry()
    _login(registry)
    _lifecycle(registry, settings, startup, cleanup)
    for kind in OWN_KINDS:
        _own(registry, kind)
    for kind in CHILDREN:
        _children(registry, kind)
    _pods(registry)
    if settings.node_access:
        _nodes(registry)
    return registry


def _login(registry: kopf.OperatorRegistry) -> None:
    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _lifecycle(registry: kopf.OperatorRegistry, settings: Settings, startup: Startup, cleanup: Cleanup) -> None:
    @kopf.on.startup(registry=registry)
    async def start(memo: Any, **kwargs: Any) -> None:
        names = INDICES if settings.node_access else tuple(name for name in INDICES if name != "nodes")
        memo.router = await startup({name: kwargs[name] for name in names})

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await cleanup()


def _own(registry: kopf.OperatorRegistry, kind: ObjectKind) -> None:
    @kopf.index(*selector(kind), id=kind.name, registry=registry)
    async def index(body: Any, **_: Any) -> dict[Key, Body]:
        return {own_key(kind, body): plain(body)}

    @kopf.on.event(*selector(kind), id=f"{kind.name}-changed", registry=registry)
    async def changed(body: Any, memo: Any, **_: Any) -> None:
        memo.router.own_changed(own_key(kind, body))


def _children(registry: kopf.OperatorRegistry, kind: ObjectKind) -> None:
    @kopf.index(*selector(kind), id="children", registry=registry)
    async def index(body: Any, **_: Any) -> dict[Key, Body]:
        key = owner_key(body)
        return {} if key is None else {key: plain(body)}

    @kopf.on.event(*selector(kind), id=f"{kind.name}-child-changed", registry=registry)
    async def changed(body: Any, type: str | None, memo: Any, **_: Any) -> None:  # noqa: A002 - kopf's name
        memo.router.child_changed(kind.name, owner_key(body), over=type == "DELETED" or is_over(body))


def _pods(registry: kopf.OperatorRegistry) -> None:
    @kopf.index(*selector(POD), id="pods", registry=registry)
    async def index(body: Any, **_: Any) -> dict[Any, Any]:
        return {owner_key(body): pod_facts(body)}

    @kopf.on.event(*selector(POD), id="pod-changed", registry=registry)
    async def changed(body: Any, type: str | None, memo: Any, **_: Any) -> None:  # noqa: A002 - kopf's name
        memo.router.pod_changed(owner_key(body), pod_facts(body), deleted=type == "DELETED")


def _nodes(registry: kopf.OperatorRegistry) -> None:
    @kopf.index(*selector(NODE), id="nodes", registry=registry)
    async def index(name: str, body: Any, **_: Any) -> dict[str, NodeFacts]:
        return {name: NodeFacts.of(body)}

    @kopf.on.event(*selector(NODE), id="node-changed", registry=registry)
    async def changed(memo: Any, **_: Any) -> None:
        memo.router.nodes_changed()


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf as a bundle of informers: it writes nothing, and sees only children of ours."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = NoDiffs()
    settings.watching.server_timeout = 300
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 1
    settings.queueing.exit_timeout = 0.5
    for kind in (*CHILDREN, POD):
        if kind.api_version != API_VERSION:
            settings.watching.label_selectors[selector(kind)] = OWNER_KIND_LABEL
    return settings


async def serve(registry: kopf.OperatorRegistry, settings: Settings, ready: Any) -> None:
    """Run kopf until a signal.

    Args:
        registry: of `build_registry`.
        settings: the operator's settings.
        ready: an event that is set once the startup is over.
    """
    await kopf.operator(
        registry=registry,
        settings=kopf_settings(),
        memo=kopf.Memo(),
        standalone=True,
        identity=cast("Any", settings.pod_name),  # else kopf asks for the user's name, and a container's UID has none
        clusterwide=settings.clusterwide,
        namespaces=settings.watch_namespaces,
        ready_flag=ready,
    )
