"""The rows of technique and pool scored by the job's goal: what Auto chooses, and why. Pure functions over rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tunesmith_api.enums import Goal, PoolClass, Strategy, TechniqueType
from tunesmith_api.planner.evidence import pooled_evidence
from tunesmith_api.planner.rows import Row
from tunesmith_api.planner.sharing import effort, shared_parts

GIB = 2**30


@dataclass(frozen=True)
class Choice:
    """The chosen row and why, a sentence each."""

    row: Row
    reasons: tuple[str, ...]


_Key = Callable[[Row], tuple[float, ...]]
_UNKNOWN = float("inf")


def _rough(value: float | None) -> float:
    """Two digits: what differs by less is equal, so that rank 2 does not win for a thousandth of the cost."""
    return _UNKNOWN if value is None else float(f"{value:.1e}")


def _cheapness(row: Row) -> tuple[float, ...]:
    """Cost where it is known, else the price, then time and memory; CPU pools before devices where nothing is known."""
    spent, pool = row.spending, row.pool
    return (
        _rough(spent.cost),
        _rough(pool.price_per_hour),
        float(pool.device_class is not PoolClass.CPU),
        _rough(spent.seconds),
        effort(row.distribution),
        _rough(row.memory.total),
    )


#: What each goal puts first; what comes later decides between equals.
ORDERS: dict[Goal, tuple[_Key, str]] = {
    Goal.BALANCED: (
        lambda row: (effort(row.distribution), row.balanced, *_cheapness(row)),
        "the best known trade of quality, time and memory",
    ),
    Goal.LOWEST_COST: (lambda row: (*_cheapness(row), row.trained), "the lowest cost"),
    Goal.LOWEST_MEMORY: (lambda row: (row.memory.total, *_cheapness(row)), "the least memory"),
    Goal.FEWEST_PARAMETERS: (lambda row: (row.trained, *_cheapness(row)), "the fewest trained weights"),
    Goal.BEST_QUALITY: (lambda row: (-(row.quality or 0), *_cheapness(row)), "the best accuracy in PEFT's benchmark"),
}


#: What a goal asks for the least of, by this plan; None where the plan does not know it.
AMOUNTS: dict[Goal, Callable[[Row], float | None]] = {
    Goal.LOWEST_COST: lambda row: row.spending.cost,
    Goal.LOWEST_MEMORY: lambda row: row.memory.total,
    Goal.FEWEST_PARAMETERS: lambda row: row.trained,
}


def choose_row(rows: Iterable[Row], goal: Goal) -> Choice | None:
    """The row that serves a goal best among those that fit, and why; None when nothing fits.

    The scenario matrix says what counts: approaches that serve the goal, or the task where the goal is not measured;
    all where none does. Among these the plan's own numbers decide, since they are of the job's model and pools and the
    matrix was measured on a small model. A reason says which of the two decided.
    """
    every = list(rows)
    fitting = [row for row in every if row.fits is not False]
    if not fitting:
        return None
    counted = _counted(fitting, goal)
    serving = [row for row in counted if row.evidence.serves]
    key, what = ORDERS[goal]
    chosen = min(serving or counted, key=key)
    reasons = [_why(chosen, goal, what, len(every)), _needs(chosen), *_proved(chosen)]
    reasons += _decided(fitting, goal) if serving else [_undecided(fitting, goal)]
    if all(map(_quantized, fitting)):
        reasons.append(f"Without quantisation nothing fits: LoRA needs {_least(every)}.")
    if len({row.pool.name for row in every}) > 1:
        reasons.append(_why_pool(chosen, every))
    return Choice(chosen, (*reasons, *sharing_reasons(chosen, every)))


def _quantized(row: Row) -> bool:
    return row.technique.type is TechniqueType.QLORA


def _counted(fitting: list[Row], goal: Goal) -> list[Row]:
    """The rows that may be chosen: QLoRA is slower than LoRA and no better, so it has to earn its place.

    It counts for the least memory, where nothing else fits, and where the matrix measured that it serves the goal and
    this plan puts it before all others.
    """
    plain = [row for row in fitting if not _quantized(row)]
    if goal is Goal.LOWEST_MEMORY or not plain:
        return fitting
    return [row for row in fitting if not _quantized(row) or _is_first(row, plain, goal)]


def _is_first(row: Row, others: list[Row], goal: Goal) -> bool:
    """Whether a row was measured to serve a goal and has less than any other of what the goal asks for."""
    own = _amount(row, goal)
    if own is None or not (row.evidence.measured and row.evidence.serves):
        return False
    return all(own < amount for amount in _amounts(others, goal))


def _amount(row: Row, goal: Goal) -> float | None:
    return AMOUNTS[goal](row) if goal in AMOUNTS else None


def _amounts(rows: list[Row], goal: Goal) -> list[float]:
    return [amount for amount in (_amount(row, goal) for row in rows) if amount is not None]


def _decided(fitting: list[Row], goal: Goal) -> list[str]:
    """What the matrix and the plan each decided, of a goal that the matrix measures."""
    if goal not in AMOUNTS:
        return []
    names = sorted({str(row.evidence.approach) for row in fitting if row.evidence.serves})
    serve, their = ("serves", "its") if len(names) == 1 else ("serve", "their")
    matrix = f"{', '.join(names)} {serve} this goal by the scenario matrix"
    return [f"{matrix}; among {their} rows this plan's numbers, of the job's own model and pools, decided."]


def _undecided(fitting: list[Row], goal: Goal) -> str:
    """That the matrix has nothing to choose from, or QLoRA alone, which this plan does not put first."""
    what = ORDERS[goal][1]
    if goal not in AMOUNTS:
        return f"No approach that fits serves this task by the scenario matrix, so all were compared by {what}."
    left_out = [row for row in fitting if _quantized(row) and row.evidence.serves]
    if not left_out:
        return f"No approach that fits serves this goal by the scenario matrix, so all were compared by {what} here."
    own = min(_amounts(left_out, goal), default=None)
    others = min(_amounts([row for row in fitting if not _quantized(row)], goal), default=None)
    known = f"comes to {own / others:.2f} times {what}" if own and others else f"is not known to have {what}"
    return (
        "Only QLoRA serves this goal by the scenario matrix, but in this plan, of the job's own model and pools,"
        f" it {known}, so all others were compared by what is known here."
    )


def choose_sharing(rows: Iterable[Row]) -> Row:
    """The row that shares least among those that fit, CPU before devices, then by price; else what needs least."""

    def order(row: Row) -> tuple[float, ...]:
        price = _rough(row.pool.price_per_hour)
        return (effort(row.distribution), float(row.pool.device_class is not PoolClass.CPU), price)

    every = list(rows)
    fitting = [row for row in every if row.fits is not False]
    return min(fitting, key=order) if fitting else min(every, key=lambda row: row.memory.total)


def sharing_reasons(chosen: Row, rows: Iterable[Row]) -> list[str]:
    """Why the processes share the model as they do, where Auto had the choice; nothing where it had none."""
    ways = [row for row in rows if (row.name, row.pool) == (chosen.name, chosen.pool)]
    distribution, processes = chosen.distribution, chosen.distribution.processes
    if len(ways) == 1:
        return []
    if distribution.strategy is Strategy.DDP:
        return [f"Distribution DDP: each of {processes} processes holds the whole model, which fits."]
    whole = next(row for row in ways if row.distribution.strategy is Strategy.DDP).memory.total / GIB
    needed = f"{chosen.memory.total / GIB:.1f} GiB each instead of {whole:.1f} GiB"
    what = f"{processes} processes share {shared_parts(distribution)}"
    return [f"Distribution DeepSpeed with zeroStage {distribution.zero_stage}: {what}, {needed}.", pooled_evidence()]


def _why(row: Row, goal: Goal, what: str, count: int) -> str:
    quality = f", {row.quality} % there" if goal is Goal.BEST_QUALITY and row.quality is not None else ""
    return f"Technique {row.name}: {what} of {count} rows of technique and pool (goal {goal}{quality})."


def _proved(row: Row) -> list[str]:
    return [row.evidence.sentence] if row.evidence.sentence else []


#: Share of the memory below which the other precision is worth a word.
_WORTH_SAYING = 0.9


def _needs(row: Row) -> str:
    where = "of device memory" if row.device_bytes else "of memory"
    needs = f"{row.name} trains {row.trained:,} weights and needs {row.memory.total / GIB:.1f} GiB {where}"
    if row.bf16_bytes is None or row.bf16_bytes > _WORTH_SAYING * row.memory.total:
        return f"{needs}."
    half = f"{row.bf16_bytes / GIB:.1f} GiB with precision BF16"
    return f"{needs}, as precision Auto may come to FP32; {half}, where processors have it."


def _least(rows: list[Row]) -> str:
    plain = [row for row in rows if not _quantized(row)]
    least = min(plain, key=lambda row: row.memory.total, default=None)
    return "more than any pool has" if least is None else f"{least.memory.total / GIB:.1f} GiB on {least.pool.name}"


def _same_way(one: Row, other: Row) -> bool:
    return (one.name, one.distribution) == (other.name, other.distribution)


def _why_pool(chosen: Row, rows: list[Row]) -> str:
    too_small = sorted({row.pool.name for row in rows if _same_way(row, chosen) and row.fits is False})
    price = chosen.pool.price_per_hour
    cost = chosen.spending.cost
    parts = [f"Pool {chosen.pool.name} ({chosen.pool.device_class})"]
    if cost is not None:
        parts.append(f"costs about {cost:,.2f}")
    elif price is not None:
        parts.append(f"costs {price:g} an hour")
    if too_small:
        parts.append(f"{', '.join(too_small)} would be too small")
    return f"{'; '.join(parts)}."
