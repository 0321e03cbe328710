"""The three resources as whole objects, and what every program must know of a kind: its names and its columns."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from tunesmith_api.computepool import ComputePoolSpec, ComputePoolStatus
from tunesmith_api.finetunejob import FineTuneJobSpec, FineTuneJobStatus
from tunesmith_api.model import Model
from tunesmith_api.modelendpoint import ModelEndpointSpec, ModelEndpointStatus
from tunesmith_api.strings import ObjectName, WorkloadName

GROUP = "tunesmith.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

#: On every child: the kind and the name of the owner. Informers select on the first.
OWNER_KIND_LABEL = f"{GROUP}/owner-kind"
OWNER_NAME_LABEL = f"{GROUP}/owner-name"
#: On the stage Jobs and their pods: prepare, train or export.
STAGE_LABEL = f"{GROUP}/stage"
#: On every child: which part of the product made it.
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "tunesmith"


class Metadata(Model):
    """The part of metav1.ObjectMeta that a person writes; what a server adds is kept as it is."""

    model_config = ConfigDict(extra="allow")

    name: ObjectName
    """Name of the object."""
    namespace: ObjectName | None = None
    """Namespace of the object."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations."""
    uid: str | None = None
    """Identity, given by the server."""
    generation: int | None = None
    """Counts the changes of the spec."""


class WorkloadMetadata(Metadata):
    """Metadata of an object whose name its children carry on."""

    name: WorkloadName
    """Name of the object."""


class FineTuneJob(Model):
    """A FineTuneJob tunes a model once: plan, prepare, train, evaluate, export to ONNX and, if asked, serve."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = "tunesmith.dev/v1alpha1"
    """Version of the schema."""
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    """Kind of the object."""
    metadata: WorkloadMetadata
    """Name, namespace and labels."""
    spec: FineTuneJobSpec
    """What to tune, on what data, how, where, and what to do with the result."""
    status: FineTuneJobStatus | None = None
    """What is the case."""


class ModelEndpoint(Model):
    """A ModelEndpoint serves an exported model by an OpenAI-compatible API."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = "tunesmith.dev/v1alpha1"
    """Version of the schema."""
    kind: Literal["ModelEndpoint"] = "ModelEndpoint"
    """Kind of the object."""
    metadata: WorkloadMetadata
    """Name, namespace and labels."""
    spec: ModelEndpointSpec
    """What to serve, where, and how."""
    status: ModelEndpointStatus | None = None
    """What is the case."""


class ComputePool(Model):
    """A ComputePool names nodes with one kind of device."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = "tunesmith.dev/v1alpha1"
    """Version of the schema."""
    kind: Literal["ComputePool"] = "ComputePool"
    """Kind of the object."""
    metadata: Metadata
    """Name and labels."""
    spec: ComputePoolSpec = Field(default_factory=ComputePoolSpec)
    """Which nodes, with which device, at which price."""
    status: ComputePoolStatus | None = None
    """What is the case."""


Resource = Annotated[FineTuneJob | ModelEndpoint | ComputePool, Field(discriminator="kind")]


@dataclass(frozen=True)
class Column:
    """A printer column: its heading, its JSONPath, its type, and 1 where only `-o wide` shows it."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True)
class Kind:
    """What every program must know of a kind.

    Attributes:
        model: the pydantic type of the object.
        plural: the resource name in URLs.
        short_names: what `kubectl get` takes instead.
        columns: what `kubectl get` prints.
        namespaced: whether objects live in a namespace.
        scale: JSONPaths of the scale subresource (spec replicas, status replicas, selector), or None.
    """

    model: type[Model]
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    namespaced: bool = True
    scale: tuple[str, str, str] | None = None

    @property
    def name(self) -> str:
        """The kind's name, such as FineTuneJob."""
        return self.model.__name__


def _ready(kind: str = "Ready") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].status'


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            FineTuneJob,
            "finetunejobs",
            ("ftj",),
            (
                Column("Phase", ".status.phase"),
                Column("Technique", ".status.plan.technique"),
                Column("Pool", ".status.plan.pool"),
                Column("Step", ".status.progress.step", "integer"),
                Column("Steps", ".status.progress.totalSteps", "integer"),
                Column("Loss", ".status.progress.loss", "number"),
                Column("Exact Match", ".status.evaluation.exported.exactMatch", "number", 1),
                Column("Model", ".spec.model.preset", "string", 1),
                Column("Ready", _ready()),
                Column("Age", ".metadata.creationTimestamp", "date"),
            ),
        ),
        Kind(
            ModelEndpoint,
            "modelendpoints",
            ("mep",),
            (
                Column("Phase", ".status.phase"),
                Column("Source", ".status.stable.source"),
                Column("Replicas", ".status.replicas", "integer"),
                Column("Ready", _ready()),
                Column("URL", ".status.url"),
                Column("Age", ".metadata.creationTimestamp", "date"),
            ),
            scale=(".spec.replicas.min", ".status.replicas", ".status.selector"),
        ),
        Kind(
            ComputePool,
            "computepools",
            ("pools",),
            (
                Column("Class", ".spec.class"),
                Column("Nodes", ".status.nodes", "integer"),
                Column("Device", ".spec.device.resource"),
                Column("Devices", ".status.capacity.devices", "integer"),
                Column("Free", ".status.free.devices", "integer", 1),
                Column("Price", ".spec.pricePerHour", "number"),
                Column("Ready", _ready()),
                Column("Age", ".metadata.creationTimestamp", "date"),
            ),
            namespaced=False,
        ),
    )
}


def owner_labels(kind: str, name: str) -> dict[str, str]:
    """The labels that every child of an object carries."""
    return {MANAGED_BY_LABEL: MANAGER, OWNER_KIND_LABEL: kind, OWNER_NAME_LABEL: name}


def owner_reference(body: dict[str, Any]) -> dict[str, Any]:
    """The controller reference of an object of ours, for its children's metadata."""
    meta = body["metadata"]
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
