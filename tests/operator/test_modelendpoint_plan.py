"""The plan of a ModelEndpoint: what it serves, what it waits for, what it says."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from tunesmith_api import ModelEndpointStatus, Reason
from tunesmith_operator.modelendpoint.plan import PROVIDERS_SECONDS, RECHECK_SECONDS, Observed, plan
from tunesmith_operator.plans import ChildName, Plan, Trouble, child_name
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.pools import Landscape, NodeFacts, Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]
DEPLOYMENT = ChildName("Deployment", "chat-server")
GATE = {"metric": "exact_match", "value": 1, "passed": True, "message": "exact_match 1 >= 0.9"}


@dataclass
class World:
    """A cluster that does what plans say."""

    body: Body
    images: Images
    now: datetime
    landscape: Landscape
    jobs: list[Body] = field(default_factory=list)
    children: dict[ChildName, Body] = field(default_factory=dict)
    pods: list[PodFacts] = field(default_factory=list)
    observed: Body = field(default_factory=dict)

    def reconcile(self) -> Plan:
        """Plan once and do what the plan says."""
        observed = Observed(dict(self.children), tuple(self.pods), tuple(self.jobs), self.landscape, **self.observed)
        found = plan(copy.deepcopy(self.body), observed, self.now, self.images)
        assert found.status is not None
        ModelEndpointStatus.model_validate(found.status)
        self.body["status"] = found.status
        for child in found.apply:
            self._apply(child)
        for child in found.delete:
            del self.children[child_name(child)]
        return found

    def _apply(self, child: Body) -> None:
        live = copy.deepcopy(child)
        before = self.children.get(child_name(child), {"metadata": {"generation": 0}, "status": {}})
        changed = before.get("spec") != live["spec"]
        live["metadata"]["generation"] = before["metadata"]["generation"] + int(changed)
        live["status"] = before["status"]
        self.children[child_name(child)] = live

    def deployment(self) -> Body:
        """The live Deployment."""
        return self.children[DEPLOYMENT]

    def template(self) -> Body:
        """Its pod template."""
        found: Body = self.deployment()["spec"]["template"]
        return found

    def roll_out(self) -> None:
        """Let the Deployment come to where its spec wants it."""
        live = self.deployment()
        count = live["spec"]["replicas"]
        live["status"] = {
            "observedGeneration": live["metadata"]["generation"],
            **dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), count),
        }
        self.pods = [PodFacts(f"pod-{number}", "chat", phase="Running", ready=True) for number in range(count)]

    def serve(self) -> None:
        """Bring the endpoint up."""
        self.reconcile()
        self.roll_out()
        self.reconcile()
        assert self.condition("Ready")["status"] == "True"

    def condition(self, kind: str) -> Body:
        """A condition, or nothing."""
        found = {one["type"]: one for one in self.body["status"]["conditions"]}
        return found.get(kind, {})


@pytest.fixture
def world(images: Images, now: datetime, landscape: Landscape) -> Callable[..., World]:
    """Makes an endpoint of a claim, or of another source; keyword arguments go over the spec."""

    def make(*, generation: int = 1, **spec: Any) -> World:
        metadata = {"name": "chat", "namespace": "team", "uid": "u", "generation": generation}
        whole = {"source": {"uri": "pvc://models/bot"}, **spec}
        body = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": metadata, "spec": whole}
        return World(body, images, now, landscape)

    return make


@pytest.fixture
def tuned(job: Callable[..., Body]) -> Callable[..., Body]:
    """Makes a FineTuneJob that has exported a model."""

    def make(name: str, finished: str = "2026-01-01T00:00:00Z", *, passed: bool = True, **labels: str) -> Body:
        status = {
            "phase": "Succeeded" if passed else "Failed",
            "finishedAt": finished,
            "conditions": [{"type": "Exported", "status": "True"}],
            "evaluation": {"gates": [GATE, {**GATE, "passed": passed}]},
            "artifact": {"uri": f"pvc://{name}-workspace/export", "digest": f"sha256:{name}", "sizeBytes": 2**30},
        }
        body = job(name, status=status)
        body["metadata"]["labels"] = labels
        return body

    return make


def test_a_job_is_waited_for(world: Callable[..., World], job: Callable[..., Body], tuned: Callable[..., Body]) -> None:
    """Until its job has a model the endpoint is Pending without children, and says what it waits for."""
    one = world(source={"job": "bot"})
    one.reconcile()
    assert (one.body["status"]["phase"], one.children) == ("Pending", {})
    assert one.condition("Reconciling")["reason"] == "WaitingForModel"
    assert "'bot' does not exist yet" in one.condition("Ready")["message"]
    one.jobs = [job("bot", status={"phase": "Training"})]
    one.reconcile()
    assert "it is Training" in one.condition("Ready")["message"]
    one.jobs = [tuned("bot", passed=False)]
    one.reconcile()
    assert one.children == {}
    one.jobs = [tuned("bot")]
    one.reconcile()
    volume = one.template()["spec"]["volumes"][0]
    assert volume["persistentVolumeClaim"] == {"claimName": "bot-workspace", "readOnly": True}
    assert one.body["status"]["stable"] == {"source": "job://bot", "digest": "sha256:bot", "readyReplicas": 0}


def test_an_adapter_is_not_served(world: Callable[..., World], tuned: Callable[..., Body]) -> None:
    """A job that exported an adapter gives no model, neither by its name nor as the newest with a label."""
    adapter = tuned("bot", team="a")
    adapter["spec"]["export"] = {"format": "Adapter"}
    for source in ({"job": "bot"}, {"latest": {"matchLabels": {"team": "a"}}}):
        one = world(source=source)
        one.jobs = [adapter]
        one.reconcile()
        assert one.children == {}
    one = world(source={"job": "bot"})
    one.jobs = [adapter]
    one.reconcile()
    assert "exports Adapter" in one.condition("Ready")["message"]


def test_the_newest_matching_job_takes_over(world: Callable[..., World], tuned: Callable[..., Body]) -> None:
    """Of the matching jobs with passed gates the one that finished last is served, and a newer one changes the pods."""
    one = world(source={"latest": {"matchLabels": {"bot": "support"}}})
    one.jobs = [
        tuned("old", "2026-01-01T00:00:00Z", bot="support"),
        tuned("other", "2026-01-09T00:00:00Z", bot="sales"),
        tuned("bad", "2026-01-08T00:00:00Z", passed=False, bot="support"),
        tuned("new", "2026-01-02T00:00:00Z", bot="support", extra="label"),
    ]
    one.serve()
    first = one.template()
    assert first["metadata"]["annotations"]["tunesmith.dev/model-digest"] == "sha256:new"
    one.jobs.append(tuned("newest", "2026-01-03T00:00:00Z", bot="support"))
    one.reconcile()
    assert one.template()["metadata"]["annotations"]["tunesmith.dev/model-digest"] == "sha256:newest"
    assert one.template()["spec"]["volumes"] != first["spec"]["volumes"]
    assert one.deployment()["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_a_job_that_is_deleted_is_not_chosen(world: Callable[..., World], tuned: Callable[..., Body]) -> None:
    """A job that is going takes its model along: the next newest is served."""
    one = world(source={"latest": {"matchLabels": {"bot": "support"}}})
    going = tuned("going", "2026-01-05T00:00:00Z", bot="support")
    going["metadata"]["deletionTimestamp"] = "2026-01-05T00:00:01Z"
    one.jobs = [going, tuned("left", bot="support")]
    one.reconcile()
    assert one.body["status"]["stable"]["source"] == "job://left"


def test_no_match_names_the_labels(world: Callable[..., World]) -> None:
    """An endpoint without a matching job says which labels it looks for."""
    one = world(source={"latest": {"matchLabels": {"b": "2", "a": "1"}}})
    one.reconcile()
    assert "the labels a=1, b=2" in one.condition("Ready")["message"]


def test_a_model_that_goes_leaves_the_servers(world: Callable[..., World], tuned: Callable[..., Body]) -> None:
    """An endpoint whose job is gone keeps what it has: it is Degraded, answers, and deletes nothing."""
    one = world(source={"job": "bot"})
    one.jobs = [tuned("bot")]
    one.serve()
    one.jobs = []
    found = one.reconcile()
    assert (found.apply, found.delete) == ((), ())
    assert one.body["status"]["phase"] == "Degraded"
    assert one.condition("Serving")["status"] == "True"


def test_ready_speaks_of_the_present_spec(world: Callable[..., World]) -> None:
    """A spec that has just changed is not Ready by the old Deployment's numbers."""
    one = world()
    one.serve()
    assert one.body["status"]["phase"] == "Ready"
    one.body["spec"]["replicas"] = {"min": 3}
    one.body["metadata"]["generation"] = 2
    one.reconcile()
    assert one.condition("Ready")["status"] == "False"
    assert one.condition("Reconciling")["reason"] == "RollingOut"
    assert one.body["status"]["observedGeneration"] == 2
    one.roll_out()
    one.reconcile()
    assert one.condition("Ready")["status"] == "True"
    assert one.condition("Reconciling") == {}


def test_a_field_that_the_pool_drops_is_a_change(
    world: Callable[..., World], pool: Callable[..., Pool], node: Callable[..., NodeFacts]
) -> None:
    """A toleration that a pool no longer has makes the Deployment another one, though nothing stated differs."""
    one = world()
    tainted = pool("cpu", tolerations=[{"key": "a", "operator": "Exists"}])
    one.landscape = Landscape((tainted,), (node(),))
    one.serve()
    before = one.deployment()["metadata"]["annotations"]
    one.landscape = Landscape((pool("cpu"),), (node(),))
    one.reconcile()
    assert "tolerations" not in one.template()["spec"]
    assert one.deployment()["metadata"]["annotations"] != before
    assert one.condition("Ready")["status"] == "False"


def test_stable_stays_until_the_new_model_answers(world: Callable[..., World], tuned: Callable[..., Body]) -> None:
    """While a new model rolls out, or does not come up, status.stable names the one that answers."""
    one = world(source={"latest": {"matchLabels": {"bot": "support"}}})
    one.jobs = [tuned("old", bot="support")]
    one.serve()
    one.jobs.append(tuned("new", "2026-01-02T00:00:00Z", bot="support"))
    one.reconcile()
    one.pods.append(
        PodFacts("new", "chat", waiting_reason="CrashLoopBackOff", waiting_message="back-off", created_at="2")
    )
    one.reconcile()
    assert one.body["status"]["stable"] == {"source": "job://old", "digest": "sha256:old", "readyReplicas": 1}
    assert one.condition("Ready")["reason"] == "Unavailable"
    assert "CrashLoopBackOff" in one.condition("Ready")["message"]
    assert one.body["status"]["phase"] == "Degraded"
    one.roll_out()
    one.reconcile()
    assert one.body["status"]["stable"] == {"source": "job://new", "digest": "sha256:new", "readyReplicas": 1}


def test_the_last_words_of_a_server_are_told(world: Callable[..., World]) -> None:
    """The message of a server that does not start ends with what its container said last."""
    one = world()
    one.reconcile()
    broken = PodFacts("p", "chat", waiting_reason="CrashLoopBackOff", last_exit_message="no provider CUDA\n")
    one.pods = [broken]
    one.reconcile()
    assert one.condition("Ready")["message"].endswith("no provider CUDA")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"waiting_reason": "ImagePullBackOff", "waiting_message": "no such tag"}, "Check the image's name"),
        ({"waiting_reason": "ErrImageNeverPull", "waiting_message": "not present"}, "Check the image's name"),
        ({"waiting_reason": "RunContainerError", "waiting_message": "no such file"}, "Read the pod's events"),
        (
            {"waiting_reason": "CrashLoopBackOff", "last_exit_reason": "OOMKilled", "memory_limit": "1Gi"},
            "more memory than its limit of 1Gi and was killed (OOMKilled). Raise compute.resources.memory",
        ),
        ({"exit_code": 137, "exit_reason": "OOMKilled"}, "lower runtime.maxConcurrency or runtime.maxContext"),
    ],
)
def test_a_server_that_cannot_start_says_what_helps(world: Callable[..., World], facts: Body, words: str) -> None:
    """A server that does not start makes the endpoint Degraded, with what the node says and a way out."""
    one = world()
    one.reconcile()
    one.pods = [PodFacts("p", "chat", **facts)]
    one.reconcile()
    assert one.condition("Reconciling")["reason"] == "Unavailable"
    assert words in one.condition("Ready")["message"]


def test_a_full_pool_is_waited_for(world: Callable[..., World]) -> None:
    """A server that finds no node is told by the scheduler's words."""
    one = world()
    one.reconcile()
    one.pods = [PodFacts("p", "chat", unschedulable="0/1 nodes are available")]
    one.reconcile()
    assert one.condition("Reconciling")["reason"] == "WaitingForCapacity"
    assert one.condition("Ready")["message"].startswith("0/1 nodes are available ")


@pytest.mark.parametrize(
    ("spec", "observed", "reason", "words"),
    [
        ({}, {"missing_claim": "models"}, "InputNotFound", "'models'"),
        ({}, {"trouble": Trouble(Reason.NAME_CONFLICT, "Service 'chat' exists")}, "NameConflict", "Service 'chat'"),
        ({}, {"trouble": Trouble(Reason.INVALID_SPEC, "spec.ports: too many")}, "InvalidSpec", "spec.ports"),
        ({"source": {"uri": "s3://bucket/model"}}, {}, "NotSupported", "spec.source.uri"),
        ({"source": {"uri": "pvc://"}}, {}, "InvalidSpec", "spec.source"),
        ({"source": {}}, {}, "InvalidSpec", "spec.source"),
        ({"adapters": [{"name": "a", "uri": "hf://a/b"}]}, {}, "NotSupported", "spec.adapters"),
        ({"rollout": {"strategy": "Canary"}}, {}, "NotSupported", "spec.rollout.strategy"),
        ({"rollout": {"analysis": {"maxErrorRate": 0.1}}}, {}, "NotSupported", "spec.rollout.analysis"),
        ({"runtime": {"precision": "Fast"}}, {}, "NotSupported", "spec.runtime.precision"),
        ({"compute": {"pool": "tpu"}}, {}, "PoolNotFound", "'tpu'"),
        ({"compute": {"resources": {"memory": "1Ti"}}}, {}, "NoPoolFits", "32768Mi"),
    ],
)
def test_what_cannot_work_is_said(
    world: Callable[..., World], spec: Body, observed: Body, reason: str, words: str
) -> None:
    """What needs a person is Stalled with its reason, makes nothing, and is looked at again."""
    one = world(**spec)
    one.observed = observed
    found = one.reconcile()
    assert one.condition("Stalled")["reason"] == reason
    assert words in one.condition("Stalled")["message"]
    assert one.condition("Reconciling") == {}
    assert (one.children, found.requeue_after) == ({}, RECHECK_SECONDS)
    assert one.body["status"]["phase"] == "Failed"


def test_a_cured_problem_is_forgotten(world: Callable[..., World]) -> None:
    """Once the claim exists nothing is Stalled any more, and the servers are made."""
    one = world()
    one.observed = {"missing_claim": "models"}
    one.reconcile()
    one.observed = {}
    one.reconcile()
    assert one.condition("Stalled") == {}
    assert DEPLOYMENT in one.children


def test_the_status(world: Callable[..., World]) -> None:
    """The status has what clients and the scale subresource read."""
    one = world()
    one.serve()
    status = one.body["status"]
    assert status["url"] == "http://chat.team.svc/v1"
    assert status["selector"] == "tunesmith.dev/owner-kind=ModelEndpoint,tunesmith.dev/owner-name=chat"
    assert status["replicas"] == 1
    assert status["stable"] == {"source": "pvc://models/bot", "readyReplicas": 1}
    one.pods[0] = replace(one.pods[0], deleting=True)
    one.reconcile()
    assert one.body["status"]["replicas"] == one.body["status"]["stable"]["readyReplicas"] == 0


def test_providers_are_asked_until_they_are_known(world: Callable[..., World]) -> None:
    """A ready endpoint is looked at again until a server has told its providers; they go with the last server."""
    one = world()
    one.serve()
    assert one.reconcile().requeue_after == PROVIDERS_SECONDS
    one.observed = {"providers": ("CPUExecutionProvider",)}
    assert one.reconcile().requeue_after is None
    assert one.body["status"]["activeProviders"] == ["CPUExecutionProvider"]
    one.observed = {}
    one.reconcile()
    assert one.body["status"]["activeProviders"] == ["CPUExecutionProvider"]
    one.pods = []
    one.reconcile()
    assert "activeProviders" not in one.body["status"]


def test_no_servers_at_all(world: Callable[..., World]) -> None:
    """Zero replicas is a state of rest: Ready, serving nothing, asking nobody."""
    one = world(replicas={"min": 0})
    one.serve()
    assert one.deployment()["spec"]["replicas"] == 0
    assert one.condition("Serving")["status"] == "False"
    assert "replicas.min is 0" in one.condition("Ready")["message"]
    assert one.reconcile().requeue_after is None


SCALER = ChildName("HorizontalPodAutoscaler", "chat-server")
BUDGET = ChildName("PodDisruptionBudget", "chat-server")


def test_the_autoscaler_is_not_fought(world: Callable[..., World]) -> None:
    """With an autoscaler the Deployment keeps its number, within the bounds of the spec."""
    one = world(replicas={"min": 2, "max": 5})
    one.reconcile()
    assert {SCALER, BUDGET} <= set(one.children)
    assert one.deployment()["spec"]["replicas"] == 2
    for live, kept in ((4, 4), (0, 2), (9, 5)):
        one.deployment()["spec"]["replicas"] = live
        one.reconcile()
        assert one.deployment()["spec"]["replicas"] == kept


def test_an_autoscaler_that_goes(world: Callable[..., World]) -> None:
    """Without max the autoscaler goes and the spec's number counts; below two servers the budget goes too."""
    one = world(replicas={"min": 2, "max": 5})
    one.reconcile()
    one.deployment()["spec"]["replicas"] = 4
    one.body["spec"]["replicas"] = {"min": 1}
    one.reconcile()
    assert one.deployment()["spec"]["replicas"] == 1
    assert set(one.children) == {DEPLOYMENT, ChildName("Service", "chat")}


def test_an_autoscaled_endpoint_wakes_up(world: Callable[..., World]) -> None:
    """From zero to an autoscaled range the operator makes the first servers: an autoscaler leaves zero alone."""
    one = world(replicas={"min": 0})
    one.serve()
    one.body["spec"]["replicas"] = {"min": 1, "max": 3}
    one.reconcile()
    assert one.deployment()["spec"]["replicas"] == 1


@pytest.fixture
def pools(pool: Callable[..., Pool], node: Callable[..., NodeFacts]) -> Landscape:
    """Two CPU pools and a GPU pool with one node each."""
    gpu = {"class": "GPU", "device": {"resource": "nvidia.com/gpu"}, "nodeSelector": {"pool": "gpu"}}
    found = (
        pool("cheap", nodeSelector={"pool": "cheap"}, pricePerHour=1),
        pool("dear", nodeSelector={"pool": "dear"}, pricePerHour=9),
        pool("gpu", **gpu, tolerations=[{"key": "gpu"}], images={"server": "cuda"}, executionProviders=["CUDA"]),
    )
    nodes = [node(one.name, labels={"pool": one.name}, devices={"nvidia.com/gpu": "1"}) for one in found]
    return Landscape(found, tuple(nodes))


@pytest.mark.parametrize("compute", [{"pool": "gpu"}, {"class": "GPU"}])
def test_a_device_is_asked_for(world: Callable[..., World], pools: Landscape, compute: Body) -> None:
    """Servers on a pool with a device have its nodes, tolerations, image, providers and one device each."""
    one = world(compute=compute)
    one.landscape = pools
    one.reconcile()
    pod = one.template()["spec"]
    container = pod["containers"][0]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Equal"}]
    assert container["image"] == "cuda"
    assert container["args"][container["args"].index("--providers") + 1] == "CUDA"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_servers_leave_devices_alone(world: Callable[..., World], pools: Landscape) -> None:
    """Without a word on compute the servers go to the cheapest CPU pool."""
    one = world()
    one.landscape = pools
    one.reconcile()
    assert one.template()["spec"]["nodeSelector"] == {"pool": "cheap"}
    assert "nvidia.com/gpu" not in one.template()["spec"]["containers"][0]["resources"]["limits"]


def test_running_servers_do_not_move(world: Callable[..., World], pools: Landscape) -> None:
    """A pool that became cheaper does not move servers; another pool's name in the spec does."""
    one = world()
    one.landscape = pools
    one.serve()
    cheap, dear, gpu = pools.pools
    raised = Pool("cheap", cheap.spec.model_copy(update={"price_per_hour": 100.0}))
    one.landscape = Landscape((raised, dear, gpu), pools.nodes)
    one.reconcile()
    assert one.template()["spec"]["nodeSelector"] == {"pool": "cheap"}
    one.body["spec"]["compute"] = {"pool": "dear"}
    one.reconcile()
    assert one.template()["spec"]["nodeSelector"] == {"pool": "dear"}


def test_a_deleted_endpoint_is_left_alone(world: Callable[..., World]) -> None:
    """Garbage collection has the children of an endpoint that is being deleted; nothing is made anew."""
    one = world()
    one.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found = plan(one.body, Observed(landscape=one.landscape), one.now, one.images)
    assert (found.status, found.apply, found.delete) == (None, (), ())


def test_a_plan_comes_to_rest(world: Callable[..., World]) -> None:
    """Planning again without a change gives the same status and the same children."""
    one = world(replicas={"min": 2, "max": 4})
    one.serve()
    first, second = one.reconcile(), one.reconcile()
    assert (first.status, first.apply) == (second.status, second.apply)
