"""Trainings of several workers: all run or none, one failure is one failure, and nobody waits for ever."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from plan_world import World, report

from tunesmith_operator.conditions import timestamp
from tunesmith_operator.plans import ChildName
from tunesmith_operator.pools import Landscape
from tunesmith_operator.settings import GangSettings, Images

Body = dict[str, Any]
SERVICE, POLICY = ChildName("Service", "bot-train"), ChildName("NetworkPolicy", "bot-train")
FULL = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


@pytest.fixture
def gang(job: Callable[..., Body], images: Images, now: datetime, landscape: Landscape) -> Callable[..., World]:
    """Makes a world whose job has come to its training on two workers."""

    def make(name: str = "bot", **spec: Any) -> World:
        body = job(name, **{"distribution": {"workers": 2}, **spec})
        one = World(body, images, now, landscape, gangs=GangSettings(60, ("team",)))
        one.settle()
        one.succeed()
        return one

    return make


GangMaker = Callable[..., World]


def end_worker(one: World, index: int, code: int, message: str = "") -> None:
    """Let one worker's container end."""
    at = timestamp(one.now)
    one.pods = [
        replace(pod, phase="Failed" if code else "Succeeded", exit_code=code, exit_message=message, finished_at=at)
        if (pod.stage, pod.index) == ("train", index)
        else pod
        for pod in one.pods
    ]


def fail_job(one: World) -> None:
    """Let the Job controller say that the Job has failed."""
    when = timestamp(one.now)
    one.job()["status"] = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": when}]}
    one.now += timedelta(seconds=6)


def place(one: World, *, first: bool) -> None:
    """Let the scheduler find no node for the second worker, nor for the first if that is asked."""
    waiting = {"phase": "Pending", "has_node": False, "unschedulable": FULL}
    one.pods = [
        replace(pod, **waiting) if pod.stage == "train" and (pod.index or not first) else pod for pod in one.pods
    ]


def test_workers_come_to_a_model(gang: GangMaker) -> None:
    """Two workers train as one stage; worker 0 tells the result; what they met by goes when they are done."""
    one = gang()
    assert one.status["plan"]["workers"] == 2
    assert "2 workers" in one.condition("Planned")["message"]
    assert {SERVICE, POLICY} <= one.children.keys()
    assert "and 1 more" in one.condition("Ready")["message"]
    end_worker(one, 0, 0, report("train"))
    end_worker(one, 1, 0)
    one.job()["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    one.settle()
    assert one.condition("Trained")["status"] == "True"
    assert not {SERVICE, POLICY} & one.children.keys()
    assert [pod.stage for pod in one.pods if not pod.ended] == ["export"]


def test_the_service_comes_back(gang: GangMaker) -> None:
    """A Service that somebody deletes is there again, without harm to the training."""
    one = gang()
    del one.children[SERVICE]
    one.settle()
    assert SERVICE in one.children
    assert one.started == ["prepare", "train"]


def test_a_killed_worker_restarts_all(gang: GangMaker) -> None:
    """One killed worker costs one attempt, is named, and all start again once the last pod has ended."""
    one = gang()
    end_worker(one, 1, 137)
    one.settle()
    assert "attempts" not in one.status
    end_worker(one, 0, 75)
    fail_job(one)
    one.settle()
    assert one.status["attempts"]["train"] == 1
    assert one.status["failure"]["message"].startswith("Worker 1: ")
    assert one.status["failure"]["exitCode"] == 137
    one.now += timedelta(seconds=5)
    one.settle()
    assert one.started == ["prepare", "train", "train"]
    assert one.status["attempts"]["train"] == 1
    assert len([pod for pod in one.pods if pod.stage == "train" and not pod.ended]) == 2


def test_no_worker_starts_beside_an_old_one(gang: GangMaker) -> None:
    """The next gang waits until every pod of the last one has ended."""
    one = gang()
    old = [pod for pod in one.pods if pod.index == 1]
    end_worker(one, 0, 143)
    end_worker(one, 1, 143)
    fail_job(one)
    one.settle()
    one.pods += [replace(old[0], deleting=True)]
    one.now += timedelta(seconds=60)
    one.settle()
    assert one.started == ["prepare", "train"]
    assert "still ending" in one.condition("Ready")["message"]
    one.pods.pop()
    one.settle()
    assert one.started == ["prepare", "train", "train"]


def test_a_preempted_gang_does_not_count(gang: GangMaker) -> None:
    """SIGTERM stops all workers after the same step: they start again, and backoffLimit is as it was."""
    one = gang(backoffLimit=0)
    end_worker(one, 0, 143)
    end_worker(one, 1, 143)
    fail_job(one)
    one.settle()
    one.now += timedelta(seconds=61)
    one.settle()
    assert "attempts" not in one.status
    assert one.status["failure"]["category"] == "Preempted"
    assert one.started == ["prepare", "train", "train"]


def test_all_last_words_are_waited_for(gang: GangMaker) -> None:
    """A gang is not judged before each worker had time to say why it ended."""
    one = gang()
    end_worker(one, 0, 75)
    fail_job(one)
    one.now -= timedelta(seconds=6)
    found = one.reconcile()
    assert found.requeue_after == 0.5
    assert "attempts" not in one.status


def test_a_gang_with_half_its_nodes_is_pending(gang: GangMaker) -> None:
    """The scheduler's reason and the share of placed workers are told."""
    one = gang()
    place(one, first=True)
    found = one.settle()
    assert one.status["phase"] == "Pending"
    assert one.condition("Reconciling")["reason"] == "WaitingForCapacity"
    assert one.condition("Ready")["message"].startswith(f"train: 1 of 2 workers have a node; {FULL} ")
    assert found.requeue_after == 60


def test_a_gang_gives_its_nodes_back(gang: GangMaker) -> None:
    """Workers that hold nodes in vain give them back after a while, count as no failure, and come again together."""
    one = gang(backoffLimit=0)
    place(one, first=True)
    one.settle()
    one.now += timedelta(seconds=60)
    one.settle()
    assert ChildName("Job", "bot-train") not in one.children
    assert one.status["phase"] == "Pending"
    assert FULL in one.condition("Ready")["message"]
    assert "attempts" not in one.status
    wait = one.settle().requeue_after
    assert wait is not None
    assert 0 < wait <= 121
    one.now += timedelta(seconds=wait)
    one.settle()
    assert one.started == ["prepare", "train", "train"]
    assert one.status["phase"] == "Training"
    assert "failure" not in one.status


def test_a_gang_that_holds_nothing_waits(gang: GangMaker) -> None:
    """Workers of which none has a node keep nobody from anything: they stay in the scheduler's queue."""
    one = gang()
    place(one, first=False)
    one.settle()
    one.now += timedelta(seconds=6000)
    one.settle()
    assert one.started == ["prepare", "train"]
    assert "0 of 2 workers" in one.condition("Ready")["message"]


def test_two_gangs_come_back_at_different_times(gang: GangMaker) -> None:
    """Gangs that hold what the other needs do not meet again at the same moment."""
    waits = set()
    for name in ("one", "two", "three"):
        one = gang(name)
        place(one, first=True)
        one.now += timedelta(seconds=60)
        one.settle()
        waits.add(one.status["retry"]["notBefore"])
    assert len(waits) == 3


def test_suspend_stops_all_workers(gang: GangMaker) -> None:
    """Suspend reaches the one Job that all workers belong to."""
    one = gang()
    one.body["spec"]["suspend"] = True
    one.settle()
    assert one.job()["spec"]["suspend"] is True
    assert one.status["phase"] == "Suspended"


def test_a_gate_that_fails_on_workers(gang: GangMaker) -> None:
    """What worker 0 measured is kept, whichever worker's end was seen first."""
    one = gang()
    gate = {"metric": "exact_match", "value": 0.2, "passed": False, "message": "exact_match 0.2 < 0.9"}
    failure = {"category": "GateFailed", "message": gate["message"], "resolution": "Train longer."}
    evaluation = {"tuned": {"exactMatch": 0.2}, "gates": [gate]}
    end_worker(one, 1, 71, report("train", 71, failure=failure))
    end_worker(one, 0, 71, report("train", 71, failure=failure, evaluation=evaluation))
    fail_job(one)
    one.settle()
    assert one.condition("Stalled")["reason"] == "GateFailed"
    assert one.status["evaluation"]["tuned"] == {"exactMatch": 0.2}
    assert not {SERVICE, POLICY} & one.children.keys()


@pytest.mark.parametrize(
    ("name", "spec", "reason", "words"),
    [
        ("bot", {"distribution": {"workers": 64}}, "NoPoolFits", "64 pods of"),
        ("b" * 55, {"distribution": {"workers": 11}}, "InvalidSpec", "use at most 54 characters"),
    ],
)
def test_a_gang_that_can_never_run_is_said(
    job: Callable[..., Body],
    images: Images,
    now: datetime,
    landscape: Landscape,
    name: str,
    spec: Body,
    reason: str,
    words: str,
) -> None:
    """A gang that no pool holds, or whose name leaves no room for its index, stalls before anything is made."""
    one = World(job(name, **spec), images, now, landscape)
    one.settle()
    assert one.condition("Stalled")["reason"] == reason
    assert words in one.condition("Stalled")["message"]
    assert one.children == {}
