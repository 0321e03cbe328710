"""The work queue keeps controller-runtime's contract; time is virtual."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from virtual_time import run_virtually

from tunesmith_operator.metrics import Metrics
from tunesmith_operator.queue import LONGEST_BACKOFF_SECONDS, WorkQueue, work


def _new_queue() -> WorkQueue[str]:
    return WorkQueue(Metrics(CollectorRegistry()))


async def _take(queue: WorkQueue[str]) -> tuple[str, float]:
    key = await queue.get()
    return key, asyncio.get_running_loop().time()


def test_a_key_is_queued_once() -> None:
    """A key that is added again while it waits is handed out once."""

    async def scenario() -> None:
        queue = _new_queue()
        for key in ("a", "b", "a"):
            queue.add(key)
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert len(queue) == 0

    run_virtually(scenario())


def test_a_busy_key_runs_once_more() -> None:
    """A key that is added while a worker has it is handed out once more, and only after the worker is done."""

    async def scenario() -> None:
        queue = _new_queue()
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert len(queue) == 1

    run_virtually(scenario())


def test_keys_ahead_come_first() -> None:
    """A key that is added ahead is handed out before the others, each group in its own order, none twice."""

    async def scenario() -> None:
        queue = _new_queue()
        for key in ("a", "b"):
            queue.add(key)
        for key in ("c", "d", "c", "a"):
            queue.add(key, ahead=True)
        assert len(queue) == 4
        assert [await queue.get() for _ in range(4)] == ["c", "d", "a", "b"]
        assert len(queue) == 0

    run_virtually(scenario())


def test_a_delayed_key_comes_in_time() -> None:
    """A delayed key is handed out at its time; the earliest of several appointments counts."""

    async def scenario() -> None:
        queue = _new_queue()
        queue.add_after("a", 10)
        queue.add_after("a", 4)
        queue.add_after("a", 7)
        assert await _take(queue) == ("a", 4)
        queue.done("a")
        queue.add_after("b", 1)
        assert await _take(queue) == ("b", 5)
        assert len(queue) == 0

    run_virtually(scenario())


def test_adding_cancels_the_appointment() -> None:
    """A key that is added at once has no second appointment left."""

    async def scenario() -> None:
        queue = _new_queue()
        queue.add_after("a", 10)
        queue.add("a")
        assert await _take(queue) == ("a", 0)
        queue.done("a")
        queue.add_after("b", 20)
        assert await _take(queue) == ("b", 20)

    run_virtually(scenario())


def test_backoff_doubles_per_key_and_is_forgotten() -> None:
    """The delay after an error doubles per key up to a limit, and starts anew after a success."""

    async def scenario() -> None:
        queue = _new_queue()
        delays = [queue.retry("a") for _ in range(3)]
        assert delays == [0.05, 0.1, 0.2]
        assert queue.retry("b") == 0.05
        for _ in range(60):
            queue.retry("a")
        assert queue.retry("a") == LONGEST_BACKOFF_SECONDS
        queue.forget("a")
        assert queue.retry("a") == 0.05
        queue.close()

    run_virtually(scenario())


def test_a_worker_retries_until_it_goes_well() -> None:
    """A reconciliation that raises is tried again after its backoff; what it returns is the next appointment."""

    async def scenario() -> None:
        queue = _new_queue()
        seen: list[float] = []
        finished = asyncio.Event()

        async def reconcile(_: str) -> float | None:
            seen.append(asyncio.get_running_loop().time())
            if len(seen) < 3:
                raise ValueError("not yet")
            if len(seen) == 4:
                finished.set()
                return None
            return 100

        queue.add("a")
        worker = asyncio.create_task(work(queue, reconcile))
        await finished.wait()
        worker.cancel()
        assert seen == pytest.approx([0, 0.05, 0.15, 100.15])

    run_virtually(scenario())


def test_one_worker_per_key() -> None:
    """Several workers share the keys, but no key is with two of them at a time."""

    async def scenario() -> None:
        queue = _new_queue()
        running: set[str] = set()
        count = 0

        async def reconcile(key: str) -> None:
            nonlocal count
            assert key not in running
            running.add(key)
            await asyncio.sleep(1)
            running.discard(key)
            count += 1

        workers = [asyncio.create_task(work(queue, reconcile)) for _ in range(4)]
        for _ in range(3):
            for key in ("a", "b"):
                queue.add(key)
            await asyncio.sleep(0.3)
        await asyncio.sleep(10)
        for worker in workers:
            worker.cancel()
        assert count == 4

    run_virtually(scenario())
