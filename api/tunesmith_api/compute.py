"""Where pods run: a pool by name or by class, and requests that replace the planned ones."""

from typing import ClassVar

from pydantic import Field

from tunesmith_api.enums import PoolClass
from tunesmith_api.model import Model, Rule
from tunesmith_api.strings import ObjectName, Quantity


class ResourceSpec(Model):
    """Requests of a pod, instead of the planned ones."""

    cpu: Quantity | None = None
    """CPU cores."""
    memory: Quantity | None = None
    """Host memory; also the limit."""


class ComputeSpec(Model):
    """Where to run: a pool by name or by class; any pool that fits when both are absent."""

    rules: ClassVar = (
        Rule(
            cel="!(has(self.pool) && has(self.class))",
            message="set compute.pool or compute.class, not both",
            holds=lambda c: c.pool is None or c.device_class is None,
        ),
    )

    pool: ObjectName | None = None
    """Name of a ComputePool."""
    device_class: PoolClass | None = Field(default=None, alias="class")
    """Class of the pool to choose."""
    resources: ResourceSpec | None = None
    """Requests of the pod, instead of the planned ones."""
