"""How a job's processes share the model where the strategy is Auto, the least communication first. Pure."""

from typing import Any

from tunesmith_api.enums import Offload, PoolClass, Strategy
from tunesmith_api.finetunejob import DistributionSpec

#: Stage 1 is left out: stage 2 shares the gradients too and exchanges as much (Rajbhandari et al. 2020, section 7).
_SHARES: tuple[dict[str, Any], ...] = (
    {"strategy": Strategy.DDP},
    {"strategy": Strategy.DEEPSPEED, "zero_stage": 2},
    {"strategy": Strategy.DEEPSPEED, "zero_stage": 3},
)
#: By stage, of those above.
_SHARED = {2: "optimizer states and gradients", 3: "weights, gradients and optimizer states"}


def distributions_for(asked: DistributionSpec) -> list[DistributionSpec]:
    """What a job's distribution may become: what is asked for, None for one process, else every way to share."""
    if asked.strategy is not Strategy.AUTO:
        return [asked]
    if asked.processes == 1:
        return [asked.model_copy(update={"strategy": Strategy.NONE})]
    return [asked.model_copy(update=share) for share in _SHARES]


def effort(distribution: DistributionSpec) -> int:
    """An order of what the processes exchange: a ZeRO stage exchanges at least as much as those below it."""
    return distribution.stage or 0


def offload_reasons(distribution: DistributionSpec, pool: str, device_class: PoolClass) -> list[str]:
    """That offloading frees nothing where the training has no other memory than the host's."""
    if distribution.offload is Offload.NONE or device_class.trains_on_device:
        return []
    asked = f"distribution.offload {distribution.offload} frees nothing on pool {pool} ({device_class})"
    return [f"{asked}: the training is in host memory already; leave it out."]


def share_name(distribution: DistributionSpec) -> str:
    """A distribution in a word."""
    return str(distribution.strategy) if distribution.stage is None else f"ZeRO-{distribution.stage}"


def shared_parts(distribution: DistributionSpec) -> str:
    """What lies in parts on the processes, of a way of `distributions_for` that is DeepSpeed's."""
    return _SHARED[effort(distribution)]
