"""A keyed work queue with the contract of controller-runtime's.

A key is in the queue at most once; one worker at a time has it; added meanwhile, it runs once more; an error puts it
back after an exponential delay that grows per key; a delayed key that is added earlier runs earlier. New objects may be
put ahead of those that only follow up. Time is the event loop's, so that tests can run it on a virtual clock.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from tunesmith_operator.metrics import Metrics

K = TypeVar("K", bound=Hashable)
logger = logging.getLogger(__name__)

#: Delay after the first failure of a key, doubled with each further one up to the limit.
FIRST_BACKOFF_SECONDS = 0.05
LONGEST_BACKOFF_SECONDS = 60.0


class WorkQueue(Generic[K]):
    """Keys that wait for a worker."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._ahead: deque[K] = deque()
        self._waiting: deque[K] = deque()
        self._added_at: dict[K, float] = {}
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ahead) + len(self._waiting)

    def add(self, key: K, *, ahead: bool = False) -> None:
        """Let a worker have the key soon; `ahead` of all keys that were not added so."""
        self._cancel_timer(key)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._added_at:
            self._added_at[key] = asyncio.get_running_loop().time()
            (self._ahead if ahead else self._waiting).append(key)
            self._metrics.queue_depth.set(len(self))
            self._ready.set()

    def add_after(self, key: K, delay_seconds: float) -> None:
        """Let a worker have the key after a delay; an earlier appointment of the key stays."""
        if delay_seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if key in self._added_at or (timer is not None and timer.when() <= loop.time() + delay_seconds):
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(delay_seconds, self.add, key)

    async def get(self) -> K:
        """The next key; the caller must call `done` for it."""
        while not len(self):
            self._ready.clear()
            await self._ready.wait()
        key = (self._ahead or self._waiting).popleft()
        self._busy.add(key)
        self._metrics.queue_depth.set(len(self))
        self._metrics.queue_seconds.observe(asyncio.get_running_loop().time() - self._added_at.pop(key))
        return key

    def done(self, key: K) -> None:
        """The worker has finished with the key."""
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def retry(self, key: K) -> float:
        """Put a key back after its backoff; the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 30), LONGEST_BACKOFF_SECONDS)
        self._metrics.queue_retries.inc()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key went well: its next failure starts with the first backoff."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """Drop every appointment."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


async def work(queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]]) -> None:
    """One worker: reconcile keys for ever.

    Args:
        queue: where the keys come from.
        reconcile: does the work; returns the seconds after which the key wants to be seen again, or None.
    """
    while True:
        key = await queue.get()
        try:
            requeue_after = await reconcile(key)
        except Exception:
            delay = queue.retry(key)
            logger.exception("Reconciling failed; trying again", extra={"key": str(key), "delay_seconds": delay})
        else:
            queue.forget(key)
            if requeue_after is not None:
                queue.add_after(key, requeue_after)
        finally:
            queue.done(key)
