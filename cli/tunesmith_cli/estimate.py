"""`tunesmith estimate`: every technique on every pool, what Auto chooses and why, before anything is spent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml
from rich.box import SIMPLE
from rich.table import Table

from tunesmith_api import FineTuneJob, Resolution, resolve
from tunesmith_api.enums import Goal, PoolClass, TechniqueType
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.planner import DataSize, PoolOffer, Row, choose_row, offload_reasons, share_name, table
from tunesmith_cli.errors import CliError
from tunesmith_cli.local_job import local_architecture
from tunesmith_cli.render import duration, size

_BAR_WIDTH = 40


class Output(StrEnum):
    """How the estimate is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True)
class Estimate:
    """What is known of a job before it runs.

    Attributes:
        resolution: what the job becomes.
        rows: every technique that could be asked for, on every pool.
        chosen: the row that the job runs as.
        reasons: why, a sentence each.
        auto: where the job asks for a technique, what Auto would choose instead; None where nothing fits.
    """

    resolution: Resolution
    rows: list[Row]
    chosen: Row
    reasons: tuple[str, ...]
    auto: Row | None = None


def estimate(job: FineTuneJob, pools: list[PoolOffer], data: DataSize) -> Estimate:
    """Work out the table and the choice.

    Raises:
        CliError: the size of the job's model is not known.
    """
    resolution = resolve(job.spec, pools, data, local_architecture(job.spec))
    model = resolution.architecture
    if model is None:
        why = "is known only once prepare has fetched it; give file:// of a folder with its config.json"
        raise CliError(f"spec.model.uri: the size of {job.spec.model.uri} {why}")
    auto = TechniqueSpec(type=TechniqueType.AUTO, goal=job.spec.technique.goal)
    every = job.spec.model_copy(update={"technique": auto})
    own = table(resolution.spec, model, pools, data)
    rows = table(every, model, pools, data)
    runs = _runs(own, resolution)
    same = [row for row in rows if _way(row) == _way(runs)]
    chosen = same[0] if same else runs
    useless = offload_reasons(chosen.distribution, chosen.pool.name, chosen.pool.device_class)
    asked = job.spec.technique.type is not TechniqueType.AUTO
    instead = choose_row(rows, Goal.BALANCED) if asked else None
    return Estimate(
        resolution=resolution,
        rows=rows if same else [*own, *rows],
        chosen=chosen,
        reasons=(*resolution.reasons, *useless),
        auto=instead.row if instead is not None else None,
    )


def _way(row: Row) -> tuple[TechniqueSpec, str, PoolOffer]:
    return row.technique, share_name(row.distribution), row.pool


def _runs(own: list[Row], resolution: Resolution) -> Row:
    """The row that the operator would run: on the pool that Auto chose, else CPU before devices, then by price."""

    def order(row: Row) -> tuple[bool, bool, bool, float]:
        pool = row.pool
        price = float("inf") if pool.price_per_hour is None else pool.price_per_hour
        return row.fits is False, pool.name != resolution.pool, pool.device_class is not PoolClass.CPU, price

    return min(own, key=order)


def show(found: Estimate) -> Iterator[Table | str]:
    """The estimate for people: the table, the chosen row's memory by parts, and the reasons."""
    yield _table(found)
    if found.auto is not None:
        yield f"Auto would choose {_place(found.auto)}.\n"
    yield _parts(found.chosen)
    export = size(found.resolution.export_memory_bytes or 0)
    reasons = [reason for reason in found.reasons if not reason.startswith("memory:")]
    yield "\n".join(f"- {reason}" for reason in [*reasons, f"The export stage needs {export} of host memory."])


#: Column, and whether its cells are numbers; the second is left out where one process trains.
_COLUMNS = {
    "technique": False,
    "sharing": False,
    "pool": False,
    "fits": False,
    "memory": True,
    "host": True,
    "trained": True,
    "time": True,
    "cost": True,
}


def _table(found: Estimate) -> Table:
    drawn = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    alone = found.chosen.distribution.processes == 1
    for name, is_number in _COLUMNS.items():
        if not (alone and name == "sharing"):
            drawn.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for row in found.rows:
        mark = "→ " if row is found.chosen else "  "
        sharing = [] if alone else [share_name(row.distribution)]
        drawn.add_row(f"{mark}{row.name}", *sharing, *_cells(row), style="bold" if row is found.chosen else None)
    return drawn


def _cells(row: Row) -> tuple[str, ...]:
    spent = row.spending
    return (
        row.pool.name,
        {True: "yes", False: "no", None: "unknown"}[row.fits],
        size(row.memory.total),
        size(row.host_bytes),
        _short(row.trained),
        "unknown" if spent.seconds is None else f"~{duration(spent.seconds)}",
        "unknown" if spent.cost is None else f"~{spent.cost:,.2f}",
    )


def _place(row: Row) -> str:
    sharing = f" by {share_name(row.distribution)}" if row.distribution.processes > 1 else ""
    return f"{row.name}{sharing} on pool {row.pool.name}"


def _short(count: int) -> str:
    for unit, least in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= least:
            return f"{count / least:.3g} {unit}"
    return str(count)


def _parts(row: Row) -> Table:
    """The memory of a row as bars; the peak has only the largest of the parts that do not meet."""
    drawn = Table(box=SIMPLE, pad_edge=False)
    drawn.add_column(f"memory of {row.name}", no_wrap=True)
    drawn.add_column(row.pool.name, justify="right", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    parts = row.memory.parts()
    largest = max(parts.values())
    for name, amount in parts.items():
        if not amount:
            continue
        drawn.add_row(name, size(amount), "█" * round(_BAR_WIDTH * amount / largest))
    peak = "forward pass, gradients and evaluation do not meet"
    drawn.add_row("peak", size(row.memory.total), peak, style="bold")
    return drawn


def serialise(found: Estimate, output: Output) -> str:
    """The estimate for programs, as JSON or YAML."""
    values = {
        "chosen": _values(found.chosen),
        "auto": None if found.auto is None else _values(found.auto),
        "technique": found.resolution.spec.technique.wire(),
        "memoryParts": found.chosen.memory.parts(),
        "exportMemoryBytes": found.resolution.export_memory_bytes,
        "reasons": list(found.reasons),
        "rows": [_values(row) for row in found.rows],
    }
    return json.dumps(values, indent=2) if output is Output.JSON else yaml.safe_dump(values, sort_keys=False)


def _values(row: Row) -> dict[str, Any]:
    spent = row.spending
    return {
        "technique": row.name,
        "sharing": share_name(row.distribution),
        "pool": row.pool.name,
        "fits": row.fits,
        "memoryBytes": row.memory.total,
        "hostMemoryBytes": row.host_bytes,
        "trainedParameters": row.trained,
        "tokens": spent.tokens,
        "durationSeconds": None if spent.seconds is None else round(spent.seconds),
        "cost": None if spent.cost is None else round(spent.cost, 4),
    }
