"""Node pools: which nodes belong to one, what they have, and which pool a workload goes to. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tunesmith_api import ComputePoolSpec, Reason
from tunesmith_api.computepool import Toleration
from tunesmith_api.enums import PoolClass
from tunesmith_api.quantity import format_bytes, parse_quantity
from tunesmith_operator.plans import Trouble

#: Name of the pool that is there when nobody has made one: every schedulable node, as CPU.
IMPLICIT_POOL = "default"
#: Stands for every node that takes pods without a selector or a toleration: no ComputePool can have this name.
_ANYWHERE = ""
_HARD_EFFECTS = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True)
class Resources:
    """An amount of CPU cores, bytes of memory and devices."""

    cpu: Decimal = Decimal(0)
    memory_bytes: int = 0
    devices: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.cpu + other.cpu, self.memory_bytes + other.memory_bytes, self.devices + other.devices)

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(self.cpu - other.cpu, self.memory_bytes - other.memory_bytes, self.devices - other.devices)

    def times_in(self, other: "Resources") -> int:
        """How often this amount fits into another."""
        mine = (self.cpu, Decimal(self.memory_bytes), Decimal(self.devices))
        its = (other.cpu, Decimal(other.memory_bytes), Decimal(other.devices))
        return min((int(have / want) for want, have in zip(mine, its, strict=True) if want), default=1)

    def __str__(self) -> str:
        """Words for a diagnosis."""
        devices = f", {self.devices} device{'s' if self.devices != 1 else ''}" if self.devices else ""
        return f"{format_cores(self.cpu)} CPU, {format_bytes(self.memory_bytes)} memory{devices}"


def format_cores(cpu: Decimal) -> str:
    """Cores as a quantity: `2` or `500m`."""
    return str(int(cpu)) if cpu == int(cpu) else f"{int(cpu * 1000)}m"


@dataclass(frozen=True)
class NodeFacts:
    """What a pool must know of a node."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    schedulable: bool
    allocatable: Mapping[str, str]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "NodeFacts":
        """The facts of a Node object; a node that is not Ready or is cordoned is not schedulable."""
        conditions = body.get("status", {}).get("conditions", [])
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        spec = body.get("spec", {})
        return cls(
            body["metadata"]["name"],
            dict(body["metadata"].get("labels", {})),
            tuple(dict(taint) for taint in spec.get("taints", [])),
            ready and not spec.get("unschedulable", False),
            dict(body.get("status", {}).get("allocatable", {})),
        )

    def resources(self, device: str | None) -> Resources:
        """What pods can have on the node."""
        have = self.allocatable
        return Resources(
            parse_quantity(have.get("cpu", "0")),
            int(parse_quantity(have.get("memory", "0"))),
            int(parse_quantity(have.get(device, "0"))) if device else 0,
        )


@dataclass(frozen=True)
class Pool:
    """A ComputePool, or the implicit one."""

    name: str
    spec: ComputePoolSpec = field(default_factory=ComputePoolSpec)

    @property
    def device(self) -> str | None:
        """Name of the device's extended resource."""
        return self.spec.device.resource if self.spec.device else None

    @property
    def device_bytes(self) -> int | None:
        """Memory of one device; None where there is none, or where it is not said."""
        device = self.spec.device
        return int(parse_quantity(device.memory)) if device is not None and device.memory is not None else None

    def takes(self, node: NodeFacts) -> bool:
        """Whether pods of the pool can run on the node."""
        selected = all(node.labels.get(key) == value for key, value in self.spec.node_selector.items())
        return selected and node.schedulable and all(map(self._tolerates, node.taints))

    def _tolerates(self, taint: Mapping[str, str]) -> bool:
        hard = taint.get("effect") in _HARD_EFFECTS
        return not hard or any(tolerates(toleration, taint) for toleration in self.spec.tolerations)


def tolerates(toleration: Toleration, taint: Mapping[str, str]) -> bool:
    """Whether a toleration matches a taint, by the rules of core/v1."""
    if toleration.effect is not None and toleration.effect != taint.get("effect"):
        return False
    if toleration.key is not None and toleration.key != taint.get("key"):
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == taint.get("value", "")


@dataclass(frozen=True)
class Landscape:
    """All pools and nodes.

    Attributes:
        pools: every ComputePool.
        nodes: every node; None when the operator may not read nodes.
    """

    pools: tuple[Pool, ...] = ()
    nodes: tuple[NodeFacts, ...] | None = None
    #: What nodes of a pool have, worked out once: with 500 nodes it takes longer than the rest of a plan.
    _sizes: dict[str, dict[Resources, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def offered(self) -> tuple[Pool, ...]:
        """The pools, or the implicit one when there is none."""
        return self.pools or (Pool(IMPLICIT_POOL),)

    def named(self, name: str) -> Pool | None:
        """The pool of a name."""
        return next((pool for pool in self.offered() if pool.name == name), None)

    def members(self, pool: Pool) -> tuple[NodeFacts, ...]:
        """The pool's schedulable nodes."""
        return tuple(node for node in self.nodes or () if pool.takes(node))

    def sizes(self, pool: Pool) -> Mapping[Resources, int]:
        """What nodes of the pool have, the greatest first, and how many have it."""
        if pool.name not in self._sizes:
            found = Counter(node.resources(pool.device) for node in self.members(pool))
            self._sizes[pool.name] = {size: found[size] for size in sorted(found, key=_size, reverse=True)}
        return self._sizes[pool.name]

    def count(self, pool: Pool) -> int:
        """How many nodes the pool has."""
        return sum(self.sizes(pool).values())

    def room(self, pool: Pool, wanted: Resources) -> int:
        """How many pods of a size the pool's nodes hold when nothing else runs on them."""
        return sum(wanted.times_in(size) * count for size, count in self.sizes(pool).items())

    def largest(self, pool: Pool) -> Resources | None:
        """What the pool's largest node has; None without node access."""
        return None if self.nodes is None else next(iter(self.sizes(pool)), Resources())


def largest(nodes: Iterable[NodeFacts], device: str | None) -> Resources:
    """The greatest node by devices, memory, then CPU; nothing when there is no node."""
    return max((node.resources(device) for node in nodes), key=_size, default=Resources())


def _size(one: Resources) -> tuple[int, int, Decimal]:
    return one.devices, one.memory_bytes, one.cpu


@dataclass(frozen=True)
class Demand:
    """What a workload asks of one pool.

    Attributes:
        each: what each of its pods asks of one node.
        pods: how many pods must have room at the same time.
        side: what its largest pod without a device asks at another time; such pods stay off the nodes of a pool that
            has devices, see `place_of_side_work`.
        device_bytes: memory that each process asks of its device; 0 where none does.
    """

    each: Resources
    pods: int = 1
    side: Resources = Resources()
    device_bytes: int = 0


Need = Callable[[Pool], Demand]


def place_of_side_work(pool: Pool) -> Pool:
    """Where a workload's pods without a device go: into the pool, or anywhere if the pool has devices."""
    return Pool(_ANYWHERE) if pool.device is not None else pool


def choose(landscape: Landscape, name: str | None, wanted: PoolClass | None, need: Need) -> Pool | Trouble:
    """The pool for a workload.

    Args:
        landscape: all pools and nodes.
        name: the pool that was asked for by name.
        wanted: the class that was asked for.
        need: what the workload asks of a pool.

    Returns:
        The named pool, else the cheapest pool of the class where it fits (CPU before devices when no class is given);
        or why there is none.
    """
    offered = landscape.offered()
    if name is not None:
        found = landscape.named(name)
        candidates: Sequence[Pool] = () if found is None else (found,)
        asked = f"pool {name!r}"
    else:
        candidates = [pool for pool in offered if wanted in {None, pool.spec.device_class}]
        asked = f"a pool of class {wanted}" if wanted else "a pool"
    if not candidates:
        listed = ", ".join(f"{pool.name} ({pool.spec.device_class})" for pool in offered)
        return Trouble(Reason.POOL_NOT_FOUND, f"{asked} was asked for and does not exist; there are: {listed}")
    fitting = [pool for pool in candidates if _fits(landscape, pool, need(pool))]
    if fitting:
        return min(fitting, key=_preference)
    return Trouble(Reason.NO_POOL_FITS, _explain(landscape, candidates, need))


def _fits(landscape: Landscape, pool: Pool, demand: Demand) -> bool:
    return _device_holds(pool, demand) and (
        landscape.nodes is None
        or (_holds_pods(landscape, pool, demand) and landscape.room(place_of_side_work(pool), demand.side) > 0)
    )


def _device_holds(pool: Pool, demand: Demand) -> bool:
    return pool.device_bytes is None or demand.device_bytes <= pool.device_bytes


def _holds_pods(landscape: Landscape, pool: Pool, demand: Demand) -> bool:
    return landscape.room(pool, demand.each) >= demand.pods


def _preference(pool: Pool) -> tuple[bool, float, str]:
    price = pool.spec.price_per_hour
    return pool.spec.device_class is not PoolClass.CPU, float("inf") if price is None else price, pool.name


def _explain(landscape: Landscape, candidates: Sequence[Pool], need: Need) -> str:
    lines = [_shortage(landscape, pool, need(pool)) for pool in candidates]
    others = [
        pool.name for pool in landscape.offered() if pool not in candidates and _fits(landscape, pool, need(pool))
    ]
    way_out = f"these pools would fit: {', '.join(others)}" if others else "no other pool would fit"
    return f"{'; '.join(lines)}; {way_out}"


def _shortage(landscape: Landscape, pool: Pool, demand: Demand) -> str:
    if not _device_holds(pool, demand):
        needed, have = format_bytes(demand.device_bytes), format_bytes(pool.device_bytes or 0)
        return (
            f"pool {pool.name!r} has devices of {have} memory, and each process needs {needed};"
            " lower training.batchSize or maxSequenceLength, or set training.gradientCheckpointing"
        )
    if _holds_pods(landscape, pool, demand):
        return _side_shortage(landscape, pool, demand.side)
    members = landscape.members(pool)
    have = f"its largest node has {largest(members, pool.device)}" if members else "it has no schedulable node"
    asked = f"{demand.each} on one node"
    if demand.pods > 1:
        asked = f"{demand.pods} pods of {demand.each} each"
        have += f", and its {len(members)} nodes hold {landscape.room(pool, demand.each)} such pods"
    return f"pool {pool.name!r} is asked for {asked}, {have}"


def _side_shortage(landscape: Landscape, pool: Pool, side: Resources) -> str:
    """The pool holds the training, but the work beside it, that is prepare and export, has no room."""
    place = place_of_side_work(pool)
    members = landscape.members(place)
    where = "its nodes" if place is pool else "nodes that take pods without a toleration"
    have = f"the largest has {largest(members, None)}" if members else "there is none"
    return (
        f"pool {pool.name!r} has room for the training, but the stages without a device ask {where} for {side} "
        f"on one node, and {have}"
    )
