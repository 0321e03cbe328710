"""Every cell of the scenario matrix that is a task: its example's job, by its approach, beats its base model."""

import pytest

from scenarios import proofs, task_cell
from tunesmith_api.scenarios import SCENARIOS, Approach

pytestmark = [pytest.mark.torch, pytest.mark.extended, pytest.mark.timeout(1200)]

CELLS = [
    pytest.param(proof.example, approach, id=f"{proof.example}-{approach}")
    for scenario in SCENARIOS
    for proof in scenario.proofs
    for approach in Approach
    if approach in scenario.claims
]


@pytest.mark.parametrize(("example", "approach"), CELLS)
def test_a_claim_holds(example: str, approach: Approach) -> None:
    """Trained as its example says, the tuned model is better on unseen rows than the base model."""
    proof = proofs()[example]
    cell = task_cell(proof, approach)
    assert cell.better(proof.metric), cell
