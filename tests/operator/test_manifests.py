"""The pods that the operator makes: where the device goes, what is mounted, how little they may do."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tunesmith_api import FineTuneJobSpec, JobConfig, ModelEndpointSpec, Stage
from tunesmith_api.jobconfig import OWN_VARIABLES
from tunesmith_operator.finetunejob.decision import decide
from tunesmith_operator.finetunejob.manifests import Facts, config_map, stage_job, workspace_claim
from tunesmith_operator.modelendpoint import manifests as servers
from tunesmith_operator.modelendpoint.source import Served
from tunesmith_operator.pools import Landscape, NodeFacts, Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]
GPU = {"class": "GPU", "device": {"resource": "nvidia.com/gpu"}, "nodeSelector": {"pool": "gpu"}}
TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.fixture
def facts(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> Callable[..., Facts]:
    """Makes the facts of a job on a GPU pool (the default) or another one."""

    def make(device: Body | None = None, **spec: Any) -> Facts:
        chosen = pool("gpu", **(GPU if device is None else device), tolerations=TOLERATIONS, images={"trainer": "cuda"})
        nodes = (node(labels={"pool": "gpu"}, devices={"nvidia.com/gpu": "2"}),)
        body = job(**spec)
        found = decide(body, FineTuneJobSpec.model_validate(body["spec"]), Landscape((chosen,), nodes), images)
        assert isinstance(found, Facts)
        return found

    return make


def _pod(facts: Facts, stage: Stage) -> Body:
    spec: Body = stage_job(facts, stage, suspend=False)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("stage", list(Stage))
def test_only_train_takes_the_device(facts: Callable[..., Facts], stage: Stage) -> None:
    """The device, the pool's nodes, tolerations and image are for train; the other stages leave them alone."""
    pod = _pod(facts(), stage)
    resources = pod["containers"][0]["resources"]
    on_device = stage is Stage.TRAIN
    assert (resources["limits"].get("nvidia.com/gpu") == "1") is on_device
    assert (resources["requests"].get("nvidia.com/gpu") == "1") is on_device
    assert ("nodeSelector" in pod, "tolerations" in pod) == (on_device, on_device)
    assert pod["containers"][0]["image"] == ("cuda" if on_device else "registry/trainer:1")


@pytest.mark.parametrize("stage", list(Stage))
def test_a_cpu_pool_takes_every_stage(facts: Callable[..., Facts], stage: Stage) -> None:
    """All stages of a job on a CPU pool run on the pool's nodes."""
    pod = _pod(facts({"nodeSelector": {"pool": "gpu"}}), stage)
    assert pod["nodeSelector"] == {"pool": "gpu"}


def _all_pods(facts: Facts, images: Images, pool: Pool) -> Iterator[Body]:
    for stage in Stage:
        yield _pod(facts, stage)
    spec = ModelEndpointSpec.model_validate({"source": {"job": "bot"}})
    served = Served("job://bot", "pvc://bot-workspace/export", "sha256:1")
    endpoint = servers.Facts({**facts.body, "kind": "ModelEndpoint"}, spec, served, 4, pool, images)
    yield servers.deployment(endpoint)["spec"]["template"]["spec"]


def test_every_pod_is_restricted(facts: Callable[..., Facts], images: Images) -> None:
    """Every pod passes Pod Security `restricted`, with a read-only root and no service-account token."""
    for pod in _all_pods(facts(), images, Pool("cpu")):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert not any("hostPath" in volume for volume in pod["volumes"])


def test_inputs_are_mounted(facts: Callable[..., Facts]) -> None:
    """ConfigMaps, claims and Secrets of the spec are mounted where the job config says."""
    one = facts(
        model={"uri": "pvc://weights/llama"},
        dataset={
            "train": {"uri": "configmap://rows/train.jsonl", "secretRef": {"name": "key"}},
            "evaluation": {"uri": "configmap://rows/test.jsonl"},
        },
        output={"uri": "pvc://results/bot"},
        compute={"resources": {"memory": "4Gi"}},
    )
    config = JobConfig.model_validate_json(config_map(one, one.job)["data"]["job.json"])
    assert config.inputs == {
        "pvc://weights/llama": "/inputs/pvc/weights/llama",
        "configmap://rows/train.jsonl": "/inputs/configmap/rows/train.jsonl",
        "configmap://rows/test.jsonl": "/inputs/configmap/rows/test.jsonl",
    }
    assert config.outputs == {"pvc://results/bot": "/outputs/pvc/results/bot"}
    assert config.secrets == {"key": "/secrets/key"}
    mounts = {
        one["mountPath"]: one.get("readOnly", False) for one in _pod(one, Stage.EXPORT)["containers"][0]["volumeMounts"]
    }
    assert mounts["/inputs/pvc/weights"]
    assert mounts["/outputs/pvc/results"] is False
    train = {one["mountPath"] for one in _pod(one, Stage.TRAIN)["containers"][0]["volumeMounts"]}
    assert "/outputs/pvc/results" not in train


def test_a_stage_sees_only_its_own_secrets(facts: Callable[..., Facts]) -> None:
    """The first stage mounts every Secret, so that a missing one costs nothing; the others those that they read."""
    one = facts(
        dataset={"train": {"uri": "s3://rows/train.jsonl", "secretRef": {"name": "store"}}},
        output={"uri": "oci://registry/bot:1", "secretRef": {"name": "registry"}},
        tracking=[{"type": "MLflow", "uri": "http://mlflow", "secretRef": {"name": "tracker"}}],
    )
    seen = {
        stage: {volume["secret"]["secretName"] for volume in _pod(one, stage)["volumes"] if "secret" in volume}
        for stage in Stage
    }
    assert seen == {
        Stage.PREPARE: {"store", "registry", "tracker"},
        Stage.TRAIN: {"tracker"},
        Stage.EXPORT: {"registry"},
    }


def test_the_config_is_resolved(facts: Callable[..., Facts]) -> None:
    """The stages read a spec without Auto, and without what may change during the run."""
    one = facts(technique={"type": "Auto", "goal": "LowestCost"}, suspend=True, ttlSecondsAfterFinished=5)
    config = JobConfig.model_validate_json(config_map(one, one.job)["data"]["job.json"])
    assert (config.spec.technique.type, config.spec.distribution.strategy) == ("LoRA", "None")
    assert config.spec.technique.lora is not None
    assert (config.spec.suspend, config.spec.ttl_seconds_after_finished) == (False, None)


def test_resources_can_be_overridden(facts: Callable[..., Facts]) -> None:
    """compute.resources replaces the planned requests of train, and the threads follow the CPU request."""
    one = facts(compute={"resources": {"cpu": "3", "memory": "5Gi"}})
    container = _pod(one, Stage.TRAIN)["containers"][0]
    assert container["resources"]["requests"]["cpu"] == "3"
    assert container["resources"]["limits"]["memory"] == "5120Mi"
    assert {"name": "OMP_NUM_THREADS", "value": "3"} in container["env"]


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_the_clusters_variables(facts: Callable[..., Facts], stage: Stage) -> None:
    """The variables of the settings stand beside the operator's own, each name once."""
    given = (("HF_ENDPOINT", "https://hub.example"), ("TUNESMITH_ALLOWED_HOSTS", "mirror:8443"))
    own = facts({**GPU, "nodeSelector": {}}, distribution={"workers": 2})
    (container,) = _pod(replace(own, trainer_env=given), stage)["containers"]
    variables = [(one["name"], one["value"]) for one in container["env"]]
    assert set(given) <= set(variables)
    (container,) = _pod(own, stage)["containers"]
    assert [one for one in variables if one not in given] == [(one["name"], one["value"]) for one in container["env"]]


@pytest.mark.parametrize("stage", list(Stage))
def test_what_the_operator_sets_is_its_own(facts: Callable[..., Facts], stage: Stage) -> None:
    """Each variable that a manifest sets is one that the settings refuse: no name could stand there twice."""
    (container,) = _pod(facts({**GPU, "nodeSelector": {}}, distribution={"workers": 2}), stage)["containers"]
    assert {one["name"] for one in container["env"]} <= set(OWN_VARIABLES)


def test_an_unknown_size_is_said(facts: Callable[..., Facts]) -> None:
    """A model that the catalog does not know gets default requests, and the plan says so."""
    one = facts(model={"uri": "hf://org/model"})
    assert one.sizing.peak_bytes is None
    assert "compute.resources.memory" in one.sizing.reasons[0]


def test_workers_are_an_indexed_job(facts: Callable[..., Facts]) -> None:
    """Several workers are one Indexed Job whose pods have stable names; the other stages keep one pod."""
    one = facts({**GPU, "nodeSelector": {}}, distribution={"workers": 2})
    job = stage_job(one, Stage.TRAIN, suspend=False)["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"], job["backoffLimit"]) == ("Indexed", 2, 2, 0)
    pod = job["template"]["spec"]
    assert pod["subdomain"] == "bot-train"
    assert {"name": "TUNESMITH_RENDEZVOUS", "value": "bot-train-0.bot-train:29500"} in pod["containers"][0]["env"]
    for stage in (Stage.PREPARE, Stage.EXPORT):
        other = stage_job(one, stage, suspend=False)["spec"]
        assert other["completions"] == 1
        assert "completionMode" not in other
        assert "subdomain" not in other["template"]["spec"]


def test_each_process_has_a_device(facts: Callable[..., Facts]) -> None:
    """A pod takes one device for each of its processes, and they share memory."""
    pod = _pod(facts(distribution={"processesPerWorker": 2}), Stage.TRAIN)
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
    assert any(volume.get("emptyDir", {}).get("medium") == "Memory" for volume in pod["volumes"])


@pytest.mark.parametrize(
    ("workers", "workspace", "mode"),
    [
        (1, {}, "ReadWriteOnce"),
        (2, {}, "ReadWriteMany"),
        (2, {"accessMode": "ReadWriteOnce"}, "ReadWriteOnce"),
        (1, {"accessMode": "ReadWriteMany"}, "ReadWriteMany"),
    ],
)
def test_workers_share_the_workspace(facts: Callable[..., Facts], workers: int, workspace: Body, mode: str) -> None:
    """Workers on several nodes need a claim that several nodes mount, unless a person knows better."""
    one = facts(distribution={"workers": workers}, workspace=workspace)
    assert workspace_claim(one)["spec"]["accessModes"] == [mode]


@pytest.mark.parametrize(
    ("distribution", "cpu", "threads"),
    [
        ({}, "4", "8"),
        ({"workers": 2}, "2", "4"),
        ({"workers": 2, "processesPerWorker": 2}, "2", "2"),
        ({"workers": 18}, "250m", "1"),
    ],
)
def test_workers_share_the_nodes(facts: Callable[..., Facts], distribution: Body, cpu: str, threads: str) -> None:
    """Workers that outnumber the nodes share their cores, and a pod's processes share its threads."""
    container = _pod(facts({"nodeSelector": {}}, distribution=distribution), Stage.TRAIN)["containers"][0]
    assert container["resources"]["requests"]["cpu"] == cpu
    assert {"name": "OMP_NUM_THREADS", "value": threads} in container["env"]
