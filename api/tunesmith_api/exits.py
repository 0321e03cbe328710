"""Exit codes of a stage: what happened, who can mend it, and whether trying again can help (after sysexits.h)."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """How a stage of the trainer ended."""

    DONE = 0
    BAD_CONFIG = 64
    BAD_DATA = 65
    INPUT_NOT_FOUND = 66
    SERVICE_UNAVAILABLE = 69
    DIVERGED = 70
    GATE_FAILED = 71
    OUTPUT_NOT_WRITABLE = 74
    WORKER_LOST = 75
    PREEMPTED = 143


class FailureCategory(StrEnum):
    """What kind of failure `status.failure` speaks of."""

    BAD_CONFIG = "BadConfig"
    BAD_DATA = "BadData"
    INPUT_NOT_FOUND = "InputNotFound"
    SERVICE_UNAVAILABLE = "ServiceUnavailable"
    DIVERGED = "Diverged"
    GATE_FAILED = "GateFailed"
    OUTPUT_NOT_WRITABLE = "OutputNotWritable"
    WORKER_LOST = "WorkerLost"
    PREEMPTED = "Preempted"
    OUT_OF_MEMORY = "OutOfMemory"
    IMAGE_PULL = "ImagePull"
    UNSCHEDULABLE = "Unschedulable"
    EVICTED = "Evicted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    CRASHED = "Crashed"


@dataclass(frozen=True)
class ExitMeaning:
    """What an exit code says.

    Attributes:
        category: the failure category of the status.
        resolution: what a person should do, in one sentence.
        retryable: whether the same stage, run again unchanged, can succeed.
        counts: whether a retry uses up `backoffLimit`; a preemption does not.
    """

    category: FailureCategory
    resolution: str
    retryable: bool = False
    counts: bool = True


EXIT_MEANINGS: dict[ExitCode, ExitMeaning] = {
    ExitCode.BAD_CONFIG: ExitMeaning(
        FailureCategory.BAD_CONFIG, "Correct the field that the message names and apply a new FineTuneJob."
    ),
    ExitCode.BAD_DATA: ExitMeaning(
        FailureCategory.BAD_DATA, "Correct the rows that the message names and apply the job again."
    ),
    ExitCode.INPUT_NOT_FOUND: ExitMeaning(
        FailureCategory.INPUT_NOT_FOUND, "Check the URI, its secretRef and that the object exists."
    ),
    ExitCode.SERVICE_UNAVAILABLE: ExitMeaning(
        FailureCategory.SERVICE_UNAVAILABLE,
        "The stage is tried again; check that the host is reachable.",
        retryable=True,
    ),
    ExitCode.DIVERGED: ExitMeaning(
        FailureCategory.DIVERGED, "Lower training.learningRate or use training.precision FP32."
    ),
    ExitCode.GATE_FAILED: ExitMeaning(
        FailureCategory.GATE_FAILED, "Train longer, add data, or lower the gate if the model is good enough."
    ),
    ExitCode.OUTPUT_NOT_WRITABLE: ExitMeaning(
        FailureCategory.OUTPUT_NOT_WRITABLE, "Check the size and the permissions of the output and of the workspace."
    ),
    ExitCode.WORKER_LOST: ExitMeaning(
        FailureCategory.WORKER_LOST,
        "All workers start again from the last checkpoint; the lost worker's own exit code and log say why it ended.",
        retryable=True,
        counts=False,
    ),
    ExitCode.PREEMPTED: ExitMeaning(
        FailureCategory.PREEMPTED,
        "The stage resumes from its last checkpoint by itself.",
        retryable=True,
        counts=False,
    ),
}

CRASHED = ExitMeaning(
    FailureCategory.CRASHED,
    "Read the pod's log; report it if the message does not explain the crash.",
    retryable=True,
)


def meaning_of(exit_code: int) -> ExitMeaning:
    """What an exit code says; codes outside the table are crashes."""
    try:
        return EXIT_MEANINGS[ExitCode(exit_code)]
    except (KeyError, ValueError):
        return CRASHED
