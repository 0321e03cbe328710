"""Leader election: one replica leads, another takes over, never two at a time. Time is virtual."""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from virtual_time import run_virtually

from tunesmith_operator.errors import AlreadyExistsError, ConflictError, UnavailableError
from tunesmith_operator.kinds import ObjectKind
from tunesmith_operator.leader import LeaderElection
from tunesmith_operator.metrics import Metrics

Body = dict[str, Any]
SECONDS = 15
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Leases:
    """An API server with one Lease, and replicas that it may not answer."""

    lease: Body | None = None
    version: int = 0
    silent: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)

    @property
    def holder(self) -> str:
        """Who holds the Lease."""
        return str(self.lease["spec"].get("holderIdentity", "")) if self.lease else ""

    def store(self, body: Body) -> Body:
        """Keep a new version."""
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"] = {**body["metadata"], "resourceVersion": str(self.version)}
        return copy.deepcopy(self.lease)


@dataclass
class Connection:
    """One replica's way to the API server."""

    leases: Leases
    name: str

    async def _reach(self) -> None:
        await asyncio.sleep(0.01)
        if self.name in self.leases.silent:
            await asyncio.Event().wait()
        if self.name in self.leases.refusing:
            raise UnavailableError("503", 503)

    async def get(self, kind: ObjectKind, namespace: str | None, name: str) -> Body | None:
        await self._reach()
        assert (kind.name, namespace, name) == ("Lease", "system", "tunesmith-operator")
        return copy.deepcopy(self.leases.lease)

    async def create(self, body: Body) -> Body:
        await self._reach()
        if self.leases.lease is not None:
            raise AlreadyExistsError("there", 409)
        return self.leases.store(body)

    async def replace(self, body: Body) -> Body:
        await self._reach()
        if body["metadata"]["resourceVersion"] != str(self.leases.version):
            raise ConflictError("changed", 409)
        return self.leases.store(body)


@dataclass
class Replica:
    """An elector that runs."""

    election: LeaderElection
    task: asyncio.Task[None]
    name: str

    @property
    def leads(self) -> bool:
        """Whether it reconciles now."""
        return self.election.leading.is_set() and not self.task.done()

    async def stop(self) -> None:
        """End it as a signal does: without another word, apart from `release`."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def _start(leases: Leases, name: str, *, skew_seconds: float = 0) -> Replica:
    loop = asyncio.get_running_loop()
    clock: Callable[[], datetime] = lambda: EPOCH + timedelta(seconds=loop.time() + skew_seconds)  # noqa: E731
    election = LeaderElection(
        cluster=Connection(leases, name),  # type: ignore[arg-type] - only what a Lease needs
        namespace="system",
        identity=name,
        seconds=SECONDS,
        metrics=Metrics(CollectorRegistry()),
        clock=clock,
    )
    return Replica(election, asyncio.create_task(election.run()), name)


async def _watch(seconds: float, *replicas: Replica) -> list[tuple[str, ...]]:
    """Who leads, each tenth of a second."""
    seen = []
    for _ in range(int(seconds * 10)):
        await asyncio.sleep(0.1)
        seen.append(tuple(one.name for one in replicas if one.leads))
    return seen


def test_one_of_two_leads() -> None:
    """Of two replicas that start together one leads, and stays the leader."""

    async def scenario() -> None:
        leases = Leases()
        seen = await _watch(120, *(_start(leases, name) for name in "ab"))
        assert len(set(seen)) == 1
        assert seen[0] == (leases.holder,)
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 1
        assert leases.lease["spec"]["acquireTime"] < leases.lease["spec"]["renewTime"]

    run_virtually(scenario())


def test_a_dead_leader_is_followed() -> None:
    """After a leader's death the standby leads, not before the Lease has run out and soon after."""

    async def scenario() -> None:
        leases = Leases()
        first = _start(leases, "a")
        await _watch(30, first)
        second = _start(leases, "b")
        await _watch(30, second)
        await first.stop()
        seen = await _watch(SECONDS * 2 / 3 - 1, second)
        assert set(seen) == {()}
        seen = await _watch(SECONDS, second)
        assert seen[-1] == ("b",)
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 2

    run_virtually(scenario())


def test_a_released_lease_is_taken_at_once() -> None:
    """A leader that ends cleanly lets the standby lead within two seconds."""

    async def scenario() -> None:
        leases = Leases()
        first, second = _start(leases, "a"), _start(leases, "b")
        await _watch(30, first, second)
        leader, standby = (first, second) if first.leads else (second, first)
        await leader.stop()
        await leader.election.release()
        assert leases.holder == ""
        assert (await _watch(2.5, standby))[-1] == (standby.name,)

    run_virtually(scenario())


def test_a_standby_releases_nothing() -> None:
    """A replica that does not lead leaves the Lease to its holder when it ends."""

    async def scenario() -> None:
        leases = Leases()
        first = _start(leases, "a")
        await _watch(1, first)
        second = _start(leases, "b")
        await _watch(5, second)
        await second.stop()
        await second.election.release()
        assert leases.holder == "a"

    run_virtually(scenario())


def test_a_restarted_leader_goes_on() -> None:
    """A replica that comes back under its name leads at once: nobody else can hold its Lease."""

    async def scenario() -> None:
        leases = Leases()
        first = _start(leases, "a")
        await _watch(1, first)
        await first.stop()
        assert (await _watch(0.2, again := _start(leases, "a")))[-1] == ("a",)
        assert again.leads

    run_virtually(scenario())


@pytest.mark.parametrize("trouble", ["silent", "refusing"])
@pytest.mark.parametrize("moment", [20.0, 22.5, 24.9, 25.0])
def test_never_two(trouble: str, moment: float) -> None:
    """A leader that the API server does not answer gives up before the standby leads, whenever that begins."""

    async def scenario() -> None:
        leases = Leases()
        first = _start(leases, "a")
        await _watch(1, first)
        second = _start(leases, "b")
        await _watch(moment, first, second)
        getattr(leases, trouble).add("a")
        seen = await _watch(3 * SECONDS, first, second)
        assert all(len(leaders) <= 1 for leaders in seen)
        assert (seen[0], seen[-1]) == (("a",), ("b",))
        assert first.task.done()

    run_virtually(scenario())


def test_a_short_outage_is_survived() -> None:
    """A leader that reaches the API server again in time stays the leader."""

    async def scenario() -> None:
        leases = Leases()
        first = _start(leases, "a")
        await _watch(20, first)
        leases.refusing.add("a")
        await _watch(4, first)
        leases.refusing.clear()
        assert set(await _watch(60, first)) == {("a",)}

    run_virtually(scenario())


@pytest.mark.parametrize("skew_seconds", [-600.0, 600.0])
def test_clocks_may_differ(skew_seconds: float) -> None:
    """A standby whose clock is minutes off takes no Lease that is renewed, and waits no longer for another."""

    async def scenario() -> None:
        leases = Leases()
        first = _start(leases, "a")
        await _watch(1, first)
        second = _start(leases, "b", skew_seconds=skew_seconds)
        assert set(await _watch(120, first, second)) == {("a",)}
        await first.stop()
        assert (await _watch(SECONDS + 3, second))[-1] == ("b",)

    run_virtually(scenario())


def test_a_lease_in_other_hands_is_lost() -> None:
    """A leader that sees its Lease in other hands ends at its next look, and touches it no more."""

    async def scenario() -> None:
        leases = Leases()
        first = _start(leases, "a")
        await _watch(20, first)
        assert leases.lease is not None
        stolen = {**leases.lease, "spec": {**leases.lease["spec"], "holderIdentity": "thief"}}
        leases.store(stolen)
        assert (await _watch(SECONDS / 3 + 1, first))[-1] == ()
        await first.election.release()
        assert leases.holder == "thief"

    run_virtually(scenario())
