"""The controller of every kind: read the caches, plan, bring the children, write the status where it differs."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from tunesmith_operator.caches import Caches
from tunesmith_operator.children import bring
from tunesmith_operator.cluster import Cluster
from tunesmith_operator.errors import (
    ConflictError,
    InvalidError,
    NameConflictError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from tunesmith_operator.events import Occurrence, Recorder
from tunesmith_operator.kinds import BY_NAME, CLAIM, CONFIGMAP, Body, kind_of
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.observing import Observer
from tunesmith_operator.plans import Children, Key, Plan, Trouble

logger = logging.getLogger(__name__)

#: Children that pods mount: made at the same time, and before the workloads, which must never mount another's.
_MOUNTED = frozenset({CLAIM.name, CONFIGMAP.name})

#: Plans an object, again with what went wrong while its children were brought.
Replan = Callable[[Trouble | None], Plan]


@dataclass(frozen=True)
class Written:
    """A status that we have written and may not have seen again yet."""

    uid: str
    resource_version: int
    body: Body


class Controller:
    """Reconciles one key at a time, whatever its kind."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        caches: Caches,
        observer: Observer,
        recorder: Recorder,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._caches = caches
        self._observer = observer
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._written: dict[Key, Written] = {}
        self._gone: set[str] = set()
        self._troubles: dict[Key, str] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Bring one object to what its spec says; the seconds after which it wants to be seen again."""
        begin = time.perf_counter()
        result = "error"
        try:
            requeue = await self._reconcile(key)
            result = "requeue" if requeue is not None else "done"
            self._troubles.pop(key, None)
        except Exception as error:
            self._tell_trouble(key, error)
            raise
        finally:
            self._metrics.reconcile.labels(key.kind, result).inc()
            self._metrics.reconcile_seconds.labels(key.kind).observe(time.perf_counter() - begin)
        return requeue

    def _tell_trouble(self, key: Key, error: Exception) -> None:
        """Say on the object itself, once for each kind of trouble, that it is not being reconciled."""
        trouble = f"{type(error).__name__}: {error}"
        body = self._caches.get(key)
        passing = isinstance(error, UnavailableError | ConflictError)
        if passing or body is None or self._troubles.get(key) == trouble:
            return
        self._troubles[key] = trouble
        message = f"The operator cannot reconcile this object and tries again: {trouble}"
        self._recorder.tell(body, Occurrence("ReconcileFailed", message, warning=True), self._clock())

    async def _reconcile(self, key: Key) -> float | None:
        body = self._present(key)
        if body is None:
            return None
        uid = body["metadata"]["uid"]
        now = self._clock()
        planner = await self._observer.planner(key, body, now)
        plan = planner(None)
        if plan.delete_self:
            await self._cluster.delete(kind_of(body), key.namespace or None, key.name, uid)
            return None
        plan = await self._bring(plan, planner, self._caches.children(key, uid), uid)
        if not await self._write_status(key, body, plan, now):
            return None
        for child in plan.delete:
            await self._delete(child)
        return plan.requeue_after

    def _present(self, key: Key) -> Body | None:
        """The object as the caches have it, or as we have left it if they lag behind."""
        body, written = self._caches.get(key), self._written.get(key)
        if body is None or body["metadata"]["uid"] in self._gone:
            self._written.pop(key, None)
            return None
        if written is None:
            return body
        if (
            written.uid == body["metadata"]["uid"]
            and int(body["metadata"]["resourceVersion"]) < written.resource_version
        ):
            return written.body
        del self._written[key]
        return body

    async def _bring(self, plan: Plan, replan: Replan, live: Children, uid: str) -> Plan:
        """Bring the children of a plan; the plan that says what went wrong, if something did."""
        try:
            await self._bring_together([child for child in plan.apply if child["kind"] in _MOUNTED], live, uid)
            for child in plan.apply:
                if child["kind"] not in _MOUNTED:
                    await bring(self._cluster, child, live, uid)
        except (NameConflictError, RefusedError, InvalidError) as error:
            return replace(replan(Trouble.of(error)), delete=())
        return plan

    async def _bring_together(self, children: list[Body], live: Children, uid: str) -> None:
        tasks = (bring(self._cluster, child, live, uid) for child in children)
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if error is not None:
                raise error

    async def _write_status(self, key: Key, body: Body, plan: Plan, now: datetime) -> bool:
        """Write a status that differs; whether the object still is there."""
        before = body.get("status", {})
        if plan.status is None or plan.status == before:
            return True
        metadata = {"name": key.name, "uid": body["metadata"]["uid"]}
        if key.namespace:
            metadata["namespace"] = key.namespace
        patch = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "status": plan.status}
        try:
            written = await self._cluster.apply(patch, "status")
        except (NotFoundError, ConflictError):
            # Deleted while we were at it; a watch that broke in between may never tell.
            self._gone.add(body["metadata"]["uid"])
            return False
        written["metadata"].pop("managedFields", None)
        version = int(written["metadata"]["resourceVersion"])
        self._written[key] = Written(body["metadata"]["uid"], version, written)
        self._recorder.record(written, before, plan.status, now)
        return True

    async def _delete(self, child: Body) -> None:
        metadata = child["metadata"]
        await self._cluster.delete(BY_NAME[child["kind"]], metadata["namespace"], metadata["name"], metadata["uid"])
