"""What is decided about a job before anything is spent."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_api import FineTuneJobSpec, Reason
from tunesmith_operator.finetunejob.decision import decide, plan_status, resolve
from tunesmith_operator.finetunejob.manifests import Facts
from tunesmith_operator.finetunejob.validation import find_problem
from tunesmith_operator.pools import Landscape, NodeFacts, Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]


@pytest.mark.parametrize(("goal", "rank"), [("FewestParameters", 2), ("Balanced", 16), ("BestQuality", 64)])
def test_a_goal_reaches_the_stages_and_the_plan(
    job: Callable[..., Body],
    pool: Callable[..., Pool],
    node: Callable[..., NodeFacts],
    images: Images,
    goal: str,
    rank: int,
) -> None:
    """What Auto makes of a goal is in the resolved spec, and the plan says why."""
    body = job(technique={"type": "Auto", "goal": goal})
    spec = FineTuneJobSpec.model_validate(body["spec"])
    landscape = Landscape((pool("any"),), (node(),))
    facts = decide(body, spec, landscape, images)
    assert isinstance(facts, Facts)
    lora = resolve(spec).technique.lora
    assert lora is not None
    assert lora.rank == rank
    assert any(f"goal {goal}" in reason for reason in plan_status(facts, landscape)["reasons"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"technique": {"type": "LoRA", "lora": {"rank": 500}}}, "spec.technique.lora.rank: 500 is above the width"),
        ({"training": {"maxSequenceLength": 4096}}, "spec.training.maxSequenceLength: 4096 is above the context"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(job: Callable[..., Body], fields: Body, said: str) -> None:
    """A number that the model cannot take is an invalid spec, before anything is created."""
    problem = find_problem(FineTuneJobSpec.model_validate(job(**fields)["spec"]))
    assert problem is not None
    assert (problem.reason, said in problem.message) == (Reason.INVALID_SPEC, True)
