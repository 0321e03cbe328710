"""The kinds of objects that the operator reads or writes: their URLs, and what of them can change after creation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunesmith_api import API_VERSION

Body = dict[str, Any]


def _whole(body: Body) -> Body:
    return body


def _metadata(body: Body) -> Body:
    return {key: body[key] for key in ("apiVersion", "kind", "metadata")}


def _job(body: Body) -> Body:
    spec = {key: value for key, value in body["spec"].items() if key in {"suspend", "parallelism", "backoffLimit"}}
    return {**_metadata(body), "spec": spec}


@dataclass(frozen=True)
class ObjectKind:
    """One kind of object.

    Attributes:
        api_version: group and version, as in manifests.
        name: the kind.
        plural: the resource name in URLs.
        namespaced: whether objects live in a namespace.
        mutable: the part of a manifest that can be applied to an existing object.
    """

    api_version: str
    name: str
    plural: str
    namespaced: bool = True
    mutable: Callable[[Body], Body] = _whole

    def url(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The path below the API server's root."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        parts = [part for part in (name, subresource) if part]
        return "/".join([f"{root}{scope}/{self.plural}", *parts])


FINETUNEJOB = ObjectKind(API_VERSION, "FineTuneJob", "finetunejobs")
MODELENDPOINT = ObjectKind(API_VERSION, "ModelEndpoint", "modelendpoints")
COMPUTEPOOL = ObjectKind(API_VERSION, "ComputePool", "computepools", namespaced=False)
NODE = ObjectKind("v1", "Node", "nodes", namespaced=False)
POD = ObjectKind("v1", "Pod", "pods")
CLAIM = ObjectKind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", mutable=_metadata)
CONFIGMAP = ObjectKind("v1", "ConfigMap", "configmaps", mutable=_metadata)
SERVICE = ObjectKind("v1", "Service", "services")
EVENT = ObjectKind("v1", "Event", "events")
JOB = ObjectKind("batch/v1", "Job", "jobs", mutable=_job)
DEPLOYMENT = ObjectKind("apps/v1", "Deployment", "deployments")
AUTOSCALER = ObjectKind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
DISRUPTION_BUDGET = ObjectKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = ObjectKind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
LEASE = ObjectKind("coordination.k8s.io/v1", "Lease", "leases")

#: What the operator makes for its objects.
CHILDREN = (CLAIM, CONFIGMAP, JOB, MODELENDPOINT, DEPLOYMENT, SERVICE, AUTOSCALER, DISRUPTION_BUDGET, NETWORK_POLICY)
BY_NAME = {kind.name: kind for kind in (FINETUNEJOB, COMPUTEPOOL, NODE, POD, EVENT, LEASE, *CHILDREN)}


def kind_of(body: Body) -> ObjectKind:
    """The kind of a manifest."""
    return BY_NAME[body["kind"]]
