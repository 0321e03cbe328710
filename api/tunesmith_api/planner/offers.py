"""Where a job could train: what a pool has for the planner, and whether the job asks for it. Pure data."""

from dataclasses import dataclass

from tunesmith_api.compute import ComputeSpec
from tunesmith_api.enums import PoolClass


@dataclass(frozen=True)
class PoolOffer:
    """What a pool has for one worker; None where it is not known.

    Attributes:
        name: the pool's.
        device_class: what it trains on.
        host_bytes: memory of its largest node.
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


def asks_for(compute: ComputeSpec, pool: str, device_class: PoolClass) -> bool:
    """Whether a workload may go to a pool: to that of `pool`, of `class`, or to any where it names neither."""
    return compute.pool in {None, pool} and compute.device_class in {None, device_class}
