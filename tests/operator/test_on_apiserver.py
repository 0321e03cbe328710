"""The operator as a process, on a real API server with simulated nodes."""

import json
import signal
from dataclasses import replace
from typing import Any

import pytest
from operator_rig import NAMESPACE, Rig, report, wait

pytestmark = pytest.mark.apiserver

Body = dict[str, Any]


@pytest.mark.parametrize(
    ("pool", "device"), [("cpu", None), ("gpu", "nvidia.com/gpu"), ("fpga", "amd.com/xilinx_u250")]
)
def test_a_job_runs_through_on_each_class_of_pool(rig: Rig, pool: str, device: str | None) -> None:
    """A job comes to a served model, and only its train pod takes the device and its node."""
    name = f"through-{pool}"
    rig.create_job(name, compute={"pool": pool}, serve={})
    for stage in ("prepare", "train", "export"):
        pod = rig.running_pod(name, stage)
        limits = pod["spec"]["containers"][0]["resources"]["limits"]
        assert (device in limits) is (stage == "train" and device is not None)
        if stage == "train":
            assert pod["spec"]["nodeName"] == f"holding-{pool}"
        rig.end(name, stage, report(stage, name))
    status = rig.wait_phase(name, "Succeeded")
    assert status["endpoint"] == name
    assert status["dataset"]["examples"] == 10
    assert status["artifact"]["uri"] == f"pvc://{name}-workspace/export"
    endpoint = rig.wait_phase(name, "Ready", "mep")
    assert endpoint["url"] == f"http://{name}.{NAMESPACE}.svc/v1"
    assert endpoint["stable"] == {"source": f"job://{name}", "digest": f"sha256:{name}", "readyReplicas": 1}
    rig.delete("ftj", name)
    kinds = "pods,jobs,pvc,configmaps,mep,deployments,services"
    # The garbage collector looks for new kinds every 30 s, and ours are as new as the cluster.
    wait(lambda: not rig.list(kinds, **{"owner-name": name}), "garbage collection", 90)


def test_events_tell_the_story(rig: Rig) -> None:
    """Each phase is an event of the job, told once."""
    rig.create_job("told")
    rig.run_through("told")
    rig.wait_phase("told", "Succeeded")

    def reasons() -> list[str]:
        text = rig.api.kubectl(
            "get", "events", "-n", NAMESPACE, "--field-selector=involvedObject.name=told", "-o", "json"
        )
        items = [one for one in json.loads(text)["items"] if one["involvedObject"]["kind"] == "FineTuneJob"]
        return sorted(one["reason"] for one in items)

    told = {"Preparing", "Training", "Exporting", "Succeeded"}
    found = wait(lambda: reasons() if told <= set(reasons()) else None, "the events")
    assert len([reason for reason in found if reason == "Succeeded"]) == 1


def test_a_job_waits_for_the_job_that_it_reads(rig: Rig) -> None:
    """The reader is Pending until the other has exported, then mounts its workspace and runs."""
    rig.create_job("reader", dataset={"train": {"uri": "job://writer/samples.jsonl"}})
    waiting = rig.wait_condition("reader", "Reconciling", "Pending")
    assert "FineTuneJob 'writer' does not exist yet" in waiting["message"]
    rig.create_job("writer")
    assert rig.get("job", "reader-prepare") is None
    rig.run_through("writer")
    pod = rig.running_pod("reader", "prepare")
    claims = [one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["spec"]["volumes"]]
    assert "writer-workspace" in claims
    config = rig.get("configmap", "reader-config")
    assert config is not None
    inputs = json.loads(config["data"]["job.json"])["inputs"]
    assert inputs == {"job://writer/samples.jsonl": "/inputs/pvc/writer-workspace/samples.jsonl"}


def test_a_taken_name_is_left_alone(rig: Rig) -> None:
    """A Job of somebody else under a child's name stalls the FineTuneJob and is not changed by a field."""
    foreign = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "taken-prepare"},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [_restricted()]}}},
    }
    rig.apply(foreign)
    before = rig.get("job", "taken-prepare")
    rig.create_job("taken")
    condition = rig.wait_condition("taken", "Stalled", "NameConflict")
    assert "'taken-prepare'" in condition["message"]
    after = rig.get("job", "taken-prepare")
    assert before is not None
    assert after is not None
    assert (before["metadata"], before["spec"]) == (after["metadata"], after["spec"])
    rig.delete("job", "taken-prepare")
    rig.running_pod("taken", "prepare")


@pytest.mark.parametrize(("kind", "suffix"), [("configmap", "config"), ("persistentvolumeclaim", "workspace")])
def test_a_mounted_object_of_somebody_else_is_never_used(rig: Rig, kind: str, suffix: str) -> None:
    """A ConfigMap or claim under a child's name stalls the job before a pod can mount it, and stays as it is."""
    name = f"foreign-{suffix}"
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    own = {
        "configmap": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"job.json": "{}"}},
        "persistentvolumeclaim": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": claim},
    }[kind]
    rig.apply({**own, "metadata": {"name": f"{name}-{suffix}"}})
    before = rig.get(kind, f"{name}-{suffix}")
    rig.create_job(name)
    condition = rig.wait_condition(name, "Stalled", "NameConflict")
    assert f"'{name}-{suffix}'" in condition["message"]
    assert rig.get("job", f"{name}-prepare") is None
    after = rig.get(kind, f"{name}-{suffix}")
    assert before is not None
    assert after is not None
    assert "ownerReferences" not in after["metadata"]
    assert [after.get(part) for part in ("data", "spec")] == [before.get(part) for part in ("data", "spec")]


def _restricted() -> Body:
    return {"name": "c", "image": "x"}


def test_children_are_restored(rig: Rig) -> None:
    """A child that is deleted or edited by hand is as before a moment later."""
    rig.create_job("drift")
    rig.running_pod("drift", "prepare")
    old = rig.get("configmap", "drift-config")
    rig.delete("configmap", "drift-config")
    new = wait(lambda: rig.get("configmap", "drift-config"), "the ConfigMap")
    assert old is not None
    assert (old["data"], old["metadata"]["uid"] != new["metadata"]["uid"]) == (new["data"], True)
    rig.patch("job", "drift-prepare", {"metadata": {"labels": {"tunesmith.dev/stage": "other"}}})
    rig.patch("job", "drift-prepare", {"metadata": {"labels": {"tunesmith.dev/owner-kind": None}}})

    def is_restored() -> bool:
        labels = (rig.get("job", "drift-prepare") or {})["metadata"]["labels"]
        return bool(labels.get("tunesmith.dev/stage") == "prepare" and labels.get("tunesmith.dev/owner-kind"))

    wait(is_restored, "the labels of the Job")


def test_other_settings_leave_a_running_stage_alone(rig: Rig) -> None:
    """An operator with another image and environment keeps a running Job as it is, also where it restores a label."""
    rig.create_job("settled")
    before = rig.running_pod("settled", "prepare")
    rig.replica.stop()
    variables = {"HF_ENDPOINT": "https://hub.example", "TUNESMITH_ALLOWED_HOSTS": "mirror:8443"}
    other = {"TUNESMITH_TRAINER_IMAGE": "registry/trainer:2", "TUNESMITH_TRAINER_ENV": json.dumps(variables)}
    rig.replica.settings.update(other)
    try:
        rig.replica.start()
        rig.patch("job", "settled-prepare", {"metadata": {"labels": {"tunesmith.dev/stage": "other"}}})
        wait(lambda: rig.list("jobs", **{"owner-name": "settled", "stage": "prepare"}), "the label of the Job")
        after = rig.running_pod("settled", "prepare")
        assert (after["metadata"]["uid"], after["spec"]) == (before["metadata"]["uid"], before["spec"])
        rig.end("settled", "prepare", report("prepare", "settled"))
        container = rig.running_pod("settled", "train")["spec"]["containers"][0]
        assert container["image"] == "registry/trainer:2"
        assert variables.items() <= {one["name"]: one.get("value") for one in container["env"]}.items()
        assert "attempts" not in rig.status("settled")
    finally:
        rig.delete("ftj", "settled")  # its training would hold half of the only node
        rig.replica.stop()
        rig.replica.settings.clear()
        rig.replica.start()


def test_suspend_stops_and_resumes(rig: Rig) -> None:
    """Suspend takes the pod away and says so; setting it back makes a new one."""
    rig.create_job("pause")
    rig.running_pod("pause", "prepare")
    rig.patch("ftj", "pause", {"spec": {"suspend": True}})
    status = rig.wait_phase("pause", "Suspended")
    assert status["observedGeneration"] == 2
    wait(lambda: not rig.list("pods", **{"owner-name": "pause"}), "the pod to go")
    rig.patch("ftj", "pause", {"spec": {"suspend": False}})
    rig.running_pod("pause", "prepare")
    assert "attempts" not in rig.status("pause")


def test_the_deadline(rig: Rig) -> None:
    """A job that is not done at its deadline fails, and its running Job goes."""
    rig.create_job("late", activeDeadlineSeconds=3)
    rig.wait_condition("late", "Stalled", "DeadlineExceeded")
    wait(lambda: not rig.list("jobs", **{"owner-name": "late"}), "the Job to go")
    assert rig.status("late")["failure"]["category"] == "DeadlineExceeded"


def test_a_finished_job_goes_with_all_it_owns(rig: Rig) -> None:
    """TtlSecondsAfterFinished deletes the job; garbage collection leaves nothing of it."""
    rig.create_job("brief", ttlSecondsAfterFinished=2)
    failure = {"category": "BadData", "message": "row 7 has no answer", "resolution": "Mend row 7."}
    rig.end("brief", "prepare", json.dumps({"stage": "prepare", "exitCode": 65, "failure": failure}), 65)
    rig.wait_condition("brief", "Stalled", "Failed")
    wait(lambda: rig.get("ftj", "brief") is None, "the job to go")
    wait(lambda: not rig.list("pods,jobs,pvc,configmaps", **{"owner-name": "brief"}), "garbage collection")


def test_a_crash_is_retried_once_per_failure(rig: Rig) -> None:
    """A crashed stage is counted once and runs again under the same name."""
    rig.create_job("crash")
    first = rig.running_pod("crash", "prepare")
    rig.end("crash", "prepare", "Segmentation fault", 139)
    wait(lambda: rig.status("crash").get("attempts", {}).get("prepare") == 1, "the failure to be counted")
    assert rig.status("crash")["failure"]["exitCode"] == 139
    second = wait(
        lambda: [one for one in rig.list("pods", **{"owner-name": "crash"}) if one["status"]["phase"] == "Running"],
        "the next run",
    )[0]
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert rig.status("crash")["attempts"]["prepare"] == 1


@pytest.mark.parametrize(
    ("name", "spec", "reason", "words"),
    [
        ("preset", {"model": {"preset": "phi-3-mini"}}, "UnknownPreset", "phi-3-mini-4k-instruct"),
        ("queue", {"queue": {"localQueue": "team-a"}}, "NotSupported", "spec.queue"),
        ("rank", {"technique": {"type": "LoRA", "lora": {"rank": 1000}}}, "InvalidSpec", "lora.rank"),
        ("nopool", {"compute": {"pool": "tpu"}}, "PoolNotFound", "'tpu'"),
        ("huge", {"compute": {"pool": "gpu", "resources": {"memory": "100Gi"}}}, "NoPoolFits", "65536Mi"),
        ("input", {"dataset": {"train": {"uri": "configmap://rows/x"}}}, "InputNotFound", "train.jsonl"),
        ("claim", {"dataset": {"train": {"uri": "pvc://data/x"}}}, "InputNotFound", "'data'"),
    ],
)
def test_what_cannot_work_is_said(rig: Rig, name: str, spec: Body, reason: str, words: str) -> None:
    """A job that cannot work is Stalled with a reason that names what is wrong, and no pod is made."""
    rig.create_job(name, **spec)
    condition = rig.wait_condition(name, "Stalled", reason)
    assert words in condition["message"]
    assert not rig.list("pods", **{"owner-name": name})


def test_a_pool_that_comes_later_heals(rig: Rig) -> None:
    """A job that waits for a pool goes on as soon as somebody makes it."""
    rig.create_job("early", compute={"pool": "later"})
    rig.wait_condition("early", "Stalled", "PoolNotFound")
    pool = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": "later"}}
    rig.apply({**pool, "spec": {"nodeSelector": {"pool": "cpu"}}})
    try:
        rig.running_pod("early", "prepare")
    finally:
        rig.delete("ftj", "early")
        rig.delete("computepool", "later")


def test_a_full_pool_is_pending(rig: Rig) -> None:
    """A job whose train pod finds no room is Pending with the scheduler's reason."""
    for name in ("first", "second"):
        rig.create_job(name, compute={"pool": "fpga"})
        rig.end(name, "prepare", report("prepare", name))
    rig.running_pod("first", "train")
    condition = rig.wait_condition("second", "Reconciling", "WaitingForCapacity")
    assert "Insufficient amd.com/xilinx_u250" in condition["message"]
    assert rig.status("second")["phase"] == "Pending"
    rig.delete("ftj", "first")
    rig.running_pod("second", "train")
    rig.delete("ftj", "second")


def test_pools_describe_their_nodes(rig: Rig) -> None:
    """A pool says how many nodes and devices it has, and what is free."""
    status = wait(lambda: rig.status("gpu", "computepool").get("free") and rig.status("gpu", "computepool"), "the pool")
    assert status["nodes"] == 1
    assert status["capacity"]["devices"] == status["largestNode"]["devices"] == 2


@pytest.mark.parametrize("stage", ["prepare", "train", "export"])
def test_a_killed_operator_loses_nothing(rig: Rig, stage: str) -> None:
    """What ends while the operator is dead is found by the next one: no stage is lost, counted or run twice."""
    name = f"killed-{stage}"
    rig.create_job(name)
    for one in ("prepare", "train", "export"):
        rig.running_pod(name, one)
        if one == stage:
            rig.replica.stop(signal.SIGKILL)
            rig.end(name, one, report(one, name))
            rig.replica.start()
        else:
            rig.end(name, one, report(one, name))
    status = rig.wait_phase(name, "Succeeded")
    assert "attempts" not in status
    assert len(rig.list("pods", **{"owner-name": name})) == 3


def test_a_standby_takes_over(rig: Rig) -> None:
    """A second replica waits for the Lease with warm caches and goes on where a killed leader stopped."""
    wait(lambda: "tunesmith_leader 1.0" in rig.replica.metrics(), "the first leader")
    second = replace(rig.replica, name="two", port=rig.replica.port + 2, process=None)
    second.start()
    try:
        assert "tunesmith_leader 0.0" in second.metrics()
        rig.replica.stop(signal.SIGKILL)
        rig.create_job("orphaned")
        rig.running_pod("orphaned", "prepare")
        assert "tunesmith_leader 1.0" in second.metrics()
    finally:
        second.stop()
        rig.replica.start()


def test_a_lost_lease_ends_the_operator(rig: Rig) -> None:
    """A leader whose Lease is in other hands stops reconciling: its process ends with status 1."""
    wait(lambda: "tunesmith_leader 1.0" in rig.replica.metrics(), "the leader")
    process = rig.replica.process
    assert process is not None
    rig.patch("lease", "tunesmith-operator", {"spec": {"holderIdentity": "thief"}})
    try:
        assert process.wait(30) == 1
        lease = rig.get("lease", "tunesmith-operator")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == "thief"
    finally:
        rig.delete("lease", "tunesmith-operator")
        rig.replica.process = None
        rig.replica.start()


def test_metrics(rig: Rig) -> None:
    """The metrics count reconciliations, jobs by phase and the age of each watch."""
    rig.create_job("counted")
    rig.running_pod("counted", "prepare")
    text = rig.replica.metrics()
    for name in (
        'tunesmith_reconcile_total{kind="FineTuneJob"',
        'tunesmith_jobs{phase="Preparing"}',
        'tunesmith_watch_last_event_timestamp_seconds{resource="Pod"}',
        "tunesmith_queue_depth",
        "tunesmith_queue_retries_total",
    ):
        assert name in text


def test_sigterm_ends_the_operator_cleanly(rig: Rig) -> None:
    """SIGTERM ends the process with status 0 and gives the Lease back."""
    wait(lambda: "tunesmith_leader 1.0" in rig.replica.metrics(), "the leader")
    assert rig.replica.stop() == 0
    lease = rig.get("lease", "tunesmith-operator")
    assert lease is not None
    assert not lease["spec"].get("holderIdentity")
    rig.replica.start()


def test_the_operator_never_loads_torch(rig: Rig) -> None:
    """Neither torch nor transformers is mapped into the operator's process."""
    assert rig.replica.process is not None
    with open(f"/proc/{rig.replica.process.pid}/maps") as maps:  # noqa: PTH123 - procfs
        assert "torch" not in maps.read()
