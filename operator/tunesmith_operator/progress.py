"""Live progress: asks the pod of each running training how far it is."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import aiohttp
from pydantic import ValidationError

from tunesmith_api import Stage
from tunesmith_api.finetunejob import Progress
from tunesmith_api.jobconfig import PROGRESS_PORT
from tunesmith_operator.caches import Caches
from tunesmith_operator.conditions import timestamp
from tunesmith_operator.observing import Observer
from tunesmith_operator.plans import Key
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.queue import WorkQueue

logger = logging.getLogger(__name__)

#: Longest time for one answer: a pod that computes may be slow, but must not hold up the others.
TIMEOUT_SECONDS = 3
#: Unreachable pods wait out their time side by side, so that the others are asked in every round.
PARALLEL = 256


@dataclass(frozen=True)
class Target:
    """A training pod to ask."""

    key: Key
    uid: str
    address: str


def _is_training(pod: PodFacts) -> bool:
    """Whether it tells the progress: of several workers the first does."""
    is_first = pod.stage == Stage.TRAIN and pod.index == 0
    return is_first and pod.phase == "Running" and bool(pod.ip) and not pod.deleting


class Poller:
    """Asks every running training pod in turn and puts its job on the queue when it has moved on."""

    def __init__(
        self,
        *,
        caches: Caches,
        observer: Observer,
        queue: WorkQueue[Key],
        every_seconds: float,
        clock: Callable[[], datetime],
        port: int = PROGRESS_PORT,
    ) -> None:
        self._caches = caches
        self._observer = observer
        self._queue = queue
        self._every_seconds = every_seconds
        self._clock = clock
        self._port = port
        self._slots = asyncio.Semaphore(PARALLEL)

    def targets(self) -> list[Target]:
        """The training pods that run."""
        found = []
        for key in self._caches.keys("FineTuneJob"):
            body = self._caches.get(key)
            running = [pod for pod in self._caches.pods(key) if _is_training(pod)]
            if body is not None and running:
                newest = max(running, key=lambda pod: pod.created_at)
                found.append(Target(key, body["metadata"]["uid"], newest.ip))
        return found

    async def run(self) -> None:
        """Ask for ever."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        # The connector has no limit of its own: waiting for a connection would count as waiting for the answer.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                await self.poll(session)
                await asyncio.sleep(self._every_seconds)

    async def poll(self, session: aiohttp.ClientSession) -> None:
        """Ask every pod once; forget the jobs that train no more."""
        targets = self.targets()
        for uid in self._observer.progress.keys() - {target.uid for target in targets}:
            del self._observer.progress[uid]
        await asyncio.gather(*(self._ask(session, target) for target in targets))

    async def _ask(self, session: aiohttp.ClientSession, target: Target) -> None:
        host = f"[{target.address}]" if ":" in target.address else target.address
        try:
            async with (
                self._slots,
                session.get(f"http://{host}:{self._port}/progress", allow_redirects=False) as answer,
            ):
                answer.raise_for_status()
                found = Progress.model_validate(await answer.json()).wire()
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError, ValueError) as error:
            logger.debug("A pod did not tell its progress", extra={"job": target.key.name, "error": str(error)})
            return
        found.setdefault("updatedAt", timestamp(self._clock()))
        if found != self._observer.progress.get(target.uid):
            self._observer.progress[target.uid] = found
            self._queue.add(target.key)
