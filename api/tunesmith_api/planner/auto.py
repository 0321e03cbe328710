"""What technique `Auto` becomes: the choice from the table where the model's numbers are known, else a safe default."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import Goal, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, TechniqueSpec
from tunesmith_api.planner.candidates import candidate_named
from tunesmith_api.planner.choice import GIB, DataSize, PoolOffer, candidates_for, choose_row, table

#: A pool of unknown size: everything may fit.
ANYWHERE = PoolOffer("any")


@dataclass(frozen=True)
class Settled:
    """What the technique of a job is.

    Attributes:
        name: what status.plan.technique says.
        technique: the technique with its settings; not Auto.
        pool: the pool that the choice was made for; None where the technique was asked for.
        reasons: why, a sentence each.
    """

    name: str
    technique: TechniqueSpec
    pool: str | None
    reasons: tuple[str, ...]


def settle(
    spec: FineTuneJobSpec,
    model: Architecture | None,
    pools: Sequence[PoolOffer] = (ANYWHERE,),
    *,
    recorded: str | None = None,
    data: DataSize | None = None,
) -> Settled:
    """The technique of a job.

    Args:
        spec: the job's.
        model: the base model's numbers; None where they are not known yet.
        pools: where it could train.
        recorded: what an earlier plan of the same job chose, which stays.
        data: what is known of the training rows.
    """
    asked = spec.technique
    if asked.type is not TechniqueType.AUTO:
        name = str(asked.peft.method if asked.peft else asked.type)
        return Settled(name, asked, None, (f"Technique {name}: asked for.",))
    if asked.lora is not None:
        lora = TechniqueSpec(type=TechniqueType.LORA, lora=asked.lora)
        return Settled("LoRA", lora, None, (f"Technique LoRA: of rank {asked.lora.rank}, as asked.",))
    known = candidate_named(recorded) if recorded else None
    if known is not None:
        return Settled(known.name, known.technique(model), None, (f"Technique {known.name}: as planned.",))
    if model is None:
        return _unmeasured(spec, asked.goal or Goal.BALANCED)
    return _chosen(spec, model, pools or (ANYWHERE,), data)


#: What a goal means for a model whose numbers are not known: the same settings without a look at memory.
_BLIND = {
    Goal.BALANCED: "LoRA",
    Goal.LOWEST_COST: "LoRA-r8",
    Goal.LOWEST_MEMORY: "QLoRA-r8",
    Goal.FEWEST_PARAMETERS: "LoRA-r2",
    Goal.BEST_QUALITY: "rsLoRA-r64",
}


def _unmeasured(spec: FineTuneJobSpec, goal: Goal) -> Settled:
    offered = {one.name: technique for one, technique in candidates_for(spec, None) if one is not None}
    name = _BLIND[goal] if _BLIND[goal] in offered else "LoRA-r8"
    reason = (
        f"Technique {name}: the usual one for goal {goal}; the model's size is not known yet, so nothing was compared."
    )
    return Settled(name, offered[name], None, (reason,))


def _chosen(spec: FineTuneJobSpec, model: Architecture, pools: Sequence[PoolOffer], data: DataSize | None) -> Settled:
    goal, rows = spec.technique.goal or Goal.BALANCED, table(spec, model, pools, data)
    choice = choose_row(rows, goal)
    if choice is not None:
        row = choice.row
        return Settled(row.name, row.technique, row.pool.name, choice.reasons)
    least = min(rows, key=lambda row: row.memory.total)
    reason = (
        f"Technique {least.name}: nothing fits; it needs least, {least.memory.total / GIB:.1f} GiB."
        " Lower training.batchSize or maxSequenceLength."
    )
    return Settled(least.name, least.technique, None, (reason,))
