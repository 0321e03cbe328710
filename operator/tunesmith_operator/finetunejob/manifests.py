"""The children of a FineTuneJob as manifests: facts in, dictionaries out. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic_core import to_json

from tunesmith_api import Architecture, FineTuneJobSpec, JobConfig, Stage
from tunesmith_api.jobconfig import (
    CONFIG_PATH,
    PROGRESS_PORT,
    RENDEZVOUS_PORT,
    RENDEZVOUS_VARIABLE,
    THREAD_VARIABLES,
    WORKSPACE_PATH,
)
from tunesmith_api.modelendpoint import EndpointTemplate
from tunesmith_api.quantity import format_bytes
from tunesmith_api.resource import STAGE_LABEL, owner_labels, owner_reference
from tunesmith_operator.finetunejob.mounts import SECRETS_PATH, Mounts, volume_mounts, volumes, workspace_name
from tunesmith_operator.finetunejob.sizing import SIDE_STAGE_CPU, Sizing
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import Trouble
from tunesmith_operator.pools import Pool, format_cores, place_of_side_work
from tunesmith_operator.security import container_security, pod_security
from tunesmith_operator.settings import Images, Variables

KIND = "FineTuneJob"
#: Time for a checkpoint after SIGTERM.
GRACE_SECONDS = 120
TEMPORARY_SIZE = "1Gi"
#: Memory that the processes of one pod share: NCCL and torch need more than the container runtime's 64 MiB.
SHARED_MEMORY_SIZE = "1Gi"


@dataclass(frozen=True)
class Facts:
    """All that the manifests depend on.

    Attributes:
        body: the FineTuneJob as the API server has it.
        spec: its spec.
        job: the spec with every Auto replaced: what the stages read.
        model: the base model's numbers; None where they are not known yet.
        technique_reasons, technique: why the technique is what it is, and its name in the plan.
        pool: where the training runs.
        sizing: what the stages need.
        train_memory_bytes, train_cpu, threads: requests of a training pod, and threads of each of its processes.
        mounts: what is mounted into the stages.
        images: container images.
        trainer_env: further environment variables of every stage.
        obstacle: why no further stage may start; None when nothing keeps it.
        anew: whether this plan is made with the numbers of a model by URI and replaces the one made in the dark.
    """

    body: Body
    spec: FineTuneJobSpec
    job: FineTuneJobSpec
    model: Architecture | None
    technique_reasons: tuple[str, ...]
    technique: str
    pool: Pool
    sizing: Sizing
    train_memory_bytes: int
    train_cpu: Decimal
    threads: int
    mounts: Mounts
    images: Images
    trainer_env: Variables = ()
    obstacle: Trouble | None = None
    anew: bool = False

    @property
    def name(self) -> str:
        """Name of the FineTuneJob."""
        return str(self.body["metadata"]["name"])

    @property
    def workers(self) -> int:
        """Number of training pods."""
        return self.spec.distribution.workers

    @property
    def processes(self) -> int:
        """Number of training processes in each pod."""
        return self.spec.distribution.processes_per_worker

    def workers_of(self, stage: Stage) -> int:
        """Number of a stage's pods."""
        return self.workers if stage is Stage.TRAIN else 1


def stage_name(job: str, stage: str) -> str:
    """Name of a stage's Job."""
    return f"{job}-{stage}"


def child_metadata(body: Body, name: str, **labels: str) -> dict[str, Any]:
    """Metadata of a child: labels and the controller reference."""
    owner = body["metadata"]
    return {
        "name": name,
        "namespace": owner["namespace"],
        "labels": {**owner_labels(body["kind"], owner["name"]), **labels},
        "ownerReferences": [owner_reference(body)],
    }


def workspace_claim(facts: Facts) -> Body:
    """The volume that the stages share."""
    wanted = facts.spec.workspace
    spec: dict[str, Any] = {
        "accessModes": [wanted.access_mode or _access_mode(facts.workers)],
        "resources": {"requests": {"storage": wanted.size or format_bytes(facts.sizing.workspace_bytes)}},
    }
    if wanted.storage_class_name is not None:
        spec["storageClassName"] = wanted.storage_class_name
    metadata = child_metadata(facts.body, workspace_name(facts.name))
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def _access_mode(workers: int) -> str:
    """Several workers may run on several nodes, and a claim of one node would keep them out."""
    return "ReadWriteOnce" if workers == 1 else "ReadWriteMany"


def job_config(facts: Facts, resolved: FineTuneJobSpec) -> JobConfig:
    """The resolved job that the stages read."""
    return JobConfig(
        name=facts.name,
        namespace=facts.body["metadata"]["namespace"],
        uid=facts.body["metadata"]["uid"],
        spec=resolved,
        inputs=facts.mounts.inputs,
        outputs=facts.mounts.outputs,
        secrets={name: f"{SECRETS_PATH}/{name}" for name in facts.mounts.secrets[Stage.PREPARE]},
    )


def config_name(facts: Facts) -> str:
    """Name of the ConfigMap: immutable, so that a job that is planned anew with its model's size has another."""
    return f"{facts.name}-config" if facts.model is not None else unsized_config_name(facts.name)


def unsized_config_name(job: str) -> str:
    """Name of the ConfigMap that prepare reads where only prepare can tell the model's size."""
    return f"{job}-config-unsized"


def config_map(facts: Facts, resolved: FineTuneJobSpec) -> Body:
    """The immutable ConfigMap with the resolved job."""
    text = to_json(job_config(facts, resolved).wire(), indent=2).decode()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(facts.body, config_name(facts)),
        "immutable": True,
        "data": {"job.json": text},
    }


def stage_job(facts: Facts, stage: Stage, *, suspend: bool) -> Body:
    """The Job of a stage. It never retries by itself: the controller decides from the exit code.

    Of several workers the first that fails ends the Job, which stops the others: all run or none.
    """
    metadata = child_metadata(facts.body, stage_name(facts.name, stage), **{STAGE_LABEL: str(stage)})
    workers = facts.workers_of(stage)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "completions": workers,
            "parallelism": workers,
            **({"completionMode": "Indexed"} if workers > 1 else {}),
            "suspend": suspend,
            "template": {"metadata": {"labels": dict(metadata["labels"])}, "spec": _pod_spec(facts, stage)},
        },
    }


def _pod_spec(facts: Facts, stage: Stage) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
        "containers": [_container(facts, stage)],
        "volumes": [
            {"name": "workspace", "persistentVolumeClaim": {"claimName": workspace_name(facts.name)}},
            {"name": "config", "configMap": {"name": config_name(facts)}},
            {"name": "tmp", "emptyDir": {"sizeLimit": TEMPORARY_SIZE}},
            *volumes(facts.mounts, stage),
        ],
        **placement(facts.pool, on_device=stage is Stage.TRAIN),
    }
    if facts.workers_of(stage) > 1:
        spec["subdomain"] = stage_name(facts.name, stage)
    if stage is Stage.TRAIN and facts.processes > 1:
        shared = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY_SIZE}}
        spec["volumes"].append(shared)
    if facts.images.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in facts.images.pull_secrets]
    return spec


def placement(pool: Pool, *, on_device: bool) -> dict[str, Any]:
    """Node selector and tolerations; work without a device stays off the nodes of a pool that has devices."""
    spec = (pool if on_device else place_of_side_work(pool)).spec
    found: dict[str, Any] = {}
    if spec.node_selector:
        found["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        found["tolerations"] = [toleration.wire() for toleration in spec.tolerations]
    return found


def _container(facts: Facts, stage: Stage) -> dict[str, Any]:
    on_device = stage is Stage.TRAIN
    override = facts.pool.spec.images.trainer if on_device else None
    container: dict[str, Any] = {
        "name": "stage",
        "image": override or facts.images.trainer,
        "imagePullPolicy": facts.images.pull_policy,
        "args": [str(stage), "--config", CONFIG_PATH],
        "env": _environment(facts, stage),
        "resources": _resources(facts, stage),
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "workspace", "mountPath": WORKSPACE_PATH},
            {"name": "config", "mountPath": CONFIG_PATH.rpartition("/")[0], "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
            *volume_mounts(facts.mounts, stage),
        ],
    }
    if on_device and facts.processes > 1:
        container["volumeMounts"].append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108 - as above
    if on_device:
        container["ports"] = [{"name": "progress", "containerPort": PROGRESS_PORT}]
    return container


def _environment(facts: Facts, stage: Stage) -> list[dict[str, str]]:
    found = [{"name": name, "value": str(facts.threads)} for name in THREAD_VARIABLES]
    if facts.workers_of(stage) > 1:
        job = stage_name(facts.name, stage)
        found.append({"name": RENDEZVOUS_VARIABLE, "value": f"{job}-0.{job}:{RENDEZVOUS_PORT}"})
    return found + [{"name": name, "value": value} for name, value in facts.trainer_env]


def _resources(facts: Facts, stage: Stage) -> dict[str, Any]:
    is_train = stage is Stage.TRAIN
    memory = format_bytes(facts.train_memory_bytes if is_train else facts.sizing.memory_bytes[stage])
    cpu = format_cores(facts.train_cpu if is_train else SIDE_STAGE_CPU)
    requests, limits = {"cpu": cpu, "memory": memory}, {"memory": memory}
    if is_train and facts.pool.device is not None:
        requests[facts.pool.device] = limits[facts.pool.device] = str(facts.processes)
    return {"requests": requests, "limits": limits}


def endpoint(body: Body, serve: EndpointTemplate) -> Body:
    """The owned ModelEndpoint that serves the result."""
    name = body["metadata"]["name"]
    spec = serve.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return {
        "apiVersion": body["apiVersion"],
        "kind": "ModelEndpoint",
        "metadata": child_metadata(body, name),
        "spec": {**spec, "source": {"job": name}},
    }
