"""Every way in which a stage's pod can end or hang has a category, a retry rule and a way out."""

import json
from typing import Any

import pytest

from tunesmith_api import ExitCode, FailureCategory
from tunesmith_api.exits import EXIT_MEANINGS
from tunesmith_operator.finetunejob.diagnosis import diagnose, not_starting
from tunesmith_operator.pods import PodFacts, pod_facts


def _pod(**facts: Any) -> PodFacts:
    return PodFacts("pod", "bot", "train", "uid", **facts)


@pytest.mark.parametrize("code", [code for code in ExitCode if code is not ExitCode.DONE], ids=lambda code: code.name)
def test_exit_codes(code: ExitCode) -> None:
    """Each exit code of the contract is diagnosed as its table says, even without a report."""
    found = diagnose("train", _pod(phase="Failed", exit_code=int(code)))
    meaning = EXIT_MEANINGS[code]
    assert (found.category, found.retryable, found.counts) == (meaning.category, meaning.retryable, meaning.counts)
    assert found.exit_code == code
    assert found.resolution


@pytest.mark.parametrize(
    ("facts", "category", "retryable", "words"),
    [
        ({"exit_code": 137, "exit_reason": "OOMKilled"}, FailureCategory.OUT_OF_MEMORY, False, "OOMKilled"),
        ({"exit_code": 137}, FailureCategory.CRASHED, True, "SIGKILL"),
        ({"exit_code": 1, "exit_message": "Traceback: boom"}, FailureCategory.CRASHED, True, "boom"),
        ({"reason": "Evicted", "message": "low on memory"}, FailureCategory.EVICTED, True, "low on memory"),
        ({"disrupted": "node drained", "exit_code": 137}, FailureCategory.EVICTED, True, "node drained"),
        ({"disrupted": "node drained", "exit_code": 143}, FailureCategory.PREEMPTED, True, "143"),
        ({"phase": "Failed"}, FailureCategory.CRASHED, True, "without an exit code"),
    ],
)
def test_ends(facts: dict[str, Any], category: FailureCategory, *, retryable: bool, words: str) -> None:
    """What the kubelet saw decides, and is quoted."""
    found = diagnose("train", _pod(**facts))
    assert (found.category, found.retryable) == (category, retryable)
    assert words in found.message


def test_a_report_speaks_for_itself() -> None:
    """The stage's own words win over the exit code's."""
    failure = {"category": "Diverged", "message": "loss is NaN at step 4", "resolution": "Lower the rate."}
    message = json.dumps({"stage": "train", "exitCode": 70, "failure": failure})
    found = diagnose("train", _pod(exit_code=70, exit_message=message))
    assert (found.message, found.resolution) == ("loss is NaN at step 4", "Lower the rate.")


def test_a_pod_that_is_gone() -> None:
    """Without a pod the failure is an eviction that counts, so that it cannot go on for ever."""
    found = diagnose("train", None, "Job has reached the specified backoff limit")
    assert found.category is FailureCategory.EVICTED
    assert found.retryable
    assert found.counts


@pytest.mark.parametrize(
    ("reason", "category"),
    [
        ("ErrImagePull", FailureCategory.IMAGE_PULL),
        ("ImagePullBackOff", FailureCategory.IMAGE_PULL),
        ("InvalidImageName", FailureCategory.IMAGE_PULL),
        ("CreateContainerConfigError", FailureCategory.INPUT_NOT_FOUND),
        ("RunContainerError", FailureCategory.CRASHED),
        ("ContainerCreating", None),
        ("", None),
    ],
)
def test_pods_that_do_not_start(reason: str, category: FailureCategory | None) -> None:
    """A pod that hangs before its start is diagnosed; one that is on its way is not."""
    found = not_starting("train", _pod(waiting_reason=reason, waiting_message="why"))
    assert (found.category if found else None) is category


def test_pod_facts() -> None:
    """The facts of a pod are read from its labels, its conditions and its container."""
    ended = {"exitCode": 143, "reason": "Error", "message": "{}", "finishedAt": "2026-01-01T00:00:09Z"}
    body = {
        "metadata": {
            "name": "p",
            "labels": {
                "tunesmith.dev/owner-name": "bot",
                "tunesmith.dev/stage": "train",
                "batch.kubernetes.io/job-completion-index": "3",
            },
            "ownerReferences": [
                {"uid": "other"},
                {"uid": "job", "kind": "Job", "name": "bot-train", "controller": True},
            ],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Failed",
            "podIP": "10.0.0.1",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"},
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"},
            ],
            "containerStatuses": [{"state": {"terminated": ended}}],
        },
    }
    facts = pod_facts(body)
    assert (facts.owner, facts.stage, facts.controller_uid, facts.deleting) == ("bot", "train", "job", True)
    assert facts.controller == "Job/bot-train"
    assert (facts.unschedulable, facts.disrupted) == ("0/1 nodes", "EvictionByEvictionAPI")
    assert (facts.exit_code, facts.exit_message, facts.ended) == (143, "{}", True)
    assert (facts.index, facts.has_node, facts.finished_at) == (3, True, "2026-01-01T00:00:09Z")
