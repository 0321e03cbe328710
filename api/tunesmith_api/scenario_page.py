"""The page `docs/scenarios.md`: the matrix with what is claimed and what was measured, side by side."""

from collections.abc import Mapping
from typing import Any

from tunesmith_api.scenarios import SCENARIOS, YES_BELOW, Approach, Measure, Scenario

#: What `bench/scenarios.py --write` leaves: `tasks` by example, then approach, each with `base` and `tuned`; `goals` by
#: measure, then approach, a ratio to full fine-tuning.
Results = Mapping[str, Any]

_HEAD = """\
# Scenarios

What people fine-tune for, and the approaches that serve it. A cell says what is claimed, then what was measured here:
for a task the metric of the base model and of the tuned one, for a goal the ratio to full fine-tuning by one process
(pooled memory: memory of one process of two, to that of one alone). Where a measurement disagrees with the claim, the
cell says so.

`python bench/scenarios.py --write` measures and writes this page: the tiny Phi-3 on the jobs below `examples/`, and for
the goals a random Phi-3 of {parameters:.0f} M parameters on 2 cores.
"""


def scenario_page(results: Results) -> str:
    """The page in Markdown."""
    head = _HEAD.format(parameters=results["parameters"] / 1e6)
    columns = " | ".join(Approach)
    lines = [f"| scenario | {columns} |", f"| --- |{' --- |' * len(Approach)}"]
    for scenario in SCENARIOS:
        lines += _rows(scenario, results)
    return "\n".join([head, *lines, ""])


def _rows(scenario: Scenario, results: Results) -> list[str]:
    if scenario.goal is not None:
        cells = [_goal_cell(scenario.goal, approach, scenario, results) for approach in Approach]
        return [f"| **{scenario.title}** | {' | '.join(cells)} |"]
    return [
        f"| **{scenario.title}**<br>[{example}](../examples/{example}/job.yaml), {metric} | "
        + " | ".join(_task_cell(example, approach, scenario, results) for approach in Approach)
        + " |"
        for example, metric in scenario.examples.items()
    ]


def _task_cell(example: str, approach: Approach, scenario: Scenario, results: Results) -> str:
    measured = results["tasks"].get(example, {}).get(approach)
    claim = "yes" if approach in scenario.claims else "no"
    if measured is None:
        return f"{claim}; not measured"
    return f"{claim}; {measured['base']:.3g} → {measured['tuned']:.3g}"


def _goal_cell(goal: Measure, approach: Approach, scenario: Scenario, results: Results) -> str:
    ratio = results["goals"].get(goal, {}).get(approach)
    claim = "yes" if approach in scenario.claims else "no"
    if ratio is None:
        return f"{claim}; not measured"
    found = "yes" if ratio < YES_BELOW[goal] else "no"
    return f"{claim}; {ratio:.2f}" if found == claim else f"{claim}; **{ratio:.2f}: measured {found}**"
