"""What was measured of the scenario matrix: `bench/scenarios.py --write` leaves it beside this module."""

from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_api.enums import Metric
from tunesmith_api.scenarios import YES_BELOW, Approach, Measure, Proof


class Cell(BaseModel):
    """A task by an approach: its metric before and after."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: float
    tuned: float

    def better(self, metric: Metric) -> bool:
        """Whether the tuned model is better than its base; less is better for a perplexity."""
        return self.tuned < self.base if metric is Metric.PERPLEXITY else self.tuned > self.base


class Amount(BaseModel):
    """What a training took, and what the one took that it is compared with; less is better.

    Attributes:
        found: seconds for a thousand tokens, bytes beside the libraries', or weights.
        of: the same of full fine-tuning; for pooled memory of one process alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    found: float
    of: Annotated[float, Field(gt=0)]

    @property
    def ratio(self) -> float:
        """The share that is left."""
        return self.found / self.of


class ScenarioResults(BaseModel):
    """The measurements.

    Attributes:
        parameters: weights of the model that the goals were measured on.
        tasks: by example, then approach.
        goals: by measure, then approach.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int
    tasks: dict[str, dict[Approach, Cell]]
    goals: dict[Measure, dict[Approach, Amount]]

    def serves_task(self, proof: Proof, approach: Approach) -> bool | None:
        """Whether an approach was seen to better the base model; None where it was not measured."""
        cell = self.tasks.get(proof.example, {}).get(approach)
        return None if cell is None else cell.better(proof.metric)

    def serves_goal(self, measure: Measure, approach: Approach) -> bool | None:
        """Whether an approach was seen to serve a goal; None where it was not measured."""
        amount = self.goals.get(measure, {}).get(approach)
        return None if amount is None else amount.ratio < YES_BELOW[measure]


@cache
def measured_scenarios() -> ScenarioResults:
    """The measurements of this release."""
    return ScenarioResults.model_validate_json((resources.files("tunesmith_api") / "scenarios.json").read_text())
