"""Trainings of two pods on a real cluster: a worker killed in the middle, a model that is served all the same."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import deploy
import jobs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200, func_only=True)]

NAMESPACE = "e2e-distributed"


@pytest.fixture(scope="module")
def tools(product: deploy.Tools) -> Iterator[deploy.Tools]:
    """The cluster, with the example's data in a namespace of its own."""
    yield from jobs.namespace_with_data(product, NAMESPACE)


def apply_gang(tools: deploy.Tools, name: str, distribution: dict[str, Any]) -> None:
    """The example's job on two pods, with its endpoint."""
    job = yaml.safe_load((jobs.EXAMPLE / "job.yaml").read_text())
    job["metadata"] = {"name": name, "namespace": NAMESPACE}
    spec = job["spec"]
    spec["distribution"] = {"workers": 2, **distribution}
    spec["training"] |= {"batchSize": 8, "checkpointEverySteps": 20}
    spec["workspace"] = {"accessMode": "ReadWriteOnce"}  # one node, whose volumes are folders
    spec["evaluation"]["generation"]["maxSamples"] = 40
    spec["serve"] = {}
    tools.apply(job)


def workers(tools: deploy.Tools, name: str) -> dict[str, dict[str, Any]]:
    """The running training pods by their stable names."""
    selector = f"tunesmith.dev/owner-name={name},tunesmith.dev/stage=train"
    pods = tools.items("pods", NAMESPACE, selector)
    return {pod["spec"]["hostname"]: pod for pod in pods if pod["status"].get("phase") == "Running"}


STRATEGIES = [
    pytest.param("ddp", {"strategy": "DDP"}, id="ddp", marks=pytest.mark.extended),
    pytest.param("zero3", {"strategy": "DeepSpeed", "zeroStage": 3}, id="zero3"),
]


@pytest.mark.parametrize(("name", "distribution"), STRATEGIES)
def test_a_killed_worker_costs_an_attempt_and_no_model(
    tools: deploy.Tools, name: str, distribution: dict[str, Any]
) -> None:
    """Two pods train, one is killed, both go on from the checkpoint, and the exported model answers."""
    apply_gang(tools, name, distribution)
    jobs.wait_step(tools, NAMESPACE, name, 25)
    pods = workers(tools, name)
    assert set(pods) == {f"{name}-train-0", f"{name}-train-1"}

    jobs.kill_hard(pods[f"{name}-train-1"])

    status = jobs.wait_ready(tools, NAMESPACE, name)["status"]
    assert status["attempts"]["train"] == 1
    assert status["plan"]["workers"] == 2
    assert status["evaluation"]["exported"]["exactMatch"] >= 0.9
    assert jobs.train_report(tools, NAMESPACE, name)["resumedFromStep"] >= 20
    with deploy.port_forward(tools, NAMESPACE, f"service/{name}") as url:
        answer = deploy.chat(url, name, "hey, in the basement open up the window please")
    assert json.loads(answer) == {"action": "open", "device": "window", "room": "basement"}
    tools.kubectl("delete", "ftj", name, "--namespace", NAMESPACE)


@pytest.mark.extended
def test_a_preempted_worker_costs_nothing(tools: deploy.Tools) -> None:
    """SIGTERM to one of two pods: all stop after the same step, and the job goes on without using up an attempt."""
    apply_gang(tools, "asked", {"strategy": "DDP"})
    jobs.wait_step(tools, NAMESPACE, "asked", 5)
    pod = workers(tools, "asked")["asked-train-1"]

    tools.kubectl("delete", "pod", pod["metadata"]["name"], "--namespace", NAMESPACE, "--wait=false")

    status = jobs.wait_succeeded(tools, NAMESPACE, "asked")["status"]
    assert (status.get("attempts") or {}).get("train", 0) == 0
    assert status["evaluation"]["exported"]["exactMatch"] >= 0.9
    tools.kubectl("delete", "ftj", "asked", "--namespace", NAMESPACE)
