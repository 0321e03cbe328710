"""What is decided about a job before anything is spent."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_api import FineTuneJobSpec, Reason, find_preset
from tunesmith_api.planner import share_name
from tunesmith_api.planner.candidates import candidate_named
from tunesmith_operator.finetunejob.decision import decide, plan_status
from tunesmith_operator.finetunejob.manifests import Facts
from tunesmith_operator.finetunejob.offers import offer_of
from tunesmith_operator.finetunejob.validation import architecture_of, find_problem
from tunesmith_operator.plans import Trouble
from tunesmith_operator.pools import Landscape, NodeFacts, Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]


@pytest.mark.parametrize(
    ("goal", "technique"), [("FewestParameters", "IA3"), ("Balanced", "rsLoRA-r64"), ("BestQuality", "rsLoRA-r64")]
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
    assert facts.job.technique == candidate_named(technique).technique(architecture_of(spec, {}))  # type: ignore[union-attr]
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


@pytest.mark.parametrize(("task", "said"), [("QuestionAnswering", True), ("Chat", False)])
def test_questions_to_a_causal_model_are_answered_by_writing(
    job: Callable[..., Body],
    pool: Callable[..., Pool],
    node: Callable[..., NodeFacts],
    images: Images,
    task: str,
    said: bool,  # noqa: FBT001 - a value
) -> None:
    """The plan of SQuAD's rows on Phi-3 says that nothing is extracted, and which kind of model does that."""
    body, landscape = job(task=task), Landscape((pool("any"),), (node(),))
    facts = decide(body, FineTuneJobSpec.model_validate(body["spec"]), landscape, images)
    assert isinstance(facts, Facts)
    wanted = (
        "Task QuestionAnswering: answers are generated, as the model is causal; extractive answers need an encoder."
    )
    assert (wanted in plan_status(facts, landscape)["reasons"]) is said


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


GPU = "nvidia.com/gpu"
MINI = {"preset": "phi-3-mini-4k-instruct"}
SMALL_STEPS = {"batchSize": 1, "maxSequenceLength": 256}


def decided(body: Body, pools: tuple[Pool, ...], nodes: tuple[NodeFacts, ...], images: Images) -> Facts | Trouble:
    """What is decided about a job."""
    return decide(body, FineTuneJobSpec.model_validate(body["spec"]), Landscape(pools, nodes), images)


def test_a_device_that_is_too_small_is_no_pool_for_the_job(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """The device's memory counts as the node's does; the diagnosis says what each process needs and what to lower."""
    body = job(model=MINI, technique={"type": "LoRA"}, training={"batchSize": 8}, compute={"class": "GPU"})
    nodes = (node(memory="1Ti", devices={GPU: "1"}),)

    def gpu(memory: str) -> tuple[Pool, ...]:
        return (pool("gpu", **{"class": "GPU", "device": {"resource": GPU, "memory": memory}}),)

    assert isinstance(decided(body, gpu("400Gi"), nodes, images), Facts)
    found = decided(body, gpu("16Gi"), nodes, images)
    assert isinstance(found, Trouble)
    assert found.reason is Reason.NO_POOL_FITS
    assert "pool 'gpu' has devices of 16384Mi memory, and each process needs" in found.message
    assert "training.gradientCheckpointing" in found.message


def test_workers_on_one_node_are_planned_for_its_room(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """A node that holds one copy of the model and not two: its two workers share it, those of two nodes do not."""
    asked = {"model": MINI, "technique": {"type": "Full"}, "training": SMALL_STEPS, "distribution": {"workers": 2}}
    one, two = (
        decided(job(**asked), (pool("any"),), tuple(node(name, memory="140Gi") for name in names), images)
        for names in (["a"], ["a", "b"])
    )
    assert isinstance(one, Facts)
    assert isinstance(two, Facts)
    assert [share_name(facts.job.distribution) for facts in (one, two)] == ["ZeRO-2", "DDP"]
    assert one.obstacle is None


def test_an_offer_has_the_nodes_and_devices_of_its_pool(
    pool: Callable[..., Pool], node: Callable[..., NodeFacts]
) -> None:
    """Counted where nodes can be read, else unknown; a pool without a device has none to count."""
    gpu = pool("gpu", **{"class": "GPU", "device": {"resource": GPU}})
    nodes = tuple(node(name, devices={GPU: count}) for name, count in (("a", "2"), ("b", "8")))
    offers = [offer_of(one, Landscape((gpu,), seen)) for one in (gpu, pool("any")) for seen in (nodes, None)]
    assert [(offer.nodes, offer.devices) for offer in offers] == [(2, 8), (None, None), (2, None), (None, None)]


@pytest.mark.parametrize(("device_class", "told"), [("CPU", 1), ("GPU", 0)])
def test_offloading_on_a_cpu_pool_is_told_to_free_nothing(
    job: Callable[..., Body],
    pool: Callable[..., Pool],
    node: Callable[..., NodeFacts],
    images: Images,
    device_class: str,
    told: int,
) -> None:
    """Host memory is all that a CPU pool has; on devices there is something to free."""
    device = {} if device_class == "CPU" else {"device": {"resource": GPU}}
    offloaded = {"strategy": "DeepSpeed", "zeroStage": 2, "offload": "Optimizer", "workers": 2}
    nodes = tuple(node(name, memory="64Gi", devices={GPU: "1"}) for name in ("a", "b"))
    body = job(technique={"type": "Full"}, distribution=offloaded)
    facts = decided(body, (pool("any", **{"class": device_class, **device}),), (*nodes, node("side")), images)
    assert isinstance(facts, Facts)
    reasons = plan_status(facts, Landscape())["reasons"]
    assert sum("distribution.offload Optimizer frees nothing on pool any (CPU)" in one for one in reasons) == told


def test_an_fpga_s_memory_is_not_trained_in(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """The pod asks for what the training needs of the host, whatever memory the device has."""
    body = job(model=MINI, technique={"type": "LoRA"}, training=SMALL_STEPS, compute={"class": "FPGA"})
    device = {"resource": "amd.com/xilinx_u250", "memory": "64Gi"}
    nodes = (node(memory="1Ti", devices={device["resource"]: "1"}), node("side", memory="1Ti"))
    facts = decided(body, (pool("u250", **{"class": "FPGA", "device": device}),), nodes, images)
    assert isinstance(facts, Facts)
    assert facts.sizing.peak_bytes is not None
    assert facts.train_memory_bytes > facts.sizing.peak_bytes


def test_each_process_loads_the_model_into_the_host_s_memory(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """Four processes of a GPU pod ask four times as much of the host as one."""
    pools = (pool("gpu", **{"class": "GPU", "device": {"resource": GPU}}),)
    nodes = (node(memory="1Ti", devices={GPU: "8"}), node("side", memory="1Ti"))

    def asked(processes: int) -> int:
        body = job(
            model=MINI,
            technique={"type": "LoRA"},
            training=SMALL_STEPS,
            compute={"class": "GPU"},
            distribution={"processesPerWorker": processes},
        )
        facts = decided(body, pools, nodes, images)
        assert isinstance(facts, Facts)
        return facts.train_memory_bytes

    assert asked(4) == pytest.approx(4 * asked(1), rel=0.01)


def test_less_memory_than_was_planned_is_told(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """A person's number wins, and the plan says what it risks."""
    body = job(model=MINI, technique={"type": "LoRA"}, compute={"resources": {"memory": "2Gi"}})
    facts = decided(body, (pool("any"),), (node(memory="1Ti"),), images)
    assert isinstance(facts, Facts)
    told = [reason for reason in plan_status(facts, Landscape())["reasons"] if "compute.resources.memory" in reason]
    assert len(told) == 1
    assert told[0].startswith("compute.resources.memory is 2048Mi, below the ")


def read_by_prepare(size: str = "phi-3-mini-4k-instruct") -> Body:
    """A status as after prepare of a model by URI."""
    return {"plan": {"technique": "LoRA", "pool": "any"}, "model": find_preset(size).architecture.wire()}


def test_a_model_by_uri_is_sized_once_prepare_has_read_it(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """Until then a stage asks for a guess; then the training asks for what its model needs, and the claim stays."""
    asked = {"model": {"uri": "hf://org/model"}, "technique": {"type": "LoRA"}, "training": SMALL_STEPS}
    pools, nodes = (pool("any"),), (node(memory="1Ti"),)
    before = decided(job(**asked), pools, nodes, images)
    after = decided(job(status=read_by_prepare(), **asked), pools, nodes, images)
    preset = decided(job(**{**asked, "model": MINI}), pools, nodes, images)
    assert isinstance(before, Facts)
    assert isinstance(after, Facts)
    assert isinstance(preset, Facts)
    assert before.sizing.peak_bytes is None
    assert after.train_memory_bytes == preset.train_memory_bytes != before.train_memory_bytes
    assert after.sizing.workspace_bytes == before.sizing.workspace_bytes


def test_a_model_by_uri_that_turns_out_too_large_stops_before_its_training(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """The pool stays the planned one, and the obstacle says what the training asks and what its nodes have."""
    body = job(model={"uri": "hf://org/model"}, technique={"type": "LoRA"}, status=read_by_prepare())
    facts = decided(body, (pool("any"),), (node(memory="16Gi"),), images)
    assert isinstance(facts, Facts)
    assert facts.pool.name == "any"
    assert facts.obstacle is not None
    assert facts.obstacle.reason is Reason.NO_POOL_FITS
    assert "its largest node has 8 CPU, 16384Mi memory" in facts.obstacle.message


def test_a_model_by_uri_is_planned_anew_once_prepare_has_read_it(
    job: Callable[..., Body], pool: Callable[..., Pool], node: Callable[..., NodeFacts], images: Images
) -> None:
    """What was chosen in the dark is chosen again among all pools, as of a preset; a plan with a size stays."""
    nodes = (
        node("small", memory="16Gi", labels={"size": "small"}),
        node("large", memory="1Ti", labels={"size": "large"}),
    )
    pools = tuple(pool(name, nodeSelector={"size": name}) for name in ("small", "large"))
    asked = {"model": {"uri": "hf://org/model"}, "training": SMALL_STEPS}
    status = read_by_prepare()
    status["plan"]["pool"] = "small"
    facts = decided(job(status=status, **asked), pools, nodes, images)
    preset = decided(job(**{**asked, "model": MINI}), pools, nodes, images)
    assert isinstance(facts, Facts)
    assert isinstance(preset, Facts)
    assert facts.anew
    assert facts.obstacle is None
    assert (facts.pool.name, facts.technique) == ("large", preset.technique) == (preset.pool.name, "rsLoRA-r64")
    status["plan"]["memoryBytes"] = 1
    later = decided(job(status=status, **asked), pools, nodes, images)
    assert isinstance(later, Facts)
    assert not later.anew
    assert (later.pool.name, later.technique) == ("small", "LoRA")
