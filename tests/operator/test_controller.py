"""The controller: what it says when an object cannot be reconciled."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tunesmith_operator.controller import Controller
from tunesmith_operator.errors import UnavailableError
from tunesmith_operator.events import Occurrence
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.plans import Key

KEY = Key("FineTuneJob", "team", "bot")
JOB = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "bot", "namespace": "team", "uid": "u", "resourceVersion": "7"},
}


class Shelf:
    """Caches that hold one job."""

    def get(self, key: Key) -> dict[str, Any] | None:
        return JOB if key == KEY else None


class Trouble:
    """An observer that cannot make a planner."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def planner(self, *_: Any) -> Any:
        raise self.error


class Ear:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Occurrence] = []

    def tell(self, owner: dict[str, Any], occurrence: Occurrence, now: datetime) -> None:
        assert owner is JOB
        assert now.tzinfo is not None
        self.told.append(occurrence)


def reconcile_twice(error: Exception, now: datetime) -> list[Occurrence]:
    """What is told about an object whose planning fails twice with the same error."""
    ear = Ear()
    controller = Controller(
        cluster=None,  # type: ignore[arg-type] - planning fails before anything is written
        caches=Shelf(),  # type: ignore[arg-type] - only get is used
        observer=Trouble(error),  # type: ignore[arg-type] - only planner is used
        recorder=ear,  # type: ignore[arg-type] - only tell is used
        metrics=Metrics(CollectorRegistry()),
        clock=lambda: now,
    )
    for _ in range(2):
        with pytest.raises(type(error)):
            asyncio.run(controller.reconcile(KEY))
    return ear.told


def test_trouble_is_told_on_the_object_once(now: datetime) -> None:
    """A defect shows in `kubectl describe`, not only in the operator's log, and a retry does not repeat it."""
    (told,) = reconcile_twice(ValueError("'x' is no quantity"), now)

    assert told.warning
    assert told.reason == "ReconcileFailed"
    assert "ValueError: 'x' is no quantity" in told.message


def test_an_api_server_that_is_away_is_not_told(now: datetime) -> None:
    """What passes by itself is tried again in silence."""
    assert reconcile_twice(UnavailableError("down"), now) == []
