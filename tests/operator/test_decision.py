"""What is decided about a job before anything is spent."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_api import FineTuneJobSpec, Reason
from tunesmith_api.planner.candidates import candidate_named
from tunesmith_operator.finetunejob.decision import decide, plan_status
from tunesmith_operator.finetunejob.manifests import Facts
from tunesmith_operator.finetunejob.validation import architecture_of, find_problem
from tunesmith_operator.pools import Landscape, NodeFacts, Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]


@pytest.mark.parametrize(
    ("goal", "technique"), [("FewestParameters", "IA3"), ("Balanced", "LoRA"), ("BestQuality", "rsLoRA-r64")]
)
def test_a_goal_reaches_the_stages_and_the_plan(
    job: Callable[..., Body],
    pool: Callable[..., Pool],
    node: Callable[..., NodeFacts],
    images: Images,
    goal: str,
    technique: str,
) -> None:
    """What Auto makes of a goal is in the resolved spec, and the plan says why."""
    body = job(technique={"type": "Auto", "goal": goal})
    spec = FineTuneJobSpec.model_validate(body["spec"])
    landscape = Landscape((pool("any"),), (node(),))
    facts = decide(body, spec, landscape, images)
    assert isinstance(facts, Facts)
    status = plan_status(facts, landscape)
    assert facts.job.technique == candidate_named(technique).technique(architecture_of(spec))  # type: ignore[union-attr]
    assert status["technique"] == technique
    assert any(f"goal {goal}" in reason for reason in status["reasons"])


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


def test_auto_goes_to_the_pool_that_serves_its_goal(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """With two pools that fit the cheaper one is chosen, with its time and cost once the data is counted."""
    body = job(technique={"type": "Auto", "goal": "LowestCost"})
    spec = FineTuneJobSpec.model_validate(body["spec"])
    pools = (pool("dear", pricePerHour=2, teraflops=1), pool("cheap", pricePerHour=1, teraflops=1))
    landscape = Landscape(pools, (node(),))
    facts = decide(body, spec, landscape, images)
    assert isinstance(facts, Facts)
    assert facts.pool.name == "cheap"
    counted = {**body, "status": {"dataset": {"examples": 100, "tokens": 10_000_000}}}
    timed = decide(counted, spec, landscape, images)
    assert isinstance(timed, Facts)
    status = plan_status(timed, landscape)
    assert status["durationSeconds"] > 0
    assert status["cost"] > 0
    assert any(reason.startswith("Pool cheap (CPU)") for reason in status["reasons"])


def test_a_planned_technique_stays(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """What the plan recorded is what the stages get, whatever Auto would choose now."""
    body = job(technique={"type": "Auto"})
    made = {**body, "status": {"plan": {"technique": "rsLoRA-r64", "pool": "any"}}}
    spec = FineTuneJobSpec.model_validate(body["spec"])
    facts = decide(made, spec, Landscape((pool("any"),), (node(),)), images)
    assert isinstance(facts, Facts)
    assert facts.technique == "rsLoRA-r64"
    assert facts.job.technique.lora is not None
    assert facts.job.technique.lora.rank_stabilized


def test_a_pool_of_fpgas_says_where_the_training_runs(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """The plan says that PyTorch trains on the CPUs beside an FPGA."""
    device = "amd.com/xilinx_u250"
    body = job(compute={"class": "FPGA"})
    landscape = Landscape(
        (pool("u250", **{"class": "FPGA", "device": {"resource": device}}),), (node(devices={device: "1"}),)
    )
    facts = decide(body, FineTuneJobSpec.model_validate(body["spec"]), landscape, images)
    assert isinstance(facts, Facts)
    assert any("PyTorch does not train" in reason for reason in plan_status(facts, landscape)["reasons"])
