"""What a plan of any kind is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunesmith_api import Reason
from tunesmith_operator.conditions import Conditions
from tunesmith_operator.errors import InvalidError, NameConflictError, RefusedError
from tunesmith_operator.kinds import Body


class Key(NamedTuple):
    """Names an object of ours; the namespace is empty for a cluster-scoped one."""

    kind: str
    namespace: str
    name: str


class ChildName(NamedTuple):
    """Names a child within its owner's namespace."""

    kind: str
    name: str


#: The live children of an object, by kind and name; only those whose controller reference carries the owner's uid.
Children = Mapping[ChildName, Body]


@dataclass(frozen=True)
class Trouble:
    """What keeps an object from being what its spec asks.

    Attributes:
        reason: WaitingForCapacity passes by itself; the others need a person.
        message: what is wrong, and the way out where one is known.
    """

    reason: Reason
    message: str

    @classmethod
    def of(cls, error: NameConflictError | RefusedError | InvalidError) -> "Trouble":
        """What an error means for the object whose children were brought."""
        if isinstance(error, NameConflictError):
            return cls(Reason.NAME_CONFLICT, str(error))
        if isinstance(error, InvalidError):
            return cls(Reason.INVALID_SPEC, f"The API server does not accept what this spec asks for: {error}")
        is_quota = "exceeded quota" in str(error)
        return cls(Reason.WAITING_FOR_CAPACITY if is_quota else Reason.REFUSED, str(error))

    def show(self, conditions: Conditions) -> None:
        """Tell it in an object's conditions."""
        tell = conditions.progressing if self.reason is Reason.WAITING_FOR_CAPACITY else conditions.stalled
        tell(self.reason, self.message)


@dataclass(frozen=True)
class Plan:
    """What is to be done about one object.

    Attributes:
        status: the whole status; written only where it differs from the present one.
        apply: children as they should be, in the order of creation.
        delete: live children that should not be.
        delete_self: whether the object itself has outlived its time.
        requeue_after: seconds after which to look again without an event, or None.
    """

    status: dict[str, Any] | None = None
    apply: tuple[Body, ...] = ()
    delete: tuple[Body, ...] = ()
    delete_self: bool = False
    requeue_after: float | None = None


def child_name(body: Body) -> ChildName:
    """The name of a child's manifest."""
    return ChildName(body["kind"], body["metadata"]["name"])


def controlled_by(body: Body, uid: str) -> bool:
    """Whether an object's controller reference carries an owner's uid."""
    return any(
        reference.get("controller") and reference.get("uid") == uid
        for reference in body["metadata"].get("ownerReferences", [])
    )
