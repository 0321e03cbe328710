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
    before another one may take over. As in client-go, another one takes over when it has seen no renewal for the whole
    duration by its own clock, so that clocks which differ do no harm.
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
        #: The Lease in other hands, and since when it has been so, by this replica's clock.
        self._observed: tuple[Body, datetime] = ({}, clock())
        self.leading = asyncio.Event()

    async def run(self) -> None:
        """Hold or await the Lease; returns when it is lost, and the process should end then."""
        while True:
            began = self._clock()
            held = await self._try_in_time()
            if held:
                self._renewed = began
                self._become_leader()
            elif self.leading.is_set() and (self._is_usurped() or self._seconds_left() <= 0):
                logger.error("The lease is lost")
                return
            await asyncio.sleep(self._pause(held=held))

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
            self._observed = ({}, self._renewed)
            logger.info("This replica reconciles", extra={"identity": self._identity})
            self._metrics.leader.set(1)
            self.leading.set()

    def _pause(self, *, held: bool) -> float:
        if self.leading.is_set():
            return self._seconds / 3 if held else self._seconds / 15
        return min(2.0, self._seconds / 3)

    def _seconds_left(self) -> float:
        """Time until a leader without a renewal gives up."""
        return self._seconds * 2 / 3 - (self._clock() - self._renewed).total_seconds()

    def _is_usurped(self) -> bool:
        """Whether the Lease has been seen in other hands since this replica leads."""
        return bool(self._observed[0])

    async def _try_in_time(self) -> bool:
        """Try once, but never wait for an API server that hangs until another replica has taken over."""
        limit = self._seconds / 3
        if self.leading.is_set():
            limit = min(limit, self._seconds_left())
        try:
            async with asyncio.timeout(limit):
                return await self._try_once()
        except TimeoutError:
            logger.warning("The API server did not answer in time")
            return False

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
        now = self._clock()
        if spec != self._observed[0]:
            self._observed = (spec, now)
        return now > self._observed[1] + timedelta(seconds=spec.get("leaseDurationSeconds", self._seconds))

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
                "acquireTime": spec.get("acquireTime", now) if mine else now,
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (0 if mine else 1),
            },
        }
