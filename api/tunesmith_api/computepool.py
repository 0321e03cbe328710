"""ComputePool: a named set of nodes with one kind of device, and what an hour on it costs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.conditions import Condition
from tunesmith_api.enums import PoolClass
from tunesmith_api.model import Model, Rule
from tunesmith_api.strings import Identifier, LabelValue, Message, Quantity


class Toleration(Model):
    """A toleration, as in core/v1."""

    key: Identifier | None = None
    """Taint key; every key when absent."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the value is compared."""
    value: LabelValue | None = None
    """Taint value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; every effect when absent."""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated."""


class Device(Model):
    """The accelerator of a pool's nodes."""

    resource: Annotated[Identifier, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")]
    """Name of the extended resource, such as nvidia.com/gpu."""
    memory: Quantity | None = None
    """Memory of one device."""


class PoolImages(Model):
    """Images that the pool's devices need instead of the default ones."""

    trainer: Message | None = None
    """Image of the training stage."""
    server: Message | None = None
    """Image of the server."""


class ComputePoolSpec(Model):
    """Which nodes, with which device, at which price."""

    rules: ClassVar = (
        Rule(
            cel="has(self.device) || self.class == 'CPU'",
            message="a pool of class GPU or FPGA needs device.resource, such as nvidia.com/gpu",
            holds=lambda p: p.device is not None or p.device_class is PoolClass.CPU,
            field_path=".class",
        ),
        Rule(
            cel="!has(self.device) || self.class != 'CPU'",
            message="a pool of class CPU has no device",
            holds=lambda p: p.device is None or p.device_class is not PoolClass.CPU,
            field_path=".device",
        ),
    )

    device_class: PoolClass = Field(default=PoolClass.CPU, alias="class")
    """The kind of device."""
    node_selector: Annotated[dict[Identifier, LabelValue], Field(max_length=16)] = Field(default_factory=dict)
    """Labels of the pool's nodes; every schedulable node when empty."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(default_factory=list)
    """Taints of the pool's nodes that pods must tolerate."""
    device: Device | None = None
    """The accelerator of each node."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of one node for one hour, in the currency of your choice."""
    teraflops: Annotated[float, Field(gt=0)] | None = None
    """Matrix arithmetic of one device, or of one node without, in 10^12 operations per second; gives time and cost."""
    execution_providers: Annotated[list[Identifier], Field(max_length=8)] = Field(default_factory=list)
    """ONNX Runtime execution providers of servers in this pool, in order of preference."""
    images: PoolImages = Field(default_factory=PoolImages)
    """Images that the devices need."""


class PoolCapacity(Model):
    """Resources of a pool's nodes."""

    cpu: Quantity = "0"
    """CPU cores."""
    memory: Quantity = "0"
    """Memory."""
    devices: int = 0
    """Devices."""


class ComputePoolStatus(Model):
    """What is the case."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(default_factory=list)
    """The kstatus conditions."""
    nodes: int | None = None
    """Nodes that match and are schedulable."""
    capacity: PoolCapacity | None = None
    """Allocatable resources of all nodes."""
    largest_node: PoolCapacity | None = None
    """Allocatable resources of the largest node: what one pod can have at most."""
    free: PoolCapacity | None = None
    """What running pods' requests leave."""
