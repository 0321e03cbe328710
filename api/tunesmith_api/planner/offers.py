"""Where a job could train: what a pool has for the planner, and whether the job asks for it. Pure data."""

from dataclasses import dataclass

from tunesmith_api.compute import ComputeSpec
from tunesmith_api.enums import PoolClass


@dataclass(frozen=True)
class PoolOffer:
    """What a pool has for a job's workers; None where it is not known.

    Attributes:
        name: the pool's.
        device_class: what it trains on.
        nodes: how many it has.
        host_bytes: memory of its largest node.
        devices: of its largest node; None on a CPU pool too.
        device_bytes: memory of one device; None on a CPU pool.
        price_per_hour: of one node.
        teraflops: matrix arithmetic of one device, or of one node without.
    """

    name: str
    device_class: PoolClass = PoolClass.CPU
    host_bytes: int | None = None
    device_bytes: int | None = None
    price_per_hour: float | None = None
    teraflops: float | None = None
    nodes: int | None = None
    devices: int | None = None

    def nodes_of(self, workers: int) -> int:
        """How many nodes so many workers run on: one each, as far as the pool has them."""
        return workers if self.nodes is None else max(1, min(workers, self.nodes))


def asks_for(compute: ComputeSpec, pool: str, device_class: PoolClass) -> bool:
    """Whether a workload may go to a pool: to that of `pool`, of `class`, or to any where it names neither."""
    return compute.pool in {None, pool} and compute.device_class in {None, device_class}
