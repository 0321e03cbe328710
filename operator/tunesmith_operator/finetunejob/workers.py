"""The pods of a stage's Job, one for each worker: the newest, their last words, which one failed first. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from tunesmith_api import ExitCode, Stage, decode_termination
from tunesmith_operator.finetunejob.diagnosis import SIGTERM, Diagnosis, diagnose
from tunesmith_operator.finetunejob.planning import Observed
from tunesmith_operator.kinds import Body
from tunesmith_operator.pods import PodFacts

#: The least exit code that says which signal ended a container.
_SIGNALS = 128
#: Sorts behind every time stamp.
_LAST = "~"


def newest(pods: Iterable[PodFacts], job: Body) -> tuple[PodFacts, ...]:
    """The newest pod of each worker of a Job, by index; one that has ended before one of the same age that has not."""
    uid = job["metadata"]["uid"]
    mine = sorted(
        (pod for pod in pods if pod.controller_uid == uid), key=lambda pod: (pod.created_at, pod.ended, pod.name)
    )
    found = {pod.index: pod for pod in mine}
    return tuple(found[index] for index in sorted(found))


def last_words(observed: Observed, job: Body) -> tuple[PodFacts, ...]:
    """The last facts of each worker, also of those whose pods are gone."""
    departed = newest(observed.departed.get(job["metadata"]["uid"], ()), job)
    found = {pod.index: pod for pod in (*departed, *newest(observed.pods, job))}
    return tuple(found[index] for index in sorted(found))


def judge(stage: Stage, pods: tuple[PodFacts, ...], workers: int, job_message: str) -> Diagnosis:
    """Why a Job failed: by the worker that failed first, as the others only followed it."""
    pod = _first_failed(pods)
    if workers == 1:
        return diagnose(stage, pod or next(iter(pods), None), job_message)
    followed = pod is not None and pod.exit_code == ExitCode.WORKER_LOST
    if pod is None or (followed and sum(one.ended for one in pods) < workers):
        return diagnose(stage, None, job_message)  # the worker that began it is gone without a word
    found = diagnose(stage, pod, job_message)
    # Workers that lose each other without one that failed are no preemption: that must not go on for ever.
    return replace(found, message=f"Worker {pod.index}: {found.message}", counts=found.counts or followed)


def _first_failed(pods: tuple[PodFacts, ...]) -> PodFacts | None:
    failed = [pod for pod in pods if pod.ended and pod.exit_code != ExitCode.DONE]
    return min(failed, key=_order, default=None)


def _order(pod: PodFacts) -> tuple[bool, str, int, int]:
    """What says that it only lost another worker comes last; then by the second, then by how much an end explains."""
    removed = bool(pod.disrupted or pod.reason)
    ended = pod.finished_at or ("" if removed else _LAST)
    return pod.exit_code == ExitCode.WORKER_LOST, ended, _vagueness(pod), pod.index


def _vagueness(pod: PodFacts) -> int:
    """0 for an end that explains itself, 1 for SIGTERM, which the Job sends to the others, 2 for a bare exit code."""
    if pod.exit_code == SIGTERM:
        return 1
    signalled = pod.exit_code is not None and pod.exit_code > _SIGNALS
    report = decode_termination(pod.exit_message)
    return 0 if signalled or pod.exit_reason == "OOMKilled" or (report and report.failure) else 2
