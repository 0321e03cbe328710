"""What must survive in the middle of a real training: killed operators, trainers and API servers, deletions, edits."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

import deploy
import jobs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900, func_only=True)]

NAMESPACE = "e2e-survival"
OPERATOR = ("--namespace", deploy.SYSTEM_NAMESPACE, "--selector", "app.kubernetes.io/name=tunesmith")


@pytest.fixture(scope="module")
def tools(product: deploy.Tools) -> Iterator[deploy.Tools]:
    """The cluster, with the example's data in a namespace of its own."""
    yield from jobs.namespace_with_data(product, NAMESPACE)


@dataclass(frozen=True)
class Watched:
    """A run that nothing disturbed.

    Attributes:
        scores: its evaluation.
        ages: how old its progress was, in seconds, at each look at its status while it trained.
    """

    scores: dict[str, Any]
    ages: list[float]


@pytest.fixture(scope="module")
def watched(tools: deploy.Tools) -> Watched:
    """A run that nothing disturbed, looked at every second."""
    apply_job(tools, "undisturbed")
    jobs.wait_step(tools, NAMESPACE, "undisturbed", 1)
    ages = []
    while jobs.phase_of(tools, NAMESPACE, "undisturbed") == "Training":
        ages.append(jobs.progress_age(tools, NAMESPACE, "undisturbed"))
        time.sleep(1)
    return Watched(jobs.wait_succeeded(tools, NAMESPACE, "undisturbed")["status"]["evaluation"], ages)


@pytest.fixture(scope="module")
def undisturbed(watched: Watched) -> dict[str, Any]:
    """The scores of a run that nothing disturbed."""
    return watched.scores


def test_progress_is_at_most_15_seconds_old(watched: Watched) -> None:
    """Whenever somebody looks at the status of a running training, it is as young as promised."""
    assert len(watched.ages) >= 5
    assert max(watched.ages) <= 15


def apply_job(tools: deploy.Tools, name: str, **spec: Any) -> None:
    """The example's job under another name, without the endpoint, long enough to be disturbed in the middle."""
    job = yaml.safe_load((jobs.EXAMPLE / "job.yaml").read_text())
    job["metadata"] = {"name": name, "namespace": NAMESPACE}
    job["spec"].pop("serve", None)
    job["spec"]["training"] |= {"maxSteps": 160, "checkpointEverySteps": 20}
    job["spec"]["evaluation"] = {"generation": {"maxSamples": 20, "maxNewTokens": 48}}
    job["spec"].update(spec)
    tools.apply(job)


def test_a_preempted_training_ends_with_the_same_scores(tools: deploy.Tools, undisturbed: dict[str, Any]) -> None:
    """SIGTERM in mid-training: checkpoint, resume, and final metrics equal to an undisturbed run's; nothing counted."""
    apply_job(tools, "preempted")
    jobs.wait_step(tools, NAMESPACE, "preempted", 5)
    pod = jobs.train_pod(tools, NAMESPACE, "preempted")

    tools.kubectl("delete", "pod", pod["metadata"]["name"], "--namespace", NAMESPACE, "--wait=false")

    status = jobs.wait_succeeded(tools, NAMESPACE, "preempted")["status"]
    assert status["evaluation"] == undisturbed
    assert (status.get("attempts") or {}).get("train", 0) == 0


def test_a_killed_training_resumes_from_its_checkpoint(tools: deploy.Tools, undisturbed: dict[str, Any]) -> None:
    """SIGKILL in mid-training costs one attempt and the steps since the last checkpoint, not the job."""
    apply_job(tools, "killed")
    jobs.wait_step(tools, NAMESPACE, "killed", 25)

    jobs.kill_hard(jobs.train_pod(tools, NAMESPACE, "killed"))

    status = jobs.wait_succeeded(tools, NAMESPACE, "killed")["status"]
    assert status["attempts"]["train"] == 1
    assert status["evaluation"]["tuned"] == undisturbed["tuned"]


def test_a_killed_operator_loses_nothing_in_any_phase(tools: deploy.Tools, undisturbed: dict[str, Any]) -> None:
    """The operator is killed in each phase and the API server is restarted in mid-training; the job never notices."""
    apply_job(tools, "orphaned", serve={})
    for phase in ("Preparing", "Training", "Exporting", "Deploying"):
        jobs.wait_phase(tools, NAMESPACE, "orphaned", phase)
        tools.kubectl("delete", "pod", *OPERATOR, "--grace-period=0", "--force", "--wait=false")
        if phase == "Training":
            jobs.wait_step(tools, NAMESPACE, "orphaned", 5)
            deploy.embedded("restart-apiserver")

    status = jobs.wait_ready(tools, NAMESPACE, "orphaned")["status"]

    assert status["evaluation"] == undisturbed
    assert (status.get("attempts") or {}) in ({}, {"prepare": 0, "train": 0, "export": 0})


def test_edited_and_deleted_children_are_restored(tools: deploy.Tools) -> None:
    """A train Job deleted by hand is started again and a label edited away comes back."""
    apply_job(tools, "edited")
    jobs.wait_step(tools, NAMESPACE, "edited", 5)
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
    jobs.train_pod(tools, NAMESPACE, "edited")

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
