"""Trainings of several workers on a real API server: its Job controller, scheduler and garbage collector."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from operator_rig import NAMESPACE, Rig, node, pool, report, wait

pytestmark = pytest.mark.apiserver

Body = dict[str, Any]
DEVICE = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def pair(rig: Rig) -> Iterator[Rig]:
    """The rig with a pool of two nodes of one device each."""
    nodes = [node(name, "pair", **{DEVICE: "1"}) for name in ("pair-a", "pair-b")]
    rig.apply(*nodes, pool("pair", **{"class": "GPU", "device": {"resource": DEVICE}}))
    yield rig
    rig.api.kubectl("delete", "computepool/pair", "node/holding-pair-a", "node/holding-pair-b")


def start(rig: Rig, name: str, workers: int = 2) -> None:
    """A job on the pair of nodes."""
    rig.create_job(name, compute={"pool": "pair"}, distribution={"workers": workers})


def prepared(rig: Rig, name: str) -> None:
    """A job on the pair of nodes, about to train."""
    start(rig, name)
    rig.end(name, "prepare", report("prepare", name))


def wait_workers(rig: Rig, name: str, but: frozenset[str] = frozenset()) -> dict[int, Body]:
    """Both workers of a job, running, none of them of an earlier run."""

    def found() -> dict[int, Body] | None:
        pods = rig.running_pods(name, "train")
        return pods if len(pods) == 2 and not but & uids(pods) else None

    pods: dict[int, Body] = wait(found, lambda: f"two workers of {name}: {rig.status(name)}")
    return pods


def uids(pods: dict[int, Body]) -> frozenset[str]:
    """The identities of pods."""
    return frozenset(pod["metadata"]["uid"] for pod in pods.values())


def test_two_workers_come_to_a_model(pair: Rig) -> None:
    """Both workers run at once under stable names; what they met by goes when they are done."""
    prepared(pair, "both")
    pods = wait_workers(pair, "both")
    assert [pods[index]["spec"]["hostname"] for index in (0, 1)] == ["both-train-0", "both-train-1"]
    assert {pod["spec"]["subdomain"] for pod in pods.values()} == {"both-train"}
    service, policy = pair.get("service", "both-train"), pair.get("networkpolicy", "both-train")
    assert service is not None
    assert policy is not None
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert pair.status("both")["plan"]["workers"] == 2
    pair.end("both", "train", report("train", "both"))
    pair.end("both", "train", "", worker=1)
    pair.end("both", "export", report("export", "both"))
    assert "attempts" not in pair.wait_phase("both", "Succeeded")
    wait(lambda: not pair.list("services,networkpolicies", **{"owner-name": "both"}), "the Service to go")


def test_a_killed_worker_restarts_both(pair: Rig) -> None:
    """A worker that is killed takes the other with it, once; the failure names it, and both start again."""
    prepared(pair, "half")
    before = uids(wait_workers(pair, "half"))
    pair.end("half", "train", "", 137, worker=1)
    wait_workers(pair, "half", before)
    status = pair.status("half")
    assert status["attempts"]["train"] == 1
    assert status["failure"]["message"].startswith("Worker 1: ")
    pair.delete("ftj", "half")


def test_a_preempted_worker_does_not_count(pair: Rig) -> None:
    """A worker that ends with 143 takes the other with it, both start again, and no attempt is used up."""
    prepared(pair, "asked")
    before = uids(wait_workers(pair, "asked"))
    pair.end("asked", "train", "", 143, worker=1)
    wait_workers(pair, "asked", before)
    assert "attempts" not in pair.status("asked")
    pair.delete("ftj", "asked")


def test_suspend_stops_both_workers(pair: Rig) -> None:
    """Suspend takes both pods away, and setting it back makes both anew."""
    prepared(pair, "break")
    before = uids(wait_workers(pair, "break"))
    pair.patch("ftj", "break", {"spec": {"suspend": True}})
    wait(lambda: not pair.running_pods("break", "train"), "the pods to go")
    pair.wait_phase("break", "Suspended")
    pair.patch("ftj", "break", {"spec": {"suspend": False}})
    wait_workers(pair, "break", before)
    assert "attempts" not in pair.status("break")
    pair.delete("ftj", "break")


def told(rig: Rig, name: str) -> str:
    """What the job says of its waiting."""
    conditions = rig.status(name).get("conditions", [])
    return next((str(one["message"]) for one in conditions if one["type"] == "Reconciling"), "")


def bind(rig: Rig, name: str, target: str) -> None:
    """Do for a job's worker 0 what the scheduler does."""
    pods = rig.list("pods", **{"owner-name": name, "stage": "train"})
    pod = next(one["metadata"]["name"] for one in pods if one["spec"]["hostname"] == f"{name}-train-0")
    node_reference = {"apiVersion": "v1", "kind": "Node", "name": target}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": node_reference}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/binding"
    rig.api.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))


def test_two_gangs_that_hold_what_the_other_needs(pair: Rig) -> None:
    """Each of two jobs holds one of two nodes; one gives way, and both come to their training, one after the other."""
    jobs = {"left": "holding-pair-a", "right": "holding-pair-b"}
    for name in jobs:
        start(pair, name)
        pair.running_pod(name, "prepare")
    pair.api.kubectl("cordon", *jobs.values())
    for name in jobs:
        pair.end(name, "prepare", report("prepare", name))
        pair.wait_condition(name, "Reconciling", "WaitingForCapacity")
    for name, target in jobs.items():
        bind(pair, name, target)
    for name in jobs:
        wait(lambda name=name: "1 of 2 workers" in told(pair, name), f"{name} to hold one node")
    pair.api.kubectl("uncordon", *jobs.values())
    waiting = set(jobs)
    while waiting:
        name = wait(
            lambda: next((one for one in sorted(waiting) if len(pair.running_pods(one, "train")) == 2), None),
            lambda: f"a whole gang: {[pair.status(one) for one in waiting]}",
        )
        for worker in (0, 1):
            pair.end(name, "train", report("train", name), worker=worker)
        pair.wait_condition(name, "Trained")
        waiting.remove(name)
    assert all("attempts" not in pair.status(name) for name in jobs)


def test_a_gang_that_no_pool_holds(pair: Rig) -> None:
    """A pool whose nodes can never hold all workers stalls the job with what it holds."""
    start(pair, "many", workers=3)
    condition = pair.wait_condition("many", "Stalled", "NoPoolFits")
    assert "3 pods of" in condition["message"]
    assert "its 2 nodes hold 2 such pods" in condition["message"]
    assert not pair.list("pods", **{"owner-name": "many"})
