"""What follows a failed run: counted once, by the uid of its Job, then run again after a delay, or the end. Pure."""

from datetime import timedelta
from zlib import crc32

from tunesmith_api import FailureCategory, Reason, Stage
from tunesmith_operator.conditions import timestamp
from tunesmith_operator.finetunejob.diagnosis import Diagnosis
from tunesmith_operator.finetunejob.planning import Planning
from tunesmith_operator.finetunejob.status import Draft
from tunesmith_operator.kinds import Body

#: Delay before the first counted retry, doubled with each further one up to the limit.
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0
#: Greatest delay after a preemption.
LONGEST_PREEMPTION_SECONDS = 60.0


def is_counted(draft: Draft, job: Body) -> bool:
    """Whether this very run is the one that was counted last."""
    return bool(draft.status.get("retry", {}).get("jobUid") == job["metadata"]["uid"])


def retry_or_fail(planning: Planning, stage: Stage, job: Body, diagnosis: Diagnosis) -> None:
    """Count a failed run, and say when the next one starts or that there is none."""
    draft = planning.draft
    if is_counted(draft, job):
        planning.delete.append(job)
        return
    attempts = draft.count_failure(stage) if diagnosis.counts else draft.attempts(stage)
    if not diagnosis.retryable:
        reason = Reason.GATE_FAILED if diagnosis.category is FailureCategory.GATE_FAILED else Reason.FAILED
        draft.fail(stage, diagnosis, reason)
    elif attempts > planning.spec.backoff_limit:
        draft.fail(stage, diagnosis, Reason.BACKOFF_LIMIT_EXCEEDED)
    else:
        _schedule(planning, stage, job, diagnosis, _delay(draft, stage, diagnosis))
        planning.conditions.progressing(Reason.RETRYING, diagnosis.message)


def give_way(planning: Planning, stage: Stage, job: Body, message: str) -> None:
    """Let workers that hold nodes in vain give them back and start together later; it counts as no failure.

    The delay is drawn from the job's identity: of two gangs that hold what the other needs, one comes back first and
    finds all of it.
    """
    count = _runs(planning.draft, stage)
    share = crc32(f"{planning.body['metadata']['uid']}/{count}".encode()) / 2**32
    longest = min(planning.gangs.wait_seconds * 2.0 ** min(count, 10), LONGEST_RETRY_SECONDS)
    diagnosis = Diagnosis(
        FailureCategory.UNSCHEDULABLE,
        f"{message} So they gave them back after {planning.gangs.wait_seconds:g} s.",
        "The workers start together by themselves; a larger pool or fewer workers start sooner.",
        retryable=True,
        counts=False,
    )
    _schedule(planning, stage, job, diagnosis, 1 + share * longest)


def _runs(draft: Draft, stage: Stage) -> int:
    """The number of this failed run among those of its stage, preemptions included."""
    before = draft.status.get("retry", {})
    return int(before["count"]) + 1 if before.get("stage") == stage else 1


def _delay(draft: Draft, stage: Stage, diagnosis: Diagnosis) -> float:
    if diagnosis.counts:
        return min(FIRST_RETRY_SECONDS * 2.0 ** min(draft.attempts(stage) - 1, 10), LONGEST_RETRY_SECONDS)
    return min(2.0 ** min(_runs(draft, stage) - 1, 10), LONGEST_PREEMPTION_SECONDS)


def _schedule(planning: Planning, stage: Stage, job: Body, diagnosis: Diagnosis, delay: float) -> None:
    draft = planning.draft
    count = _runs(draft, stage)
    draft.record_failure(stage, diagnosis)
    draft.status["retry"] = {
        "stage": str(stage),
        "jobUid": job["metadata"]["uid"],
        "count": count,
        "notBefore": timestamp(draft.now + timedelta(seconds=delay)),
    }
    planning.wishes.append(0)
