"""Every cell of the scenario matrix that is a task: its example's job, by its approach, beats its base model."""

import pytest

from scenarios import proofs, task_cell
from tunesmith_api.scenarios import SCENARIOS, Approach

pytestmark = [pytest.mark.torch, pytest.mark.extended, pytest.mark.timeout(1200)]

#: Claims that did not hold when they were measured; docs/scenarios.md shows them in bold.
REFUTED = {("named-entities", Approach.PEFT): "IA3 trains too few weights of a tiny model for it to write entities"}


def marks(example: str, approach: Approach) -> list[pytest.MarkDecorator]:
    """A cell that is known not to hold must go on not holding, else the page is out of date."""
    why = REFUTED.get((example, approach))
    return [pytest.mark.xfail(reason=why, strict=True)] if why else []


CELLS = [
    pytest.param(proof.example, approach, id=f"{proof.example}-{approach}", marks=marks(proof.example, approach))
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
