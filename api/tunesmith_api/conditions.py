"""Conditions and their stable reasons: the kstatus contract that `kubectl wait`, Helm, Argo CD and Flux read."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.model import Model


class ConditionType(StrEnum):
    """Every condition that a Tunesmith resource can carry."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    PLANNED = "Planned"
    PREPARED = "Prepared"
    TRAINED = "Trained"
    EVALUATED = "Evaluated"
    EXPORTED = "Exported"
    SERVING = "Serving"


class Reason(StrEnum):
    """Why a condition has its status. Programs may rely on these values."""

    PENDING = "Pending"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    RETRYING = "Retrying"
    FAILED = "Failed"
    NOT_SUPPORTED = "NotSupported"
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_PRESET = "UnknownPreset"
    POOL_NOT_FOUND = "PoolNotFound"
    NO_POOL_FITS = "NoPoolFits"
    INPUT_NOT_FOUND = "InputNotFound"
    NAME_CONFLICT = "NameConflict"
    REFUSED = "Refused"
    GATE_FAILED = "GateFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    WAITING_FOR_MODEL = "WaitingForModel"
    ROLLING_OUT = "RollingOut"
    AVAILABLE = "Available"
    UNAVAILABLE = "Unavailable"
    NO_NODES = "NoNodes"


class Condition(Model):
    """One condition, as in metav1.Condition."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """Type of the condition, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """A stable, CamelCase reason for programs."""
    message: Annotated[str, StringConstraints(max_length=2048)] = ""
    """What happened, for people."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=40)]
    """When the status last changed."""
    observed_generation: int | None = None
    """The generation of the spec that the condition speaks of."""
