"""The parts put together: informers, queue, workers, leader election, progress, resync."""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from tunesmith_operator.caches import Index, IndexedCaches
from tunesmith_operator.cluster import Cluster, connect
from tunesmith_operator.controller import Controller
from tunesmith_operator.endpoints import served
from tunesmith_operator.errors import ApiError
from tunesmith_operator.events import Recorder
from tunesmith_operator.handlers import build_registry, serve
from tunesmith_operator.kinds import COMPUTEPOOL, FINETUNEJOB, MODELENDPOINT
from tunesmith_operator.leader import LeaderElection
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.observing import Observer
from tunesmith_operator.plans import Key
from tunesmith_operator.progress import Poller
from tunesmith_operator.queue import WorkQueue, work
from tunesmith_operator.routing import Router
from tunesmith_operator.settings import Settings

logger = logging.getLogger(__name__)

CRD_POLL_SECONDS = 1.0


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


async def wait_for_types(cluster: Cluster, namespace: str | None) -> None:
    """Wait until the API server lists all our kinds: a chart installs them beside the operator."""
    while True:
        try:
            for kind in (FINETUNEJOB, MODELENDPOINT, COMPUTEPOOL):
                await cluster.raw(f"{kind.url(namespace)}?limit=1")
        except ApiError as error:
            logger.info("Waiting for CustomResourceDefinitions", extra={"error": str(error)})
            await asyncio.sleep(CRD_POLL_SECONDS)
        else:
            return


class Operator:
    """One replica."""

    def __init__(self, settings: Settings, cluster: Cluster, metrics: Metrics) -> None:
        self._settings = settings
        self._cluster = cluster
        self._metrics = metrics
        self._queue: WorkQueue[Key] = WorkQueue(metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._caches: IndexedCaches | None = None
        self._election: LeaderElection | None = None

    async def start(self, indices: dict[str, Index]) -> Router:
        """Start the tasks that work on what the indices hold."""
        settings, cluster = self._settings, self._cluster
        caches = self._caches = IndexedCaches(indices, node_access=settings.node_access)
        observer = Observer(cluster, caches, settings)
        recorder = Recorder(cluster, settings.pod_name)
        router = Router(self._queue, caches, observer, self._metrics)
        controller = Controller(
            cluster=cluster,
            caches=caches,
            observer=observer,
            recorder=recorder,
            metrics=self._metrics,
            clock=utc_now,
        )
        leading = self._start_election()
        poller = Poller(
            caches=caches,
            observer=observer,
            queue=self._queue,
            every_seconds=settings.poll_seconds,
            clock=utc_now,
        )
        self._spawn(recorder.run())
        self._spawn(_after(leading, poller.run()))
        self._spawn(_after(leading, self._resync(router)))
        for _ in range(settings.workers):
            self._spawn(_after(leading, work(self._queue, controller.reconcile)))
        return router

    async def stop(self) -> None:
        """Stop the tasks and give the Lease back."""
        self._queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._election is not None:
            try:
                await self._election.release()
            except ApiError as error:
                logger.warning("The lease could not be given back", extra={"error": str(error)})

    def refresh_metrics(self) -> None:
        """Count the jobs by phase."""
        if self._caches is None:
            return
        bodies = [self._caches.get(key) for key in self._caches.keys("FineTuneJob")]
        self._metrics.set_phases(Counter(str(body.get("status", {}).get("phase", "")) for body in bodies if body))

    def _start_election(self) -> asyncio.Event:
        settings = self._settings
        if not settings.pod_namespace:
            leading = asyncio.Event()
            leading.set()
            self._metrics.leader.set(1)
            return leading
        self._election = LeaderElection(
            cluster=self._cluster,
            namespace=settings.pod_namespace,
            identity=settings.pod_name,
            seconds=settings.lease_seconds,
            metrics=self._metrics,
            clock=utc_now,
        )
        self._spawn(self._elect(self._election))
        return self._election.leading

    async def _elect(self, election: LeaderElection) -> None:
        await election.run()
        raise SystemExit(1)

    async def _resync(self, router: Router) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            router.resync()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(coroutine))


async def _after(event: asyncio.Event, coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        await event.wait()
    except asyncio.CancelledError:
        coroutine.close()
        raise
    await coroutine


async def run(settings: Settings) -> None:
    """Run one replica until a signal."""
    metrics = Metrics(CollectorRegistry())
    cluster = await connect(metrics)
    ready = asyncio.Event()
    replica = Operator(settings, cluster, metrics)
    try:
        async with served(settings, metrics, ready, replica.refresh_metrics):
            await wait_for_types(cluster, next(iter(settings.watch_namespaces), None))
            await serve(build_registry(settings, replica.start, replica.stop), settings, ready)
    finally:
        await cluster.close()
