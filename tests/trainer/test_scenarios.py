"""The scenario matrix as runs: every approach that a task row claims trains and betters its base model."""

import pytest

import scenarios
from tunesmith_api.scenarios import SCENARIOS, Approach, Proof

pytestmark = pytest.mark.torch

#: What the default run proves; the long tail proves all cells.
QUICK = {("question-answering", Approach.DORA), ("translation", Approach.ZERO)}


def _cells() -> list:
    return [
        pytest.param(
            proof,
            approach,
            id=f"{proof.example}-{approach}",
            marks=[] if (proof.example, approach) in QUICK else pytest.mark.extended,
        )
        for scenario in SCENARIOS
        for proof in scenario.proofs
        for approach in sorted(scenario.claims)
    ]


@pytest.mark.parametrize(("proof", "approach"), _cells())
def test_an_approach_betters_the_base_model(proof: Proof, approach: Approach) -> None:
    """The example's job by this approach ends with a better metric than it began with."""
    cell = scenarios.task_cell(proof, approach)

    assert cell.better(proof.metric), cell
