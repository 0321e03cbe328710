"""What `Auto` becomes: a choice from the table where the model's numbers are known, else what is usual."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import Goal, TechniqueType
from tunesmith_api.finetunejob import DistributionSpec, FineTuneJobSpec, PlanStatus, TechniqueSpec
from tunesmith_api.planner.candidates import candidate_named
from tunesmith_api.planner.choice import GIB, choose_row, choose_sharing, sharing_reasons
from tunesmith_api.planner.offers import PoolOffer
from tunesmith_api.planner.rows import DataSize, candidates_for, table
from tunesmith_api.planner.sharing import distributions_for, share_name

#: A pool of unknown size: everything may fit.
ANYWHERE = PoolOffer("any")


@dataclass(frozen=True)
class Settled:
    """What the technique of a job is, and how its processes share the model.

    Attributes:
        name: what status.plan.technique says.
        technique: the technique with its settings; not Auto.
        distribution: the distribution; its strategy is not Auto.
        pool: the pool that the choice was made for; None where nothing had to be chosen.
        reasons: why, a sentence each.
    """

    name: str
    technique: TechniqueSpec
    distribution: DistributionSpec
    pool: str | None
    reasons: tuple[str, ...]


def settle(
    spec: FineTuneJobSpec,
    model: Architecture | None,
    pools: Sequence[PoolOffer] = (ANYWHERE,),
    *,
    recorded: PlanStatus | None = None,
    data: DataSize | None = None,
) -> Settled:
    """The technique and the distribution of a job.

    Args:
        spec: the job's.
        model: the base model's numbers; None where they are not known yet.
        pools: where it could train.
        recorded: an earlier plan of the same job, whose choices stay.
        data: what is known of the training rows.
    """
    ways = _ways(spec.distribution, recorded)
    fixed = _fixed(spec, model, recorded)
    if fixed is None and model is not None:
        narrowed = spec.model_copy(update={"distribution": ways[0]}) if len(ways) == 1 else spec
        return _chosen(narrowed, model, pools or (ANYWHERE,), data)
    name, technique, reason = fixed or _unmeasured(spec, spec.technique.goal or Goal.BALANCED)
    if len(ways) == 1 or model is None:
        return Settled(name, technique, ways[0], None, (reason,))
    rows = table(spec.model_copy(update={"technique": technique}), model, pools or (ANYWHERE,), data)
    row = choose_sharing(rows)
    return Settled(name, technique, row.distribution, row.pool.name, (reason, *sharing_reasons(row, rows)))


def _ways(asked: DistributionSpec, recorded: PlanStatus | None) -> list[DistributionSpec]:
    """The ways to share the model that are open; a plan that says none was made when there was but the first."""
    ways = distributions_for(asked)
    if recorded is None or recorded.technique is None:
        return ways
    return [next((way for way in ways if share_name(way) == recorded.sharing), ways[0])]


_Fixed = tuple[str, TechniqueSpec, str]


def _fixed(spec: FineTuneJobSpec, model: Architecture | None, recorded: PlanStatus | None) -> _Fixed | None:
    """The technique that is asked for or was planned, with its name and the reason; None where Auto is to choose."""
    asked = spec.technique
    if asked.type is not TechniqueType.AUTO:
        name = str(asked.peft.method if asked.peft else asked.type)
        return name, asked, f"Technique {name}: asked for."
    if asked.lora is not None:
        lora = TechniqueSpec(type=TechniqueType.LORA, lora=asked.lora)
        return "LoRA", lora, f"Technique LoRA: of rank {asked.lora.rank}, as asked."
    known = candidate_named(recorded.technique) if recorded is not None and recorded.technique else None
    return None if known is None else (known.name, known.technique(model), f"Technique {known.name}: as planned.")


#: What a goal means for a model whose numbers are not known: the same settings without a look at memory.
_BLIND = {
    Goal.BALANCED: "LoRA",
    Goal.LOWEST_COST: "LoRA-r8",
    Goal.LOWEST_MEMORY: "QLoRA-r8",
    Goal.FEWEST_PARAMETERS: "LoRA-r2",
    Goal.BEST_QUALITY: "rsLoRA-r64",
}


def _unmeasured(spec: FineTuneJobSpec, goal: Goal) -> _Fixed:
    offered = {one.name: technique for one, technique in candidates_for(spec, None) if one is not None}
    name = _BLIND[goal] if _BLIND[goal] in offered else "LoRA-r8"
    reason = (
        f"Technique {name}: the usual one for goal {goal}; the model's size is not known yet, so nothing was compared."
    )
    return name, offered[name], reason


def _chosen(spec: FineTuneJobSpec, model: Architecture, pools: Sequence[PoolOffer], data: DataSize | None) -> Settled:
    goal, rows = spec.technique.goal or Goal.BALANCED, table(spec, model, pools, data)
    choice = choose_row(rows, goal)
    if choice is not None:
        row = choice.row
        return Settled(row.name, row.technique, row.distribution, row.pool.name, choice.reasons)
    least = min(rows, key=lambda row: row.memory.total)
    processes = least.distribution.processes
    each = f" in each of {processes} processes" if processes > 1 else ""
    reason = (
        f"Technique {least.name}: nothing fits; it needs least, {least.memory.total / GIB:.1f} GiB{each}."
        " Lower training.batchSize or maxSequenceLength."
    )
    return Settled(least.name, least.technique, least.distribution, None, (reason,))
