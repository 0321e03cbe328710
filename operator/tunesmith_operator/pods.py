"""What the operator keeps of a pod: a few facts instead of the whole object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.resource import OWNER_NAME_LABEL, STAGE_LABEL

#: On the pods of an Indexed Job, by Kubernetes.
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class PodFacts:
    """The facts of a pod of ours.

    Attributes:
        name: its name.
        owner: name of the FineTuneJob or ModelEndpoint.
        stage: the stage that it runs; empty for a server.
        index: which of several workers it is; 0 for the only one.
        controller_uid: uid of the Job or ReplicaSet.
        controller: its kind and name, as `Job/bot-train`; empty for a pod that nothing controls.
        phase: its phase.
        has_node: whether the scheduler has given it a node.
        deleting: whether it is being deleted.
        ready: whether it answers its readiness probe.
        ip: its address, once it has one.
        created_at: creation time stamp, for the order.
        reason, message: the pod's own, as after an eviction.
        unschedulable: the scheduler's message while it finds no node.
        disrupted: the message of a DisruptionTarget condition: eviction, preemption, taint.
        waiting_reason, waiting_message: why its container does not start.
        exit_code, exit_reason, exit_message: how its container ended.
        finished_at: when its container ended.
        memory_limit: memory limit of its container, as a quantity.
        last_exit_message, last_exit_reason: how the container's previous run ended, in a pod that restarts it.
    """

    name: str
    owner: str
    stage: str = ""
    controller_uid: str = ""
    index: int = 0
    phase: str = "Pending"
    has_node: bool = False
    deleting: bool = False
    ready: bool = False
    ip: str = ""
    created_at: str = ""
    reason: str = ""
    message: str = ""
    unschedulable: str = ""
    disrupted: str = ""
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    exit_message: str = ""
    finished_at: str = ""
    last_exit_message: str = ""
    last_exit_reason: str = ""
    memory_limit: str = ""
    controller: str = ""

    @property
    def ended(self) -> bool:
        """Whether its container will not run any more."""
        return self.phase in {"Succeeded", "Failed"} or self.exit_code is not None

    @property
    def overrun(self) -> str:
        """What befell its container when the kernel killed it for its memory."""
        limit = f" of {self.memory_limit}" if self.memory_limit else ""
        return f"used more memory than its limit{limit} and was killed (OOMKilled)."


def pod_facts(body: Mapping[str, Any]) -> PodFacts:
    """The facts of a Pod object."""
    metadata, status = body["metadata"], body.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    state = _container_state(status, "state")
    previous = _container_state(status, "lastState").get("terminated", {})
    ended = state.get("terminated", {})
    waiting = state.get("waiting", {})
    controllers = [one for one in metadata.get("ownerReferences", []) if one.get("controller")]
    return PodFacts(
        name=metadata["name"],
        owner=metadata.get("labels", {}).get(OWNER_NAME_LABEL, ""),
        stage=metadata.get("labels", {}).get(STAGE_LABEL, ""),
        controller_uid=controllers[0]["uid"] if controllers else "",
        controller=f"{controllers[0]['kind']}/{controllers[0]['name']}" if controllers else "",
        index=int(metadata.get("labels", {}).get(INDEX_LABEL, 0)),
        phase=status.get("phase", "Pending"),
        has_node="nodeName" in body.get("spec", {}),
        deleting="deletionTimestamp" in metadata,
        ready=conditions.get("Ready", {}).get("status") == "True",
        ip=status.get("podIP", ""),
        created_at=metadata.get("creationTimestamp", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        unschedulable=_message(conditions.get("PodScheduled"), "False"),
        disrupted=_message(conditions.get("DisruptionTarget"), "True"),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason", ""),
        exit_message=ended.get("message", ""),
        finished_at=ended.get("finishedAt") or "",
        last_exit_message=previous.get("message", ""),
        last_exit_reason=previous.get("reason", ""),
        memory_limit=_memory_limit(body),
    )


def _memory_limit(body: Mapping[str, Any]) -> str:
    for container in body.get("spec", {}).get("containers", []):
        return str(container.get("resources", {}).get("limits", {}).get("memory", ""))
    return ""


def _container_state(status: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    for container in status.get("containerStatuses", []):
        state: Mapping[str, Any] = container.get(field, {})
        return state
    return {}


def _message(condition: Mapping[str, Any] | None, status: str) -> str:
    if condition is None or condition["status"] != status:
        return ""
    return str(condition.get("message") or condition.get("reason") or condition["type"])
