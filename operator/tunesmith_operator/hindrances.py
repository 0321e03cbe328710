"""Why a pod that exists does not start, and what helps. Pure."""

from dataclasses import dataclass

from tunesmith_api import FailureCategory
from tunesmith_operator.pods import PodFacts


@dataclass(frozen=True)
class Hindrance:
    """What keeps a pod from starting.

    Attributes:
        category: its kind.
        message: what the scheduler, the kubelet or the container runtime says.
        resolution: what to do about it.
    """

    category: FailureCategory
    message: str
    resolution: str


_WAITING = {
    "ErrImagePull": FailureCategory.IMAGE_PULL,
    "ImagePullBackOff": FailureCategory.IMAGE_PULL,
    "InvalidImageName": FailureCategory.IMAGE_PULL,
    "ErrImageNeverPull": FailureCategory.IMAGE_PULL,
    "CreateContainerConfigError": FailureCategory.INPUT_NOT_FOUND,
    "CreateContainerError": FailureCategory.CRASHED,
    "RunContainerError": FailureCategory.CRASHED,
}
_START_RESOLUTIONS = {
    FailureCategory.IMAGE_PULL: "Check the image's name and the pull secrets; the pod goes on by itself.",
    FailureCategory.INPUT_NOT_FOUND: "Create the object that the message names; the pod goes on by itself.",
    FailureCategory.CRASHED: "Read the pod's events; the container runtime could not start it.",
}
#: Words of the scheduler, and what helps; the first that holds.
_SCHEDULING = (
    (
        ("PersistentVolumeClaim", "persistentvolumeclaim", "volume node affinity"),
        "Let workspace.storageClassName name a StorageClass that provisions volumes where the pool's nodes are.",
    ),
    (
        ("Insufficient", "Too many pods"),
        "It starts by itself once a node has room: wait, end other work, or add nodes to the pool.",
    ),
    (
        ("taint", "node affinity", "node selector"),
        "Let the ComputePool's nodeSelector and tolerations match its nodes; the pod goes on by itself.",
    ),
)


def _scheduling_resolution(said: str) -> str:
    found = next((way_out for words, way_out in _SCHEDULING if any(word in said for word in words)), None)
    return found or "It starts by itself once a node can take it; `kubectl describe pod` has the scheduler's reasons."


def hindrance(pod: PodFacts) -> Hindrance | None:
    """What keeps a pod from starting; None when it is on its way."""
    if pod.unschedulable:
        return Hindrance(FailureCategory.UNSCHEDULABLE, pod.unschedulable, _scheduling_resolution(pod.unschedulable))
    category = _WAITING.get(pod.waiting_reason)
    if category is None:
        return None
    return Hindrance(category, f"{pod.waiting_reason}: {pod.waiting_message}", _START_RESOLUTIONS[category])
