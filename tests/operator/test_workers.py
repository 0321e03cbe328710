"""Several workers: the newest pod of each, their last words, and which of them failed first."""

import json
from typing import Any

import pytest

from tunesmith_api import FailureCategory, Stage
from tunesmith_operator.finetunejob.planning import Observed
from tunesmith_operator.finetunejob.workers import judge, last_words, newest
from tunesmith_operator.pods import PodFacts

JOB = {"metadata": {"uid": "uid"}}
DIVERGED = {"category": "Diverged", "message": "loss is NaN at step 4", "resolution": "Lower the rate."}
REPORT = json.dumps({"stage": "train", "exitCode": 70, "failure": DIVERGED})


def pod(index: int, code: int | None = None, *, at: int = 0, name: str = "pod", **facts: Any) -> PodFacts:
    """A worker's pod, ended with a code some seconds after the start."""
    ended = {} if code is None else {"phase": "Failed", "exit_code": code, "finished_at": f"2026-01-01T00:00:{at:02}Z"}
    known = {"controller_uid": "uid", "index": index, **ended, **facts}
    return PodFacts(name, "bot", "train", **known)


@pytest.mark.parametrize(
    ("pods", "category", "words"),
    [
        # The killed worker, not those that lost it, wherever it is in the order.
        ((pod(0, 75, at=9), pod(1, 137, at=9)), FailureCategory.CRASHED, "Worker 1: "),
        ((pod(0, 75, at=8), pod(1, 137, at=9)), FailureCategory.CRASHED, "Worker 1: "),
        ((pod(0, 137, at=9), pod(1, 1, at=9)), FailureCategory.CRASHED, "Worker 0: "),
        # A bare exit code follows one that explains itself within the same second, and precedes it when it was first.
        ((pod(0, 1, at=9), pod(1, 70, at=9, exit_message=REPORT)), FailureCategory.DIVERGED, "Worker 1: loss is NaN"),
        ((pod(0, 1, at=7), pod(1, 143, at=9)), FailureCategory.CRASHED, "Worker 0: "),
        ((pod(0, 1, at=9), pod(1, 137, at=9, exit_reason="OOMKilled")), FailureCategory.OUT_OF_MEMORY, "OOMKilled"),
        # The Job stops the others by SIGTERM: that is no preemption.
        ((pod(0, 143, at=9), pod(1, 139, at=9)), FailureCategory.CRASHED, "Worker 1: "),
        ((pod(0, 143, at=9), pod(1, 143, at=8)), FailureCategory.PREEMPTED, "Worker 1: "),
        ((pod(0, 143, at=9), pod(1, 0, at=9)), FailureCategory.PREEMPTED, "Worker 0: "),
        # A node that went away left no code; the others only followed.
        ((pod(0, 75, at=9), pod(1, phase="Failed", disrupted="node gone")), FailureCategory.EVICTED, "node gone"),
        ((pod(0, 75, at=9), pod(1, phase="Running")), FailureCategory.EVICTED, "left no exit code"),
        ((pod(0, 75, at=9),), FailureCategory.EVICTED, "left no exit code"),
        ((), FailureCategory.EVICTED, "backoff limit"),
    ],
)
def test_the_first_failure_counts(pods: tuple[PodFacts, ...], category: FailureCategory, words: str) -> None:
    """The worker that failed first says why, in its own words, and not those that followed it."""
    found = judge(Stage.TRAIN, pods, 2, "Job has reached the specified backoff limit")
    assert found.category is category
    assert words in found.message
    assert found.counts is (category is not FailureCategory.PREEMPTED)


def test_workers_that_only_lose_each_other_count() -> None:
    """Workers that cannot reach each other do not try for ever."""
    found = judge(Stage.TRAIN, (pod(0, 75), pod(1, 75)), 2, "")
    assert (found.category, found.retryable, found.counts) == (FailureCategory.WORKER_LOST, True, True)


def test_one_worker_is_not_numbered() -> None:
    """A stage of one pod speaks of its pod only."""
    assert judge(Stage.TRAIN, (pod(0, 137),), 1, "").message.startswith("The container of train")


def test_the_newest_pod_of_each_worker() -> None:
    """Of a worker's pods the newest counts, and those of other Jobs do not."""
    old, new = pod(1, name="old", created_at="1"), pod(1, name="new", created_at="2")
    foreign = pod(0, controller_uid="other")
    assert newest((new, old, foreign, pod(0)), JOB) == (pod(0), new)


def test_last_words_of_pods_that_are_gone() -> None:
    """A deleted pod is known by its last facts; a pod that is there is known by what it is now."""
    observed = Observed(pods=(pod(1, 143),), departed={"uid": (pod(0, 143), pod(1))})
    assert last_words(observed, JOB) == (pod(0, 143), pod(1, 143))
