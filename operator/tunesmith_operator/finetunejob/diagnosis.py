"""Why a stage failed or does not start: from the facts of its pod to a category, a sentence and a way out. Pure."""

from dataclasses import dataclass

from tunesmith_api import FailureCategory, Termination, decode_termination, meaning_of
from tunesmith_api.exits import CRASHED
from tunesmith_operator.hindrances import hindrance
from tunesmith_operator.pods import PodFacts

SIGKILL = 137
SIGTERM = 143
MESSAGE_LIMIT = 2000


@dataclass(frozen=True)
class Diagnosis:
    """One failure.

    Attributes:
        category: its kind.
        message: what was seen.
        resolution: what to do about it.
        retryable: whether the same stage, run again unchanged, can succeed.
        counts: whether a retry uses up backoffLimit.
        exit_code: the container's exit code, where it ran.
    """

    category: FailureCategory
    message: str
    resolution: str
    retryable: bool = False
    counts: bool = True
    exit_code: int | None = None


def diagnose(stage: str, pod: PodFacts | None, job_message: str = "") -> Diagnosis:
    """Why a stage's Job failed, from the last facts of its pod."""
    if pod is None:
        return Diagnosis(
            FailureCategory.EVICTED,
            f"The pod of {stage} is gone and left no exit code. {job_message}".strip(),
            "The stage runs again by itself; find out who deletes pods if this goes on.",
            retryable=True,
        )
    for check in (_evicted, _out_of_memory, _reported):
        found = check(stage, pod)
        if found is not None:
            return found
    return _by_exit_code(stage, pod)


def _evicted(stage: str, pod: PodFacts) -> Diagnosis | None:
    if pod.exit_code == SIGTERM:
        return None  # it had time for a checkpoint: a preemption, whoever asked for it
    if pod.reason != "Evicted" and not pod.disrupted and pod.reason != "NodeLost":
        return None
    return Diagnosis(
        FailureCategory.EVICTED,
        f"The pod of {stage} was removed from its node: {pod.disrupted or pod.message or pod.reason}",
        "The stage runs again from its last checkpoint by itself.",
        retryable=True,
        exit_code=pod.exit_code,
    )


def _out_of_memory(stage: str, pod: PodFacts) -> Diagnosis | None:
    if pod.exit_reason != "OOMKilled":
        return None
    field = "compute.resources.memory or lower training.batchSize" if stage == "train" else "the memory of its node"
    return Diagnosis(
        FailureCategory.OUT_OF_MEMORY,
        f"The container of {stage} {pod.overrun}",
        f"Raise {field}; a new FineTuneJob is needed, as the spec does not change.",
        exit_code=pod.exit_code,
    )


def _reported(_: str, pod: PodFacts) -> Diagnosis | None:
    report = decode_termination(pod.exit_message)
    if report is None or report.failure is None:
        return None
    meaning = meaning_of(report.exit_code)
    return Diagnosis(
        report.failure.category,
        report.failure.message,
        report.failure.resolution,
        retryable=meaning.retryable,
        counts=meaning.counts,
        exit_code=report.exit_code,
    )


def _by_exit_code(stage: str, pod: PodFacts) -> Diagnosis:
    code = pod.exit_code
    meaning = CRASHED if code is None else meaning_of(code)
    ended = "without an exit code" if code is None else f"with exit code {code}"
    killed = " (SIGKILL)" if code == SIGKILL else ""
    last = f"; last words: {pod.exit_message.strip()[-MESSAGE_LIMIT:]}" if pod.exit_message.strip() else ""
    return Diagnosis(
        meaning.category,
        f"The container of {stage} ended {ended}{killed}{last}"[:MESSAGE_LIMIT],
        meaning.resolution,
        retryable=meaning.retryable,
        counts=meaning.counts,
        exit_code=code,
    )


def no_report(stage: str) -> Diagnosis:
    """The Job is complete, but what the stage reported cannot be read."""
    return Diagnosis(
        FailureCategory.CRASHED,
        f"The Job of {stage} is complete, but its pod left no report.",
        "The stage runs again by itself; if this goes on, check that the trainer image is the one of this release.",
        retryable=True,
    )


def not_starting(stage: str, pod: PodFacts) -> Diagnosis | None:
    """Why a pod that exists does not start; None when it is on its way."""
    found = hindrance(pod)
    if found is None:
        return None
    message = found.message
    if found.category is not FailureCategory.UNSCHEDULABLE:
        message = f"The pod of {stage} does not start: {message}"
    return Diagnosis(found.category, message[:MESSAGE_LIMIT], found.resolution, retryable=True)


def report_of(pod: PodFacts | None) -> Termination | None:
    """What a successful stage reported, or None."""
    if pod is None or pod.exit_code != 0:
        return None
    return decode_termination(pod.exit_message)
