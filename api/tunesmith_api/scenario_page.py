"""The page `docs/scenarios.md`: the matrix with what is claimed and what was measured, side by side."""

from tunesmith_api.scenario_results import Amount, ScenarioResults
from tunesmith_api.scenarios import SCENARIOS, Approach, Measure, Proof, Scenario

_HEAD = """\
# Scenarios

What people fine-tune for, and the approaches that serve it. A cell says what is claimed, then what was measured here:
for a task the metric of the base model and of the tuned one, for a goal the ratio to full fine-tuning by one process
(pooled memory: memory of one process of two, to that of one alone) with both amounts, memory without that of the
libraries. Where a measurement disagrees with the claim, the
cell says so. `Auto` counts the approaches that serve the job's goal, by the measurement where there is one, and chooses
among their rows by its plan's own numbers, since those are of the job's model and pools; where none serves, among all
rows. QLoRA counts for the lowest cost only where the plan too finds it the cheapest. Of a task `Auto` goes by the
claim: a measurement speaks of the example's settings for a tiny model.

`python bench/scenarios.py --write` measures and writes this page: the tiny Phi-3 on the jobs below `examples/`, and for
the goals {model} on 2 cores. PEFT is LoKr of rank 16; DeepSpeed and ZeRO tune every weight by two processes that share
the optimizer's states (stage 1), or weights and gradients too (stage 3).
"""


def scenario_page(results: ScenarioResults) -> str:
    """The page in Markdown."""
    millions = f" of {results.parameters / 1e6:.0f} M parameters" if results.parameters else ""
    head = _HEAD.format(model=f"a random Phi-3{millions}")
    columns = " | ".join(Approach)
    lines = [f"| scenario | {columns} |", f"| --- |{' --- |' * len(Approach)}"]
    for scenario in SCENARIOS:
        lines += _rows(scenario, results)
    return "\n".join([head, *lines, ""])


def _rows(scenario: Scenario, results: ScenarioResults) -> list[str]:
    if scenario.goal is not None:
        cells = [_goal_cell(scenario.goal, approach, scenario, results) for approach in Approach]
        link = f"[{scenario.goal}](../examples/{scenario.example})"
        return [f"| **{scenario.title}**<br>{link} | {' | '.join(cells)} |"]
    return [
        f"| **{scenario.title}**<br>[{proof.example}](../examples/{proof.example}/job.yaml), {proof.metric} | "
        + " | ".join(_task_cell(proof, approach, scenario, results) for approach in Approach)
        + " |"
        for proof in scenario.proofs
    ]


def _task_cell(proof: Proof, approach: Approach, scenario: Scenario, results: ScenarioResults) -> str:
    found = results.serves_task(proof, approach)
    claim = "yes" if approach in scenario.claims else "no"
    if found is None:
        return f"{claim}; not measured"
    cell = results.tasks[proof.example][approach]
    change = f"{cell.base:.3g} → {cell.tuned:.3g}"
    return f"{claim}; {change}" if found else f"{claim}; **{change}: measured no**"


def _goal_cell(goal: Measure, approach: Approach, scenario: Scenario, results: ScenarioResults) -> str:
    serves, claimed = results.serves_goal(goal, approach), approach in scenario.claims
    claim = "yes" if claimed else "no"
    if serves is None:
        return f"{claim}; not measured"
    amount = results.goals[goal][approach]
    ratio, amounts = f"{amount.ratio:.2g}", _amounts(goal, amount)
    if serves is claimed:
        return f"{claim}; {ratio}<br>{amounts}"
    return f"{claim}; **{ratio}: measured {'yes' if serves else 'no'}**<br>{amounts}"


#: Unit of each goal's amounts, and how many of what was measured make one.
_UNITS = {
    Measure.COST: ("s per 1,000 tokens", 1),
    Measure.MEMORY: ("MiB", 2**20),
    Measure.PARAMETERS: ("M", 1e6),
    Measure.POOLED_MEMORY: ("MiB", 2**20),
}


def _amounts(goal: Measure, amount: Amount) -> str:
    unit, size = _UNITS[goal]
    found, of = (value / size for value in (amount.found, amount.of))
    return f"{_short(found)} of {_short(of)} {unit}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
