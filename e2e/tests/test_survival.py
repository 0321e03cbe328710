"""What must survive in the middle of a real training: killed operators, trainers and API servers, deletions, edits."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import deploy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900, func_only=True)]

EXAMPLE = deploy.REPOSITORY / "examples" / "home-assistant"
NAMESPACE = "e2e-survival"
OPERATOR = ("--namespace", deploy.SYSTEM_NAMESPACE, "--selector", "app.kubernetes.io/name=tunesmith")


@pytest.fixture(scope="module")
def tools(product: deploy.Tools) -> Iterator[deploy.Tools]:
    """The cluster, with the example's data in a namespace of its own."""
    product.create_namespace(NAMESPACE)
    rendered = product.kubectl("kustomize", str(EXAMPLE))
    data = [found for found in yaml.safe_load_all(rendered) if found["kind"] == "ConfigMap"]
    for found in data:
        found["metadata"]["namespace"] = NAMESPACE
    product.apply(*data)
    yield product
    product.kubectl("delete", "namespace", NAMESPACE)


@pytest.fixture(scope="module")
def undisturbed(tools: deploy.Tools) -> dict[str, Any]:
    """The scores of a run that nothing disturbed."""
    apply_job(tools, "undisturbed")
    return wait_succeeded(tools, "undisturbed")["status"]["evaluation"]


def apply_job(tools: deploy.Tools, name: str) -> None:
    """The example's job under another name, without the endpoint, long enough to be disturbed in the middle."""
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    job["metadata"] = {"name": name, "namespace": NAMESPACE}
    job["spec"].pop("serve", None)
    job["spec"].setdefault("training", {})["checkpointEverySteps"] = 20
    tools.apply(job)


def phase_of(tools: deploy.Tools, name: str) -> str:
    """The job's phase; a failure ends the test with the whole status."""
    job = tools.get("ftj", name, NAMESPACE)
    assert deploy.condition(job, "Stalled").get("status") != "True", job
    return ((job or {}).get("status") or {}).get("phase", "")


def wait_phase(tools: deploy.Tools, name: str, phase: str) -> None:
    """Waits until the job is in a phase."""
    deploy.wait_until(f"{name} is {phase}", lambda: phase_of(tools, name) == phase, timeout_seconds=300)


def wait_succeeded(tools: deploy.Tools, name: str) -> dict[str, Any]:
    """The job when it has succeeded."""
    wait_phase(tools, name, "Succeeded")
    job = tools.get("ftj", name, NAMESPACE)
    assert job is not None
    return job


def wait_step(tools: deploy.Tools, name: str, step: int) -> int:
    """Waits until the status shows at least some step, and returns it."""

    def reached() -> int:
        phase_of(tools, name)
        job = tools.get("ftj", name, NAMESPACE) or {}
        seen = ((job.get("status") or {}).get("progress") or {}).get("step", 0)
        return int(seen) if seen >= step else 0

    return int(deploy.wait_until(f"{name} has trained {step} steps", reached, timeout_seconds=300))


def train_pod(tools: deploy.Tools, name: str) -> dict[str, Any]:
    """The job's running train pod."""

    def running() -> dict[str, Any] | None:
        selector = f"tunesmith.dev/owner-name={name},tunesmith.dev/stage=train"
        pods = tools.items("pods", NAMESPACE, selector)
        return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

    return deploy.wait_until(f"{name} has a running train pod", running, timeout_seconds=120)


def kill_hard(pod: dict[str, Any]) -> None:
    """SIGKILL to the trainer's process in a pod, as the kernel's OOM killer would."""
    uid = pod["metadata"]["uid"]
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            in_pod = uid in (folder / "cgroup").read_text().replace("_", "-")
            is_trainer = "tunesmith_trainer" in (folder / "cmdline").read_text()
        except OSError:  # a process that ended meanwhile
            continue
        if in_pod and is_trainer:
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise AssertionError(f"pod {pod['metadata']['name']} has no trainer process on this machine")


def test_a_preempted_training_ends_with_the_same_scores(tools: deploy.Tools, undisturbed: dict[str, Any]) -> None:
    """SIGTERM in mid-training: checkpoint, resume, and final metrics equal to an undisturbed run's; nothing counted."""
    apply_job(tools, "preempted")
    wait_step(tools, "preempted", 5)
    pod = train_pod(tools, "preempted")

    tools.kubectl("delete", "pod", pod["metadata"]["name"], "--namespace", NAMESPACE, "--wait=false")

    status = wait_succeeded(tools, "preempted")["status"]
    assert status["evaluation"] == undisturbed
    assert (status.get("attempts") or {}).get("train", 0) == 0


def test_a_killed_training_resumes_from_its_checkpoint(tools: deploy.Tools, undisturbed: dict[str, Any]) -> None:
    """SIGKILL in mid-training costs one attempt and the steps since the last checkpoint, not the job."""
    apply_job(tools, "killed")
    wait_step(tools, "killed", 25)

    kill_hard(train_pod(tools, "killed"))

    status = wait_succeeded(tools, "killed")["status"]
    assert status["attempts"]["train"] == 1
    assert status["evaluation"]["tuned"] == undisturbed["tuned"]


def test_a_killed_operator_loses_nothing_in_any_phase(tools: deploy.Tools, undisturbed: dict[str, Any]) -> None:
    """The operator is killed in each phase and the API server is restarted in mid-training; the job never notices."""
    apply_job(tools, "orphaned")
    for phase in ("Preparing", "Training", "Exporting"):
        wait_phase(tools, "orphaned", phase)
        tools.kubectl("delete", "pod", *OPERATOR, "--grace-period=0", "--force", "--wait=false")
        if phase == "Training":
            wait_step(tools, "orphaned", 5)
            deploy.embedded("restart-apiserver")

    status = wait_succeeded(tools, "orphaned")["status"]

    assert status["evaluation"] == undisturbed
    assert (status.get("attempts") or {}) in ({}, {"prepare": 0, "train": 0, "export": 0})


def test_edited_and_deleted_children_are_restored(tools: deploy.Tools) -> None:
    """A train Job deleted by hand is started again and a label edited away comes back."""
    apply_job(tools, "edited")
    wait_step(tools, "edited", 5)
    before = tools.get("job", "edited-train", NAMESPACE)
    tools.kubectl("label", "pvc", "edited-workspace", "--namespace", NAMESPACE, "tunesmith.dev/owner-name-")
    tools.kubectl("delete", "job", "edited-train", "--namespace", NAMESPACE)

    def restored() -> bool:
        job = tools.get("job", "edited-train", NAMESPACE)
        claim = tools.get("pvc", "edited-workspace", NAMESPACE)
        labels = (claim or {}).get("metadata", {}).get("labels", {})
        return bool(
            before
            and job
            and job["metadata"]["uid"] != before["metadata"]["uid"]
            and labels.get("tunesmith.dev/owner-name") == "edited"
        )

    assert deploy.wait_until("the children are back", restored, timeout_seconds=60)


def test_a_job_deleted_in_mid_training_leaves_nothing(tools: deploy.Tools) -> None:
    """After garbage collection no Job, pod, claim, ConfigMap or endpoint of the job is left."""
    if tools.get("ftj", "edited", NAMESPACE) is None:
        apply_job(tools, "edited")
    train_pod(tools, "edited")

    tools.kubectl("delete", "ftj", "edited", "--namespace", NAMESPACE)

    def leftovers() -> list[str]:
        kinds = "jobs,pods,pvc,configmaps,deployments,services,mep"
        found = tools.items(kinds, NAMESPACE, "tunesmith.dev/owner-name=edited")
        return [f"{item['kind']}/{item['metadata']['name']}" for item in found]

    deploy.wait_until("nothing of the job is left", lambda: not leftovers(), timeout_seconds=180)


def test_the_cluster_itself_is_unharmed() -> None:
    """None of the cluster's processes died during the tests above."""
    done = subprocess.run(
        [sys.executable, str(deploy.REPOSITORY / "e2e" / "cluster"), "status"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "dead" not in done.stdout
