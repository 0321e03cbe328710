"""Kubernetes events: what changed between two statuses, told once, without ever holding up a reconciliation."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunesmith_operator.cluster import Cluster
from tunesmith_operator.conditions import timestamp
from tunesmith_operator.errors import ApiError, UnavailableError
from tunesmith_operator.kinds import Body

logger = logging.getLogger(__name__)

COMPONENT = "tunesmith-operator"
#: Events that wait to be posted; more are dropped, as nothing depends on them.
BACKLOG = 2000
NOTE_LIMIT = 1000
#: How long an API server that restarts is waited for, before an event is given up; in steps that double.
PATIENCE_SECONDS = 120.0
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Occurrence:
    """One thing to tell."""

    reason: str
    message: str
    warning: bool = False


def occurrences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Occurrence]:
    """What a change of status has to tell: a new phase, a new failure, a new reason to stall."""
    if after.get("failure") and before.get("failure") != after["failure"]:
        failure = after["failure"]
        yield Occurrence(failure["category"], f"{failure['message']} {failure['resolution']}", warning=True)
    old, new = _condition(before, "Stalled"), _condition(after, "Stalled")
    if new and (old.get("reason"), old.get("message")) != (new["reason"], new["message"]):
        yield Occurrence(new["reason"], new["message"], warning=True)
    if after.get("phase") != before.get("phase") and after.get("phase"):
        yield Occurrence(after["phase"], _condition(after, "Ready").get("message") or f"Phase {after['phase']}.")


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def event(owner: Body, occurrence: Occurrence, now: datetime, instance: str) -> Body:
    """An event about an object."""
    metadata = owner["metadata"]
    scope = {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name'][:40]}.", "namespace": "default", **scope},
        "involvedObject": {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": metadata["name"],
            **scope,
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": "Warning" if occurrence.warning else "Normal",
        "reason": occurrence.reason,
        "message": occurrence.message[:NOTE_LIMIT],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": instance,
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "count": 1,
    }


class Recorder:
    """Posts events in the background."""

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._backlog: asyncio.Queue[Body] = asyncio.Queue(BACKLOG)

    def record(self, owner: Body, before: Mapping[str, Any], after: Mapping[str, Any], now: datetime) -> None:
        """Tell what changed between two statuses of an object."""
        for occurrence in occurrences(before, after):
            self.tell(owner, occurrence, now)

    def tell(self, owner: Body, occurrence: Occurrence, now: datetime) -> None:
        """Tell one thing about an object."""
        try:
            self._backlog.put_nowait(event(owner, occurrence, now, self._instance))
        except asyncio.QueueFull:
            logger.warning("Too many events; one is dropped", extra={"reason": occurrence.reason})

    async def run(self) -> None:
        """Post events for ever."""
        while True:
            body = await self._backlog.get()
            try:
                await self._post(body)
            except ApiError as error:
                logger.warning("An event could not be posted", extra={"error": str(error)})

    async def _post(self, body: Body) -> None:
        """Post one event; while the API server is away it is tried again, and the others wait behind it."""
        waited, wait = 0.0, FIRST_WAIT_SECONDS
        while True:
            try:
                await self._cluster.create(body)
            except UnavailableError:
                if waited >= PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(wait)
                waited, wait = waited + wait, min(wait * 2, LONGEST_WAIT_SECONDS)
            else:
                return
