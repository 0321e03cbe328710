"""Events: what a change of status has to tell, once."""

import asyncio
import copy
import logging
from datetime import datetime
from typing import Any

import pytest

from tunesmith_operator import events
from tunesmith_operator.errors import ApiError, RefusedError, UnavailableError
from tunesmith_operator.events import Occurrence, Recorder, occurrences

Body = dict[str, Any]
READY = {"type": "Ready", "status": "False", "reason": "Running", "message": "train runs in pod p."}
STALLED = {"type": "Stalled", "status": "True", "reason": "PoolNotFound", "message": "pool 'x' does not exist"}
FAILURE = {"category": "OutOfMemory", "message": "Killed.", "resolution": "Ask for more."}
JOB = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "bot", "namespace": "team", "uid": "u", "resourceVersion": "7"},
}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"phase": "Training", "conditions": [READY]}, [Occurrence("Training", "train runs in pod p.")]),
        ({}, {"phase": "Pending"}, [Occurrence("Pending", "Phase Pending.")]),
        ({"phase": "Training"}, {"phase": "Training", "progress": {"step": 2}}, []),
        ({}, {"failure": FAILURE}, [Occurrence("OutOfMemory", "Killed. Ask for more.", warning=True)]),
        ({"failure": FAILURE}, {"failure": dict(FAILURE)}, []),
        ({"failure": FAILURE}, {}, []),
        ({}, {"conditions": [STALLED]}, [Occurrence("PoolNotFound", STALLED["message"], warning=True)]),
        ({"conditions": [STALLED]}, {"conditions": [{**STALLED, "lastTransitionTime": "later"}]}, []),
        ({"conditions": [STALLED]}, {"conditions": []}, []),
    ],
)
def test_what_is_told(before: Body, after: Body, told: list[Occurrence]) -> None:
    """A new phase, failure or reason to stall is told; what stays or goes is not."""
    assert list(occurrences(before, after)) == told


class Wall:
    """An API server that keeps events, and may refuse some."""

    def __init__(self) -> None:
        self.created: list[Body] = []
        self.errors: list[ApiError] = []
        self.posted = asyncio.Condition()

    async def create(self, body: Body) -> Body:
        if self.errors:
            raise self.errors.pop(0)
        async with self.posted:
            self.created.append(copy.deepcopy(body))
            self.posted.notify_all()
        return body


async def _posted(wall: Wall, recorder: Recorder, count: int) -> None:
    task = asyncio.create_task(recorder.run())
    try:
        async with asyncio.timeout(5), wall.posted:
            await wall.posted.wait_for(lambda: len(wall.created) >= count)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_an_event_names_its_object(now: datetime) -> None:
    """An event carries the object that it is about, who tells it, and a type that fits."""

    async def scenario() -> None:
        wall = Wall()
        recorder = Recorder(wall, "replica")  # type: ignore[arg-type] - only create is used
        recorder.record(JOB, {}, {"conditions": [STALLED], "phase": "Pending"}, now)
        await _posted(wall, recorder, 2)
        first, second = wall.created
        assert first["involvedObject"]["uid"] == "u"
        assert first["involvedObject"]["namespace"] == first["metadata"]["namespace"] == "team"
        assert (first["type"], first["reason"], second["type"]) == ("Warning", "PoolNotFound", "Normal")
        assert first["firstTimestamp"] == "2026-01-02T03:04:05Z"
        assert first["reportingInstance"] == "replica"

    asyncio.run(scenario())


def test_the_same_status_is_told_once(now: datetime) -> None:
    """Recording the same change of phase and then no change posts one event."""

    async def scenario() -> None:
        wall = Wall()
        recorder = Recorder(wall, "replica")  # type: ignore[arg-type] - only create is used
        recorder.record(JOB, {}, {"phase": "Training"}, now)
        recorder.record(JOB, {"phase": "Training"}, {"phase": "Training"}, now)
        recorder.record(JOB, {"phase": "Training"}, {"phase": "Exporting"}, now)
        await _posted(wall, recorder, 2)
        assert [one["reason"] for one in wall.created] == ["Training", "Exporting"]

    asyncio.run(scenario())


def test_an_event_of_a_pool(now: datetime) -> None:
    """An event about a cluster-scoped object lies in namespace default and names none, as kubectl looks for it."""
    pool = {**JOB, "kind": "ComputePool", "metadata": {"name": "gpu", "uid": "u", "resourceVersion": "7"}}
    found = events.event(pool, Occurrence("NoNodes", "x" * 5000), now, "replica")
    assert found["metadata"]["namespace"] == "default"
    assert "namespace" not in found["involvedObject"]
    assert len(found["message"]) <= 1024


def test_events_never_stop_the_work(
    now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Events that cannot be posted or stored are dropped with a warning, and the next ones are posted."""
    monkeypatch.setattr(events, "BACKLOG", 2)

    async def scenario() -> None:
        wall = Wall()
        wall.errors = [RefusedError("no right", 403)]
        recorder = Recorder(wall, "replica")  # type: ignore[arg-type] - only create is used
        for phase in ("Training", "Exporting", "Succeeded"):
            recorder.record(JOB, {}, {"phase": phase}, now)
        await _posted(wall, recorder, 1)
        assert [one["reason"] for one in wall.created] == ["Exporting"]

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    messages = [record.message for record in caplog.records]
    assert messages == ["Too many events; one is dropped", "An event could not be posted"]


def test_events_outlast_a_restart_of_the_api_server(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens while the API server is away is told when it is back, in order; an end of patience is a warning."""
    monkeypatch.setattr(events, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.01)

    async def scenario(failures: int) -> list[str]:
        wall = Wall()
        wall.errors = [UnavailableError("down")] * failures
        recorder = Recorder(wall, "replica")  # type: ignore[arg-type] - only create is used
        for phase in ("Training", "Exporting"):
            recorder.record(JOB, {}, {"phase": phase}, now)
        await _posted(wall, recorder, 2 if failures < 5 else 1)
        return [one["reason"] for one in wall.created]

    assert asyncio.run(scenario(2)) == ["Training", "Exporting"]
    assert asyncio.run(scenario(5)) == ["Exporting"]
