"""The trainer's errors: each class is one exit code of the contract, so that a stage fails by raising."""

from typing import ClassVar

from tunesmith_api import ExitCode

#: Bad rows that a message shows before it only counts.
SHOWN_ROWS = 3


class StageError(Exception):
    """Base of every error that ends a stage with a code of the contract."""

    exit_code: ClassVar[ExitCode]


class BadConfigError(StageError):
    """Raised when a field of the job cannot be met; the message names the field, the value and the way out."""

    exit_code = ExitCode.BAD_CONFIG


class BadDataError(StageError):
    """Raised when the data set cannot be trained on; the message names the rows."""

    exit_code = ExitCode.BAD_DATA


class InputNotFoundError(StageError):
    """Raised when a model or data set is absent or must not be read."""

    exit_code = ExitCode.INPUT_NOT_FOUND


class ServiceUnavailableError(StageError):
    """Raised when a host does not answer; trying again can help."""

    exit_code = ExitCode.SERVICE_UNAVAILABLE


class DivergedError(StageError):
    """Raised when the loss is no longer finite; the message names the step and the loss."""

    exit_code = ExitCode.DIVERGED


class GateFailedError(StageError):
    """Raised when a metric misses its gate, or the exported model differs from the torch model."""

    exit_code = ExitCode.GATE_FAILED


class OutputNotWritableError(StageError):
    """Raised when the workspace or the output cannot be written."""

    exit_code = ExitCode.OUTPUT_NOT_WRITABLE


class WorkerLostError(StageError):
    """Raised when another process of a distributed training is gone; all of them start again."""

    exit_code = ExitCode.WORKER_LOST


class PreemptedError(StageError):
    """Raised when SIGTERM asked the stage to stop; it resumes where it was."""

    exit_code = ExitCode.PREEMPTED


def error_of(exit_code: int, message: str) -> StageError | None:
    """The error that ends a stage with a code of the contract, or None for a code outside of it."""
    kinds = {int(kind.exit_code): kind for kind in StageError.__subclasses__()}
    return kinds[exit_code](message) if exit_code in kinds else None
