"""The plan of a FineTuneJob: stages in sequence, nothing lost, nothing twice."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_world import DATASET, World, report

from tunesmith_api import Stage
from tunesmith_api.catalog import find_preset
from tunesmith_operator.errors import InvalidError, NameConflictError, RefusedError
from tunesmith_operator.finetunejob.plan import plan
from tunesmith_operator.finetunejob.planning import Observed
from tunesmith_operator.plans import ChildName, Trouble
from tunesmith_operator.pools import Landscape, NodeFacts, Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]
JobMaker = Callable[..., Body]


@pytest.fixture
def world(job: JobMaker, images: Images, now: datetime, landscape: Landscape) -> Callable[..., World]:
    """Makes a world with one FineTuneJob."""

    def make(**spec: Any) -> World:
        return World(job(**spec), images, now, landscape)

    return make


WorldMaker = Callable[..., World]
PoolMaker = Callable[..., Pool]
NodeMaker = Callable[..., NodeFacts]


def test_stages_follow_each_other(world: WorldMaker) -> None:
    """prepare, train and export run one after the other; each result is in the status; the end is Ready."""
    one = world()
    phases = []
    one.settle()
    for _ in Stage:
        phases.append(one.status["phase"])
        one.succeed()
    assert one.started == ["prepare", "train", "export"]
    assert phases == ["Preparing", "Training", "Exporting"]
    assert one.status["phase"] == "Succeeded"
    assert one.condition("Ready")["status"] == "True"
    assert not one.condition("Reconciling")
    assert one.status["dataset"]["examples"] == 10
    assert one.status["evaluation"]["tuned"] == one.status["evaluation"]["exported"] == {"exactMatch": 1.0}
    assert len(one.status["evaluation"]["gates"]) == 2
    assert one.status["artifact"]["digest"] == "sha256:1"
    assert "finishedAt" in one.status


def test_a_result_is_written_before_the_next_stage(world: WorldMaker) -> None:
    """The plan that records a stage's result does not yet start the next stage."""
    one = world()
    one.settle()
    one.end(0, report("prepare"))
    found = one.reconcile()
    assert one.condition("Prepared")["status"] == "True"
    assert "train" not in one.started
    assert found.requeue_after == 0


@pytest.mark.parametrize("stage", list(Stage))
def test_a_done_stage_is_not_run_again(world: WorldMaker, stage: Stage) -> None:
    """A finished stage whose Job somebody deletes stays finished."""
    one = world()
    one.settle()
    for _ in Stage:
        one.succeed()
        if one.condition(dict(_DONE)[stage]):
            one.children.pop(ChildName("Job", f"bot-{stage}"), None)
        one.settle()
    assert one.started == ["prepare", "train", "export"]


def test_other_settings_hold_from_the_next_stage_on(world: WorldMaker) -> None:
    """An operator with another image and other variables follows a running stage; later stages get them."""
    one = world()
    one.settle()
    before = copy.deepcopy(one.job())
    one.images, one.trainer_env = Images("registry/trainer:2", "s"), (("HF_ENDPOINT", "https://hub.example"),)
    one.settle()
    assert one.job() == before
    one.succeed()
    (container,) = one.job()["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry/trainer:2"
    assert {"name": "HF_ENDPOINT", "value": "https://hub.example"} in container["env"]
    assert one.started == ["prepare", "train"]


def test_a_running_job_that_is_deleted_comes_back(world: WorldMaker) -> None:
    """A running stage's Job that somebody deletes is made again once its pod has ended, without counting."""
    one = world()
    one.settle()
    del one.children[ChildName("Job", "bot-prepare")]
    one.settle()
    assert one.started == ["prepare"]
    one.pods.clear()
    one.settle()
    assert one.started == ["prepare", "prepare"]
    assert "attempts" not in one.status


def test_deleted_config_and_claim_come_back(world: WorldMaker) -> None:
    """The workspace claim and the ConfigMap are restored while the job runs."""
    one = world()
    one.settle()
    for name in (ChildName("PersistentVolumeClaim", "bot-workspace"), ChildName("ConfigMap", "bot-config")):
        del one.children[name]
    one.settle()
    assert {name.kind for name in one.children} == {"PersistentVolumeClaim", "ConfigMap", "Job"}


def test_a_retryable_failure_backs_off_and_counts(world: WorldMaker) -> None:
    """A crash is counted once, the Job deleted, and the stage made again after a delay that doubles."""
    one = world(backoffLimit=2)
    one.settle()
    for attempt, delay in ((1, 5), (2, 10)):
        one.end(1, "Segmentation fault")
        one.settle()
        assert one.status["attempts"]["prepare"] == attempt
        assert one.status["failure"]["category"] == "Crashed"
        assert "Segmentation fault" in one.status["failure"]["message"]
        assert one.settle().requeue_after == pytest.approx(delay, abs=1)
        assert len(one.started) == attempt
        one.now += timedelta(seconds=delay)
        one.settle()
        assert len(one.started) == attempt + 1
    one.end(1)
    one.settle()
    assert one.status["phase"] == "Failed"
    assert one.condition("Stalled")["reason"] == "BackoffLimitExceeded"
    assert one.condition("Ready")["status"] == "False"


def test_a_preemption_does_not_count(world: WorldMaker) -> None:
    """Exit code 143 runs the stage again without using up backoffLimit."""
    one = world(backoffLimit=0)
    one.settle()
    for _ in range(5):
        one.end(143)
        one.settle()
        one.now += timedelta(seconds=61)
        one.settle()
    assert one.started == ["prepare"] * 6
    assert one.status["failure"]["category"] == "Preempted"
    assert "attempts" not in one.status
    one.succeed()
    assert "failure" not in one.status


def test_a_departed_pod_is_judged_by_its_last_words(world: WorldMaker) -> None:
    """A pod that is deleted takes its exit code with it; the operator kept it."""
    one = world(backoffLimit=0)
    one.settle()
    uid = one.job()["metadata"]["uid"]
    one.departed[uid] = (replace(one.pods[0], exit_code=143, phase="Failed"),)
    one.end(143, keep_pod=False)
    one.settle()
    assert one.status["failure"]["category"] == "Preempted"


def test_bad_data_fails_at_once(world: WorldMaker) -> None:
    """A failure that no retry can mend ends the job: Stalled, with the stage's own words."""
    one = world()
    one.settle()
    failure = {"category": "BadData", "message": "row 7 has no answer", "resolution": "Mend row 7."}
    one.end(65, report("prepare", 65, failure=failure))
    one.settle()
    assert one.status["failure"] == {**failure, "stage": "prepare", "exitCode": 65}
    assert one.condition("Stalled")["reason"] == "Failed"
    assert one.status["phase"] == "Failed"
    assert one.started == ["prepare"]


def test_a_gate_that_fails_keeps_thereport(world: WorldMaker) -> None:
    """Exit code 71 ends the job, and what was measured stays in the status."""
    one = world(serve={})
    one.settle()
    one.succeed()
    gate = {"metric": "exact_match", "value": 0.2, "passed": False, "message": "exact_match 0.2 < 0.9"}
    failure = {"category": "GateFailed", "message": gate["message"], "resolution": "Train longer."}
    evaluation = {"tuned": {"exactMatch": 0.2}, "gates": [gate]}
    one.end(71, report("train", 71, failure=failure, evaluation=evaluation))
    one.settle()
    assert one.condition("Evaluated")["status"] == "False"
    assert one.condition("Stalled")["reason"] == "GateFailed"
    assert one.status["evaluation"]["tuned"] == {"exactMatch": 0.2}
    assert not [name for name in one.children if name.kind == "ModelEndpoint"]


def test_success_without_a_report_is_not_believed(world: WorldMaker) -> None:
    """A Job that completes without the stage's report is run again, not taken for done."""
    one = world()
    one.settle()
    one.end(0, "")
    one.settle()
    assert "Prepared" not in {entry["type"] for entry in one.status["conditions"]}
    assert one.status["attempts"]["prepare"] == 1


def test_last_words_are_waited_for(world: WorldMaker) -> None:
    """A Job that has just ended is not judged before its pod's last event had time to arrive."""
    one = world()
    one.settle()
    running = one.pods[0]
    one.end(1)
    one.now -= timedelta(seconds=6)
    one.pods = [running]
    found = one.reconcile()
    assert found.requeue_after == 0.5
    assert "attempts" not in one.status


def test_suspend_and_resume(world: WorldMaker) -> None:
    """Suspend stops the running Job and starts no other; setting it back goes on."""
    one = world()
    one.settle()
    one.body["spec"]["suspend"] = True
    one.settle()
    assert one.job()["spec"]["suspend"] is True
    assert one.status["phase"] == "Suspended"
    assert not one.condition("Reconciling")
    one.body["spec"]["suspend"] = False
    one.settle()
    assert one.job()["spec"]["suspend"] is False
    assert one.status["phase"] == "Preparing"


def test_a_suspended_job_starts_nothing(world: WorldMaker) -> None:
    """A job that is created suspended is planned, and no pod is made."""
    one = world(suspend=True)
    one.settle()
    assert one.started == []
    assert one.condition("Planned")["status"] == "True"
    assert one.status["phase"] == "Suspended"


def test_the_deadline_ends_the_job(world: WorldMaker) -> None:
    """ActiveDeadlineSeconds after the start the running Job is deleted and the job fails."""
    one = world(activeDeadlineSeconds=60)
    found = one.settle()
    assert found.requeue_after == 60
    one.now += timedelta(seconds=60)
    one.settle()
    assert one.condition("Stalled")["reason"] == "DeadlineExceeded"
    assert not [name for name in one.children if name.kind == "Job"]


def test_the_time_to_live(world: WorldMaker) -> None:
    """TtlSecondsAfterFinished after the end the job deletes itself, and not before."""
    one = world(ttlSecondsAfterFinished=30)
    one.settle()
    for _ in Stage:
        one.succeed()
    found = one.settle()
    assert found.requeue_after is not None
    assert not one.deleted
    one.now += timedelta(seconds=found.requeue_after)
    assert one.reconcile().delete_self


def test_a_served_job_is_ready_with_its_endpoint(world: WorldMaker) -> None:
    """With serve the job is Deploying until the endpoint that it owns is Ready."""
    one = world(serve={"replicas": {"min": 2}})
    one.settle()
    for _ in Stage:
        one.succeed()
    assert one.status["phase"] == "Deploying"
    endpoint = one.children[ChildName("ModelEndpoint", "bot")]
    assert endpoint["spec"] == {"source": {"job": "bot"}, "replicas": {"min": 2}}
    endpoint["status"] = {"conditions": [{"type": "Ready", "status": "True", "message": "2 of 2"}]}
    one.settle()
    assert one.status["phase"] == "Succeeded"
    assert one.condition("Serving")["status"] == "True"
    endpoint["status"] = {"conditions": [{"type": "Ready", "status": "False", "message": "0 of 2"}]}
    one.settle()
    assert one.status["phase"] == "Deploying"


def test_a_missing_input_heals(world: WorldMaker) -> None:
    """An input that is not there stalls the job by name, and the job goes on once it is."""
    one = world()
    one.missing_input = "ConfigMap 'rows' does not exist"
    found = one.settle()
    assert one.condition("Stalled")["reason"] == "InputNotFound"
    assert one.status["phase"] == "Pending"
    assert found.requeue_after == 15
    one.missing_input = ""
    one.settle()
    assert not one.condition("Stalled")
    assert one.started == ["prepare"]


def test_a_full_pool_is_pending_with_the_schedulers_words(world: WorldMaker) -> None:
    """A pod that cannot be scheduled makes the job Pending with the scheduler's reason."""
    one = world()
    one.settle()
    running = one.pods[0]
    one.pods[0] = replace(running, phase="Pending", unschedulable="0/1 nodes are available: 1 Insufficient cpu.")
    one.settle()
    assert one.status["phase"] == "Pending"
    assert one.condition("Reconciling")["reason"] == "WaitingForCapacity"
    assert "Insufficient cpu. It starts by itself once a node has room" in one.condition("Ready")["message"]
    assert one.status["failure"]["category"] == "Unschedulable"
    one.pods[0] = running
    one.settle()
    assert "failure" not in one.status


def test_a_pod_that_waits_for_a_missing_secret_is_told(world: WorldMaker) -> None:
    """The operator may not read Secrets, so a pod that does not get its volumes is told with the Secrets it mounts."""
    one = world(model={"uri": "hf://acme/base", "secretRef": {"name": "hub-token"}})
    one.settle()
    one.pods[0] = replace(one.pods[0], phase="Pending", waiting_reason="ContainerCreating")
    found = one.settle()
    assert one.condition("Ready")["message"] == "prepare is being started."
    assert found.requeue_after == 60
    one.now += timedelta(seconds=60)
    one.settle()
    assert "It mounts the Secrets hub-token, which must exist." in one.condition("Ready")["message"]


def test_an_image_that_cannot_be_pulled(world: WorldMaker) -> None:
    """A pod that cannot start says why in failure, and the failure goes when it starts."""
    one = world()
    one.settle()
    running = one.pods[0]
    one.pods[0] = replace(running, phase="Pending", waiting_reason="ImagePullBackOff", waiting_message="no such tag")
    one.settle()
    assert one.status["failure"]["category"] == "ImagePull"
    assert "no such tag" in one.status["failure"]["message"]
    one.pods[0] = running
    one.settle()
    assert "failure" not in one.status


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"model": {"preset": "phi-3-mini"}}, "UnknownPreset", "phi-3-mini-4k-instruct"),
        (
            {"technique": {"type": "PEFT", "peft": {"method": "IA3", "config": {"r": 4}}}},
            "InvalidSpec",
            "IA3 has no such",
        ),
        ({"dataset": {"train": {"uri": "file:///rows.jsonl"}}}, "NotSupported", "spec.dataset.train.uri"),
        ({"dataset": {"train": {"uri": "configmap://rows"}}}, "InvalidSpec", "configmap://name/key"),
        ({"technique": {"type": "LoRA", "lora": {"rank": 1000}}}, "InvalidSpec", "spec.technique.lora.rank"),
        ({"compute": {"pool": "tpu"}}, "PoolNotFound", "'tpu'"),
        ({"compute": {"resources": {"memory": "2Ti"}}}, "NoPoolFits", "2097152Mi"),
        ({"queue": {"localQueue": "a"}}, "NotSupported", "spec.queue"),
    ],
)
def test_what_cannot_work_is_said(world: WorldMaker, spec: Body, reason: str, words: str) -> None:
    """A spec that cannot work stalls before anything is created, and the message names the field."""
    one = world(**spec)
    one.settle()
    assert one.condition("Stalled")["reason"] == reason
    assert words in one.condition("Stalled")["message"]
    assert one.children == {}


@pytest.mark.parametrize(
    ("error", "kind", "reason", "words"),
    [
        (NameConflictError("Job", "bot-prepare"), "Stalled", "NameConflict", "Job 'bot-prepare' exists"),
        (InvalidError("metadata.name: too long", 422), "Stalled", "InvalidSpec", "metadata.name: too long"),
        (RefusedError("denied by policy", 403), "Stalled", "Refused", "denied by policy"),
        (RefusedError("exceeded quota: small", 403), "Reconciling", "WaitingForCapacity", "exceeded quota: small"),
    ],
)
def test_a_child_that_cannot_be_made_is_said(world: WorldMaker, error: Any, kind: str, reason: str, words: str) -> None:
    """What keeps a child from being made is told, what passes by itself as waiting; it is looked at again."""
    one = world()
    one.trouble = Trouble.of(error)
    found = one.settle()
    assert one.condition(kind)["reason"] == reason
    assert words in one.condition("Ready")["message"]
    assert found.requeue_after == 15


def test_progress_is_shown(world: WorldMaker, images: Images) -> None:
    """What the training pod says is in the status while it runs."""
    one = world()
    one.settle()
    one.succeed()
    observed = Observed(
        children=one.children, pods=tuple(one.pods), landscape=one.landscape, progress={"step": 2, "totalSteps": 9}
    )
    found = plan(one.body, observed, one.now, images)
    assert found.status is not None
    assert found.status["progress"] == {"step": 2, "totalSteps": 9}


def test_the_generation_is_observed(world: WorldMaker) -> None:
    """ObservedGeneration follows the generation, also after the end."""
    one = world()
    one.settle()
    for _ in Stage:
        one.succeed()
    one.body["metadata"]["generation"] = 2
    one.settle()
    assert one.status["observedGeneration"] == 2


OUTCOMES = st.sampled_from(
    ["succeed", "crash", "preempt", "evict", "silent", "suspend", "delete-job", "restart", "wait"]
)


@settings(max_examples=60, deadline=None)
@given(outcomes=st.lists(OUTCOMES, max_size=25))
def test_whatever_happens_nothing_is_lost_or_run_twice(outcomes: list[str]) -> None:
    """Plans come to rest, are idempotent, keep the order, and count failures, whatever ends, pauses or restarts."""
    one = _fresh_world()
    one.settle()
    done: set[str] = set()
    for outcome in outcomes:
        _let(one, outcome)
        one.settle()
        before = copy.deepcopy((one.body, one.children))
        one.reconcile()
        assert before == (one.body, one.children)
        running = [name.name for name, live in one.children.items() if name.kind == "Job" and "status" not in live]
        assert not {f"bot-{stage}" for stage in done}.intersection(running)
        done |= {stage for stage, kind in _DONE if one.condition(kind).get("status") == "True"}
        assert all(count <= 4 for count in one.status.get("attempts", {}).values())
    order = [stage for index, stage in enumerate(one.started) if index == 0 or one.started[index - 1] != stage]
    assert order == ["prepare", "train", "export"][: len(order)]


_DONE = (("prepare", "Prepared"), ("train", "Trained"), ("export", "Exported"))


def _fresh_world() -> World:
    body = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "bot", "namespace": "team", "uid": "uid-bot", "generation": 1},
        "spec": {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://rows/a"}}},
        "status": {},
    }
    node = NodeFacts("n", {}, (), schedulable=True, allocatable={"cpu": "4", "memory": "16Gi"})
    return World(body, Images("t", "s"), datetime(2026, 1, 1, tzinfo=UTC), Landscape(nodes=(node,)))


def _let(one: World, outcome: str) -> None:
    live = [child for name, child in one.children.items() if name.kind == "Job" and "status" not in child]
    if outcome == "suspend":
        one.body["spec"]["suspend"] = not one.body["spec"].get("suspend", False)
    elif outcome == "restart":
        one.departed.clear()
    elif outcome == "wait" or not live:
        one.now += timedelta(seconds=400)
    elif outcome == "delete-job":
        one._delete(live[-1])
    elif outcome == "succeed":
        one.end(0, report(one.started[-1]))
    elif outcome == "silent":
        one.end(0, "", keep_pod=False)
    elif outcome == "evict":
        one.end(137, keep_pod=False)
    else:
        one.end({"crash": 1, "preempt": 143}[outcome])


def test_a_running_stage_outlives_its_pool(world: WorldMaker, pool: PoolMaker, node: NodeMaker) -> None:
    """When its pool is deleted, a running stage is followed to its end; no other starts until the pool is back."""
    one = world()
    one.landscape = here = Landscape((pool("cpu"),), (node(),))
    one.settle()
    one.landscape = Landscape((pool("other"),), (node(),))
    one.settle()
    assert one.condition("Reconciling")["reason"] == "Running"
    one.succeed()
    assert one.condition("Prepared")["status"] == "True"
    assert (one.started, one.condition("Stalled")["reason"]) == (["prepare"], "PoolNotFound")
    one.landscape = here
    one.settle()
    assert (one.started, one.condition("Stalled")) == (["prepare", "train"], {})


def test_a_deadline_holds_without_the_pool(world: WorldMaker, pool: PoolMaker, node: NodeMaker) -> None:
    """A job that waits for its pool to come back fails at its deadline."""
    one = world(activeDeadlineSeconds=60)
    one.landscape = Landscape((pool("cpu"),), (node(),))
    one.settle()
    one.landscape = Landscape((pool("other"),), (node(),))
    one.now += timedelta(seconds=61)
    one.settle()
    assert one.status["failure"]["category"] == "DeadlineExceeded"


def test_a_model_that_no_node_can_export_is_not_planned(world: WorldMaker, node: NodeMaker) -> None:
    """Memory that only the export needs is looked for before anything is spent."""
    one = world(
        model={"preset": "phi-3-mini-4k-instruct"},
        technique={"type": "QLoRA"},
        compute={"resources": {"memory": "8Gi"}},
    )
    one.landscape = Landscape(nodes=(node(memory="16Gi"),))
    one.settle()
    assert one.condition("Stalled")["reason"] == "NoPoolFits"
    assert "has room for the training" in one.condition("Stalled")["message"]
    assert not one.children
    one.landscape = Landscape(nodes=(node(memory="16Gi"), node(memory="128Gi")))
    one.settle()
    assert one.started == ["prepare"]


def test_a_model_by_uri_gets_its_plan_before_the_training(world: WorldMaker, node: NodeMaker, pool: PoolMaker) -> None:
    """Prepare runs in the dark; then technique, pool and memory are planned, also on a pool that is made meanwhile."""
    one = world(model={"uri": "hf://org/model"}, training={"batchSize": 1, "maxSequenceLength": 512})
    one.landscape = Landscape((pool("small"),), (node(memory="16Gi"),))
    one.settle()
    assert one.status["plan"]["technique"] == "LoRA"
    assert "memoryBytes" not in one.status["plan"]
    numbers = find_preset("phi-3-mini-4k-instruct").architecture.wire()
    one.end(0, json.dumps({"stage": "prepare", "exitCode": 0, "dataset": DATASET, "model": numbers}))
    one.settle()
    assert one.condition("Stalled")["reason"] == "NoPoolFits"
    assert one.started == ["prepare"]
    one.landscape = Landscape((pool("small"), pool("large")), (node(memory="16Gi"), node("more", memory="1Ti")))
    one.settle()
    assert one.started == ["prepare", "train"]
    plan = one.status["plan"]
    assert plan["technique"] == "rsLoRA-r64"
    assert plan["memoryBytes"] > 2**30
    assert not [reason for reason in plan["reasons"] if "not known yet" in reason]
    [config] = [child for name, child in one.children.items() if name.kind == "ConfigMap"]
    assert json.loads(config["data"]["job.json"])["spec"]["technique"]["lora"]["rankStabilized"] is True
    volumes = one.job()["spec"]["template"]["spec"]["volumes"]
    assert config["metadata"]["name"] in [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]


@pytest.mark.parametrize(
    "other", ["bot-train", "bot-config-unsized", "bot-prepare", "bot-workspace", "bot-config", "bot-server", "b"]
)
def test_two_jobs_never_share_a_child(world: WorldMaker, other: str) -> None:
    """Jobs of any two names, also of those that look like another's children, have no child in common."""
    made: list[set[ChildName]] = []
    for name in ("bot", other):
        one = world(name=name, distribution={"workers": 2}, serve={})
        one.settle()
        seen = set(one.children)
        for _ in Stage:
            one.succeed()
            seen |= set(one.children)
        made.append(seen)
    assert {name.kind for name in made[0]} >= {"Job", "ConfigMap", "PersistentVolumeClaim", "Service", "ModelEndpoint"}
    assert not made[0] & made[1]
