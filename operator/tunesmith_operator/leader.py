"""Leader election by a Lease: several replicas keep their caches warm, one reconciles."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tunesmith_operator.cluster import Cluster
from tunesmith_operator.errors import AlreadyExistsError, ApiError, ConflictError
from tunesmith_operator.kinds import LEASE, Body
from tunesmith_operator.metrics import Metrics

logger = logging.getLogger(__name__)

LEASE_NAME = "tunesmith-operator"


def _micro_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaderElection:
    """Holds the Lease, or waits for it.

    Whoever holds it renews it every third of its duration; when that fails for two thirds of it, the replica gives up
    before another one may take over.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        namespace: str,
        identity: str,
        seconds: int,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._seconds = seconds
        self._metrics = metrics
        self._clock = clock
        self._renewed = clock()
        self.leading = asyncio.Event()

    async def run(self) -> None:
        """Hold or await the Lease; returns when it is lost, and the process should end then."""
        while True:
            held = await self._try_once()
            now = self._clock()
            if held:
                self._renewed = now
                self._become_leader()
            elif self.leading.is_set() and now - self._renewed > timedelta(seconds=self._seconds * 2 / 3):
                logger.error("The lease is lost")
                return
            await asyncio.sleep(self._seconds / 3 if self.leading.is_set() else min(2.0, self._seconds / 3))

    async def release(self) -> None:
        """Give the Lease back, so that the next replica need not wait for its end."""
        if not self.leading.is_set():
            return
        lease = await self._cluster.get(LEASE, self._namespace, LEASE_NAME)
        if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"] = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
            await self._cluster.replace(lease)

    def _become_leader(self) -> None:
        if not self.leading.is_set():
            logger.info("This replica reconciles", extra={"identity": self._identity})
            self._metrics.leader.set(1)
            self.leading.set()

    async def _try_once(self) -> bool:
        try:
            lease = await self._cluster.get(LEASE, self._namespace, LEASE_NAME)
            if lease is None:
                await self._cluster.create(self._lease({}))
            elif self._may_take(lease):
                await self._cluster.replace({**lease, **self._lease(lease)})
            else:
                return False
        except (AlreadyExistsError, ConflictError):
            return False
        except ApiError as error:
            logger.warning("The lease could not be renewed", extra={"error": str(error)})
            return False
        return True

    def _may_take(self, lease: Body) -> bool:
        spec = lease.get("spec", {})
        if spec.get("holderIdentity") in {None, "", self._identity}:
            return True
        renewed = datetime.fromisoformat(spec["renewTime"])
        return self._clock() > renewed + timedelta(seconds=spec.get("leaseDurationSeconds", self._seconds))

    def _lease(self, before: Body) -> Body:
        spec = before.get("spec", {})
        mine = spec.get("holderIdentity") == self._identity
        now = _micro_time(self._clock())
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": before.get("metadata", {"name": LEASE_NAME, "namespace": self._namespace}),
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._seconds,
                "acquireTime": spec["acquireTime"] if mine else now,
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (0 if mine else 1),
            },
        }
