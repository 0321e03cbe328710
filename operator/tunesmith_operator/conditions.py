"""Conditions of a status: set, dropped, looked up; a transition time changes only when the status flips. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tunesmith_api import ConditionType, Reason

#: The greatest length of a condition's message.
MESSAGE_LIMIT = 2048

ConditionBody = Mapping[str, Any]


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    """The moment of an RFC 3339 time stamp."""
    return datetime.fromisoformat(text)


def is_true(conditions: Iterable[ConditionBody], kind: ConditionType) -> bool:
    """Whether a condition is there and True."""
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


@dataclass
class Conditions:
    """The conditions of one object while its next status is worked out.

    Attributes:
        generation: the generation that the conditions speak of.
        now: time of every transition.
        items: conditions by type.
    """

    generation: int
    now: datetime
    items: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, status: Mapping[str, Any], generation: int, now: datetime) -> "Conditions":
        """The conditions of the present status."""
        return cls(generation, now, {one["type"]: dict(one) for one in status.get("conditions", [])})

    def set(self, kind: ConditionType, *, status: bool | None, reason: Reason, message: str = "") -> None:
        """Set a condition; None stands for Unknown."""
        text = "Unknown" if status is None else str(status)
        before = self.items.get(kind)
        flipped = before is None or before["status"] != text
        self.items[kind] = {
            "type": str(kind),
            "status": text,
            "reason": str(reason),
            "message": message[:MESSAGE_LIMIT],
            "lastTransitionTime": timestamp(self.now) if before is None or flipped else before["lastTransitionTime"],
            "observedGeneration": self.generation,
        }

    def drop(self, *kinds: ConditionType) -> None:
        """Remove conditions."""
        for kind in kinds:
            self.items.pop(kind, None)

    def is_true(self, kind: ConditionType) -> bool:
        """Whether a condition is True."""
        return self.items.get(kind, {}).get("status") == "True"

    def ready(self, message: str = "", reason: Reason = Reason.SUCCEEDED) -> None:
        """All is as the spec asks: kstatus Current."""
        self.set(ConditionType.READY, status=True, reason=reason, message=message)
        self.drop(ConditionType.RECONCILING, ConditionType.STALLED)

    def progressing(self, reason: Reason, message: str = "") -> None:
        """Work goes on: kstatus InProgress."""
        self.set(ConditionType.READY, status=False, reason=reason, message=message)
        self.set(ConditionType.RECONCILING, status=True, reason=reason, message=message)
        self.drop(ConditionType.STALLED)

    def stalled(self, reason: Reason, message: str) -> None:
        """Nothing will change without a person: kstatus Failed."""
        self.set(ConditionType.READY, status=False, reason=reason, message=message)
        self.set(ConditionType.STALLED, status=True, reason=reason, message=message)
        self.drop(ConditionType.RECONCILING)

    def paused(self, message: str) -> None:
        """A person has stopped the work."""
        self.set(ConditionType.READY, status=False, reason=Reason.SUSPENDED, message=message)
        self.drop(ConditionType.RECONCILING, ConditionType.STALLED)

    def wire(self) -> list[dict[str, Any]]:
        """The conditions in their declared order."""
        return [self.items[kind] for kind in ConditionType if kind in self.items]
