"""How a job's processes share the model where the strategy is Auto, the least communication first. Pure."""

from typing import Any

from tunesmith_api.enums import Strategy
from tunesmith_api.finetunejob import DistributionSpec

#: Stage 1 is left out: stage 2 shares the gradients too and exchanges as much (Rajbhandari et al. 2020, section 7).
_SHARES: tuple[dict[str, Any], ...] = (
    {"strategy": Strategy.DDP},
    {"strategy": Strategy.DEEPSPEED, "zero_stage": 2},
    {"strategy": Strategy.DEEPSPEED, "zero_stage": 3},
)
_SHARED = {
    1: "the optimizer's states",
    2: "optimizer states and gradients",
    3: "weights, gradients and optimizer states",
}


def distributions_for(asked: DistributionSpec) -> list[DistributionSpec]:
    """What a job's distribution may become: what is asked for, None for one process, else every way to share."""
    if asked.strategy is not Strategy.AUTO:
        return [asked]
    if asked.processes == 1:
        return [asked.model_copy(update={"strategy": Strategy.NONE})]
    return [asked.model_copy(update=share) for share in _SHARES]


def effort(distribution: DistributionSpec) -> int:
    """An order of what the processes exchange: a ZeRO stage exchanges at least as much as those below it."""
    return (distribution.zero_stage or 2) + 1 if distribution.strategy is Strategy.DEEPSPEED else 0


def share_name(distribution: DistributionSpec) -> str:
    """A distribution in a word."""
    if distribution.strategy is not Strategy.DEEPSPEED:
        return str(distribution.strategy)
    return f"ZeRO-{2 if distribution.zero_stage is None else distribution.zero_stage}"


def shared_parts(distribution: DistributionSpec) -> str:
    """What of the training's state lies in parts on the processes."""
    return _SHARED.get(distribution.zero_stage or 0, "nothing")
