"""What each pool has for a job's planner: its nodes, the device, the price. Pure."""

from tunesmith_api import FineTuneJobSpec
from tunesmith_api.planner import PoolOffer, asks_for
from tunesmith_operator.pools import Landscape, Pool


def offers(spec: FineTuneJobSpec, landscape: Landscape) -> tuple[PoolOffer, ...]:
    """The pools that the job may go to; those without a node are left out where nodes can be read."""
    pools = [pool for pool in landscape.offered() if asks_for(spec.compute, pool.name, pool.spec.device_class)]
    return tuple(offer for offer in (offer_of(pool, landscape) for pool in pools) if offer.host_bytes != 0)


def offer_of(pool: Pool, landscape: Landscape) -> PoolOffer:
    """One pool as the planner sees it; of its nodes nothing is known where they cannot be read."""
    largest = landscape.largest(pool)
    return PoolOffer(
        name=pool.name,
        device_class=pool.spec.device_class,
        host_bytes=None if largest is None else largest.memory_bytes,
        device_bytes=pool.device_bytes,
        price_per_hour=pool.spec.price_per_hour,
        teraflops=pool.spec.teraflops,
        nodes=None if largest is None else landscape.count(pool),
        devices=None if largest is None or pool.device is None else largest.devices,
    )
