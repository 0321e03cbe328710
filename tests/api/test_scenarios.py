"""Tests of the scenario matrix and its page."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith_api import FineTuneJob
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner.evidence import MEASURES
from tunesmith_api.scenario_page import scenario_page
from tunesmith_api.scenario_results import ScenarioResults, measured_scenarios
from tunesmith_api.scenarios import SCENARIOS, YES_BELOW, Approach, Measure, Proof, Scenario, adapted

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = [proof.example for scenario in SCENARIOS for proof in scenario.proofs]
RESULTS = {"parameters": 7e6, "tasks": {"translation": {"LoRA": {"base": 0.5, "tuned": 91.0}}}, "goals": {}}


def test_the_first_five_rows_claim_every_approach() -> None:
    """Tasks are served by all six approaches; goals by some."""
    assert [len(scenario.claims) for scenario in SCENARIOS] == [6] * 5 + [4, 4, 3, 3]
    assert {scenario.goal for scenario in SCENARIOS if scenario.goal} == set(Measure) == set(YES_BELOW)


@pytest.mark.parametrize("approach", Approach)
@pytest.mark.parametrize("example", EXAMPLES)
def test_every_cell_is_a_job(example: str, approach: Approach) -> None:
    """Each example's job by each approach keeps the contract and names that approach's technique."""
    spec = yaml.safe_load((REPOSITORY / "examples" / example / "job.yaml").read_text())["spec"]

    job = FineTuneJobSpec.model_validate(adapted(spec, approach))

    expected = {Approach.DEEPSPEED: "Full", Approach.ZERO: "Full"}.get(approach, approach.value)
    assert job.technique.type == expected


def page(results: dict[str, Any]) -> dict[str, str]:
    """The page's rows by their first cell."""
    text = scenario_page(ScenarioResults.model_validate(results))
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| **")]
    return {row[0].strip(): " | ".join(cell.strip() for cell in row[1:]) for row in rows}


def test_a_cell_shows_claim_and_measurement() -> None:
    """A measured task shows before and after; one that was not measured says so."""
    row = next(text for name, text in page(RESULTS).items() if "translation" in name and "bleu" in name)

    assert row.startswith("yes; 0.5 → 91 | yes; not measured")


@pytest.mark.parametrize(("ratio", "cell"), [(0.5, "no; **0.5: measured yes**"), (0.95, "no; 0.95"), (1.2, "no; 1.2")])
def test_a_goal_that_disagrees_with_its_claim_says_so(ratio: float, cell: str) -> None:
    """LoRA is not said to save memory; a measurement below the bound contradicts that in bold."""
    results = RESULTS | {"goals": {"memory": {"LoRA": {"found": ratio, "of": 1.0}}}}

    row = next(text for name, text in page(results).items() if "Less memory" in name)
    assert row.startswith(cell + "<br>")


def test_the_committed_page_is_the_generated_one() -> None:
    """docs/scenarios.md is what the results beside it give."""
    assert (REPOSITORY / "docs" / "scenarios.md").read_text() == scenario_page(measured_scenarios())


@pytest.mark.parametrize(
    "proof", [proof for scenario in SCENARIOS for proof in scenario.proofs], ids=lambda one: one.example
)
def test_every_claim_of_a_task_was_measured_and_holds(proof: Proof) -> None:
    """What the page claims of a task is a committed measurement; `tests/trainer/test_matrix.py` measures it anew."""
    results = measured_scenarios()
    assert {approach: results.serves_task(proof, approach) for approach in Approach} == dict.fromkeys(Approach, True)


@pytest.mark.parametrize("approach", Approach)
@pytest.mark.parametrize("measure", Measure)
def test_every_cell_of_a_goal_was_measured(measure: Measure, approach: Approach) -> None:
    """No goal of the page rests on a claim: each of its cells is a committed measurement."""
    assert measured_scenarios().goals[measure][approach].ratio > 0


@pytest.mark.parametrize("scenario", [scenario for scenario in SCENARIOS if scenario.goal], ids=lambda one: one.goal)
def test_every_goal_has_a_job(scenario: Scenario) -> None:
    """The example of a goal's row keeps the contract, and asks for that goal; pooled memory is ZeRO's stage 3."""
    job = yaml.safe_load((REPOSITORY / "examples" / scenario.example).read_text())
    spec = FineTuneJob.model_validate(job).spec
    asked = {measure: goal for goal, measure in MEASURES.items()}.get(scenario.goal) if scenario.goal else None
    assert spec.technique.goal is asked
    assert (spec.distribution.zero_stage == 3) == (scenario.goal is Measure.POOLED_MEMORY)
