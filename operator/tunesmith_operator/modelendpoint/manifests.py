"""The children of a ModelEndpoint as manifests: facts in, dictionaries out. Pure."""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tunesmith_api import ModelEndpointSpec
from tunesmith_api.quantity import format_bytes, parse_quantity
from tunesmith_api.resource import OWNER_KIND_LABEL, OWNER_NAME_LABEL, owner_labels, owner_reference
from tunesmith_api.serving import server_arguments
from tunesmith_operator.kinds import Body
from tunesmith_operator.modelendpoint.source import Served, model_folder, model_mount, model_volume
from tunesmith_operator.pools import Pool, Resources, format_cores
from tunesmith_operator.security import container_security, pod_security
from tunesmith_operator.settings import Images

KIND = "ModelEndpoint"
PORT = 8080
SERVICE_PORT = 80
#: A new version of the model is a new pod template: the Deployment rolls over.
DIGEST_ANNOTATION = "tunesmith.dev/model-digest"
SOURCE_ANNOTATION = "tunesmith.dev/model-source"
#: The pool that was chosen: servers that run do not move when another pool would be chosen today.
POOL_ANNOTATION = "tunesmith.dev/pool"
#: What the pod template was made as: a field that it no longer states shows nowhere else.
TEMPLATE_ANNOTATION = "tunesmith.dev/template-digest"
#: A stopping server answers on until every proxy has heard that its endpoint is withdrawn.
WITHDRAW_SECONDS = 5
DRAIN_SECONDS = 30
#: For the server's own end, after the last request.
EXIT_SECONDS = 10
#: Requests of a server unless the endpoint says otherwise; it may use more CPU.
DEFAULT_CPU = Decimal("0.25")
DEFAULT_MEMORY_BYTES = 2**30
#: Memory of a server as a multiple of the model folder: weights once on disk cache, once in memory, and the KV cache.
MEMORY_PER_MODEL_BYTE = 2.0


@dataclass(frozen=True)
class Facts:
    """All that the manifests depend on.

    Attributes:
        body: the ModelEndpoint as the API server has it.
        spec: its spec.
        model: what is served.
        model_bytes: size of the model folder, 0 when it is not known.
        pool: where the servers run.
        images: container images.
        replicas: servers that the live Deployment asks for; None while there is none.
    """

    body: Body
    spec: ModelEndpointSpec
    model: Served
    model_bytes: int
    pool: Pool
    images: Images
    replicas: int | None = None

    @property
    def name(self) -> str:
        """Name of the ModelEndpoint."""
        return str(self.body["metadata"]["name"])


def server_name(endpoint: str) -> str:
    """Name of an endpoint's Deployment."""
    return f"{endpoint}-server"


def selector_labels(endpoint: str) -> dict[str, str]:
    """What selects an endpoint's pods."""
    return {OWNER_KIND_LABEL: KIND, OWNER_NAME_LABEL: endpoint}


def needs(spec: ModelEndpointSpec, model_bytes: int, pool: Pool) -> Resources:
    """What one server asks of a node."""
    wanted = spec.compute.resources
    cpu = parse_quantity(wanted.cpu) if wanted is not None and wanted.cpu is not None else DEFAULT_CPU
    memory = DEFAULT_MEMORY_BYTES + int(model_bytes * MEMORY_PER_MODEL_BYTE)
    if wanted is not None and wanted.memory is not None:
        memory = int(parse_quantity(wanted.memory))
    return Resources(cpu, memory, 1 if pool.device is not None else 0)


def is_scaled(spec: ModelEndpointSpec) -> bool:
    """Whether an autoscaler sets the number of servers."""
    return spec.replicas.max is not None and spec.replicas.max > spec.replicas.min and spec.replicas.min > 0


def _metadata(facts: Facts, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": facts.body["metadata"]["namespace"],
        "labels": owner_labels(KIND, facts.name),
        "ownerReferences": [owner_reference(facts.body)],
    }


def _replicas(facts: Facts) -> int:
    """The spec's number, or the autoscaler's where there is one.

    A Deployment that stops stating its replicas falls back to 1, and an autoscaler never wakes one from 0.
    """
    wanted = facts.spec.replicas
    if not is_scaled(facts.spec) or facts.replicas is None or wanted.max is None:
        return wanted.min
    return min(max(facts.replicas, wanted.min), wanted.max)


def _template_digest(template: Body) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


def deployment(facts: Facts) -> Body:
    """The servers."""
    annotations = {SOURCE_ANNOTATION: facts.model.source, DIGEST_ANNOTATION: facts.model.digest or facts.model.uri}
    template = {
        "metadata": {"labels": owner_labels(KIND, facts.name), "annotations": annotations},
        "spec": _pod_spec(facts),
    }
    spec: dict[str, Any] = {
        "replicas": _replicas(facts),
        "selector": {"matchLabels": selector_labels(facts.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": 600,
        "template": template,
    }
    own = {POOL_ANNOTATION: facts.pool.name, TEMPLATE_ANNOTATION: _template_digest(template)}
    metadata = {**_metadata(facts, server_name(facts.name)), "annotations": own}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _pod_spec(facts: Facts) -> dict[str, Any]:
    pool = facts.pool.spec
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": WITHDRAW_SECONDS + DRAIN_SECONDS + EXIT_SECONDS,
        "securityContext": pod_security(),
        "containers": [_container(facts)],
        "volumes": [model_volume(facts.model), {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    if pool.node_selector:
        spec["nodeSelector"] = dict(pool.node_selector)
    if pool.tolerations:
        spec["tolerations"] = [toleration.wire() for toleration in pool.tolerations]
    if facts.images.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in facts.images.pull_secrets]
    return spec


def _container(facts: Facts) -> dict[str, Any]:
    return {
        "name": "server",
        "image": facts.pool.spec.images.server or facts.images.server,
        "imagePullPolicy": facts.images.pull_policy,
        "args": _arguments(facts),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": _resources(facts),
        "securityContext": container_security(),
        "lifecycle": {"preStop": {"sleep": {"seconds": WITHDRAW_SECONDS}}},
        "livenessProbe": _probe("/health/live", failures=3, period=10),
        "readinessProbe": _probe("/health/ready", failures=1, period=2),
        # Loading a large model takes minutes; liveness counts from here on.
        "startupProbe": _probe("/health/ready", failures=450, period=2),
        "volumeMounts": [
            model_mount(facts.model),
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        ],
    }


def _probe(path: str, *, failures: int, period: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 2 if period < 10 else 5,
        "failureThreshold": failures,
    }


def _arguments(facts: Facts) -> list[str]:
    flags = server_arguments(facts.name, facts.spec.runtime, facts.pool.spec.execution_providers)
    return [model_folder(facts.model), *flags, "--drain-seconds", str(DRAIN_SECONDS)]


def _resources(facts: Facts) -> dict[str, Any]:
    wanted = needs(facts.spec, facts.model_bytes, facts.pool)
    memory = format_bytes(wanted.memory_bytes)
    requests, limits = {"cpu": format_cores(wanted.cpu), "memory": memory}, {"memory": memory}
    if facts.pool.device is not None:
        requests[facts.pool.device] = limits[facts.pool.device] = "1"
    return {"requests": requests, "limits": limits}


def service(facts: Facts) -> Body:
    """The address of the servers."""
    ports = [{"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}]
    spec = {"selector": selector_labels(facts.name), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(facts, facts.name), "spec": spec}


def autoscaler(facts: Facts) -> Body:
    """The autoscaler of the servers."""
    target = {"type": "Utilization", "averageUtilization": facts.spec.replicas.target_cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": server_name(facts.name)},
        "minReplicas": facts.spec.replicas.min,
        "maxReplicas": facts.spec.replicas.max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    metadata = _metadata(facts, server_name(facts.name))
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def disruption_budget(facts: Facts) -> Body:
    """At most one server goes at a time when nodes are drained."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector_labels(facts.name)}}
    metadata = _metadata(facts, server_name(facts.name))
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


def children(facts: Facts) -> tuple[Body, ...]:
    """Every child of an endpoint, in the order of creation."""
    found = [service(facts), deployment(facts)]
    if is_scaled(facts.spec):
        found.append(autoscaler(facts))
    if facts.spec.replicas.min >= 2:
        found.append(disruption_budget(facts))
    return tuple(found)
