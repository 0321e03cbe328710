"""Live progress: a real HTTP server plays the training pods."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from tunesmith_operator import progress
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.plans import Key
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.progress import Poller
from tunesmith_operator.queue import WorkQueue
from tunesmith_operator.settings import load_settings

#: Pods that take a connection and never answer.
LOST = "127.0.0.2"
STEP = {"step": 3, "totalSteps": 9, "loss": 0.5, "updatedAt": "2026-01-01T00:00:00Z"}


@dataclass
class Jobs:
    """FineTuneJobs and their pods, as the caches show them."""

    pods_of: dict[str, tuple[PodFacts, ...]] = field(default_factory=dict)

    def get(self, key: Key) -> dict[str, Any] | None:
        return {"metadata": {"name": key.name, "uid": f"uid-{key.name}"}}

    def keys(self, kind: str) -> Iterator[Key]:
        assert kind == "FineTuneJob"
        return iter([Key(kind, "team", name) for name in self.pods_of])

    def pods(self, key: Key) -> tuple[PodFacts, ...]:
        return self.pods_of[key.name]


def _pod(ip: str = "127.0.0.1", **facts: Any) -> PodFacts:
    return PodFacts("pod", "bot", **{"stage": "train", "phase": "Running", "ip": ip, **facts})


@dataclass
class Rig:
    """A poller, and what it is told."""

    jobs: Jobs
    poller: Poller
    queue: WorkQueue[Key]
    observer: Any
    answer: Any = None
    paths: list[str] = field(default_factory=list)
    slow_seconds: float = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        await asyncio.sleep(self.slow_seconds)
        return web.Response(text=self.answer) if isinstance(self.answer, str) else web.json_response(self.answer)

    async def poll(self) -> None:
        """Ask every pod once."""
        timeout = aiohttp.ClientTimeout(total=progress.TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await self.poller.poll(session)

    @property
    def known(self) -> dict[str, Any]:
        """What the observer has."""
        found: dict[str, Any] = self.observer.progress
        return found


@asynccontextmanager
async def _rig(now: datetime, answer: Any, **pods: tuple[PodFacts, ...]) -> AsyncIterator[Rig]:
    jobs, observer = Jobs(pods), SimpleNamespace(progress={})
    queue: WorkQueue[Key] = WorkQueue(Metrics(CollectorRegistry()))
    rig = Rig(jobs, None, queue, observer, answer)  # type: ignore[arg-type] - it needs the port
    app = web.Application()
    app.router.add_get("/{path:.*}", rig.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rig.poller = Poller(
        caches=jobs,  # type: ignore[arg-type] - only jobs and pods are read
        observer=observer,  # type: ignore[arg-type] - only its progress is used
        queue=queue,
        every_seconds=600,
        clock=lambda: now,
        port=int(runner.addresses[0][1]),
    )
    try:
        yield rig
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _silence(port: int) -> AsyncIterator[None]:
    """Something that takes connections at LOST and says nothing."""
    over = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hold, LOST, port, backlog=500)
    try:
        yield
    finally:
        over.set()
        server.close()
        await server.wait_closed()


def test_progress_is_kept_and_the_job_is_queued(now: datetime) -> None:
    """What a training pod tells is kept for its job; the job is queued when it has moved on, else not."""

    async def scenario() -> None:
        async with _rig(now, STEP, bot=(_pod(),)) as rig:
            await rig.poll()
            assert rig.known == {"uid-bot": STEP}
            assert rig.paths == ["/progress"]
            key = await rig.queue.get()
            rig.queue.done(key)
            await rig.poll()
            assert (key.name, len(rig.queue)) == ("bot", 0)
            rig.answer = {**STEP, "step": 4}
            await rig.poll()
            assert (rig.known["uid-bot"]["step"], len(rig.queue)) == (4, 1)

    asyncio.run(scenario())


def test_a_time_is_always_there(now: datetime) -> None:
    """Progress without a time gets the time of the question, so that its age shows."""

    async def scenario() -> None:
        async with _rig(now, {"step": 1, "totalSteps": 2}, bot=(_pod(),)) as rig:
            await rig.poll()
            assert rig.known["uid-bot"]["updatedAt"] == "2026-01-02T03:04:05Z"

    asyncio.run(scenario())


def test_a_job_that_trains_no_more_is_forgotten(now: datetime) -> None:
    """What a job's pod said is dropped once the pod is gone: the report of the stage counts then."""

    async def scenario() -> None:
        async with _rig(now, STEP, bot=(_pod(),)) as rig:
            await rig.poll()
            rig.jobs.pods_of = {"bot": (_pod(phase="Succeeded"),)}
            await rig.poll()
            assert rig.known == {}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "facts", [{"stage": "prepare"}, {"phase": "Pending"}, {"ip": ""}, {"deleting": True}, {"index": 1}]
)
def test_only_running_trainings_are_asked(now: datetime, facts: dict[str, Any]) -> None:
    """A pod of another stage, one that does not run, or another worker than the first is not asked."""

    async def scenario() -> None:
        async with _rig(now, STEP, bot=(_pod(**facts),)) as rig:
            await rig.poll()
            assert (rig.paths, rig.known) == ([], {})

    asyncio.run(scenario())


def test_the_pod_that_stays_is_asked(now: datetime) -> None:
    """Of a pod that is being deleted and its successor the successor is asked, in whichever order they are known."""

    async def scenario() -> None:
        going, staying = _pod("127.0.0.9", deleting=True), _pod()
        for pods in ((going, staying), (staying, going)):
            async with _rig(now, STEP, bot=pods) as rig:
                assert [target.address for target in rig.poller.targets()] == ["127.0.0.1"]

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", ["no json", [], {"step": "three"}, {"step": -1, "unknown": 1}, {}])
def test_nonsense_is_no_progress(now: datetime, answer: Any) -> None:
    """An answer that is no progress leaves what was known before."""

    async def scenario() -> None:
        async with _rig(now, STEP, bot=(_pod(),)) as rig:
            await rig.poll()
            rig.answer = answer
            await rig.poll()
            assert rig.known == {"uid-bot": STEP}

    asyncio.run(scenario())


def test_lost_pods_do_not_hold_up_the_others(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside two hundred pods that never answer a slow one is asked in the same round, and has its time."""
    monkeypatch.setattr(progress, "TIMEOUT_SECONDS", 1)

    async def scenario() -> None:
        lost = {f"lost-{number}": (_pod(LOST),) for number in range(200)}
        async with _rig(now, STEP, **lost, bot=(_pod(),)) as rig, _silence(rig.poller._port):
            rig.slow_seconds = 0.4
            task = asyncio.create_task(rig.poller.run())
            try:
                async with asyncio.timeout(10):
                    key = await rig.queue.get()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert key.name == "bot"
            assert rig.known == {"uid-bot": STEP}

    asyncio.run(scenario())


def test_the_status_is_young_enough() -> None:
    """Five hundred lost pods do not make the progress of another older than 15 s at the default settings."""
    images = {"TUNESMITH_TRAINER_IMAGE": "t", "TUNESMITH_SERVER_IMAGE": "s"}
    waits = math.ceil(500 / progress.PARALLEL) + 1
    assert waits * progress.TIMEOUT_SECONDS + load_settings(images).poll_seconds <= 15
