"""From a spec to a resolved job."""

from typing import Any

import pytest

from tunesmith_api.catalog import find_preset
from tunesmith_api.enums import Goal, ModelKind, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner import trained_parameters
from tunesmith_api.resolve import UnresolvableError, objections, resolve, sources
from tunesmith_api.support import unsupported_job_fields

DATA = {"train": {"uri": "configmap://data/train.jsonl"}}


def spec(**fields: Any) -> FineTuneJobSpec:
    """A minimal spec with some fields."""
    base = {"model": {"preset": "tiny-phi3"}, "dataset": DATA}
    return FineTuneJobSpec.model_validate({**base, **fields})


def test_auto_becomes_a_technique_and_a_strategy() -> None:
    """Nothing that says Auto is left for the stages, and each choice has a reason."""
    found = resolve(spec())
    assert (found.spec.technique.type, found.spec.distribution.strategy) == ("LoRA", "None")
    assert found.spec.technique.lora is not None
    assert any("goal Balanced" in reason for reason in found.reasons)


@pytest.mark.parametrize("goal", list(Goal))
def test_every_goal_has_a_technique(goal: Goal) -> None:
    """Each goal leads to a technique, which the first reason names with the goal."""
    found = resolve(spec(technique={"type": "Auto", "goal": goal}))
    assert found.spec.technique.type is not TechniqueType.AUTO
    assert found.spec.technique.goal is None
    assert f"goal {goal}" in found.reasons[0]


def test_virtual_tokens_take_their_part_of_the_context() -> None:
    """A row of the whole context leaves no room for them; by default rows are so much shorter."""
    tuned = {"technique": {"type": "PEFT", "peft": {"method": "PromptTuning"}}, "export": {"format": "Adapter"}}
    fields = {**tuned, "model": {"preset": "tiny-phi3"}}
    with pytest.raises(UnresolvableError, match=r"512 is above the context of tiny-phi3 less 20 .* use at most 492"):
        resolve(spec(**fields, training={"maxSequenceLength": 512}))
    assert "at batch 8 and 492 tokens" in resolve(spec(**fields)).reasons[-1]


def test_goals_order_the_trained_weights() -> None:
    """Fewest parameters trains less than lowest cost, which trains less than balanced: the higher rank, as it fits."""

    def trained(goal: Goal) -> int:
        found = resolve(spec(model={"preset": "phi-3-mini-4k-instruct"}, technique={"goal": goal}))
        assert found.model is not None
        return trained_parameters(found.model.architecture, found.spec.technique)

    assert trained(Goal.FEWEST_PARAMETERS) < trained(Goal.LOWEST_COST) < trained(Goal.BALANCED)


def test_a_lora_section_wins_over_the_goal() -> None:
    """What a person writes is kept."""
    found = resolve(spec(technique={"lora": {"rank": 4, "alpha": 6}}))
    assert found.spec.technique.lora is not None
    assert (found.spec.technique.lora.rank, found.spec.technique.lora.alpha) == (4, 6)


def test_a_resolved_spec_resolves_to_itself() -> None:
    """Resolving twice changes nothing, and the resolved spec is supported and valid on the wire."""
    once = resolve(spec(technique={"goal": "BestQuality"})).spec
    assert resolve(once).spec == once
    assert FineTuneJobSpec.model_validate(once.wire()) == once
    assert not unsupported_job_fields(once)


def test_memory_grows_with_the_batch() -> None:
    """A larger batch needs more memory in training and none in export."""
    small, large = (resolve(spec(training={"batchSize": size})) for size in (1, 64))
    assert small.memory is not None
    assert large.memory is not None
    assert large.memory.total > small.memory.total
    assert large.export_memory_bytes == small.export_memory_bytes


def test_quantised_export_needs_more_memory() -> None:
    """The builder holds more while it quantises."""
    exact, fast = (resolve(spec(export={"precision": name})).export_memory_bytes for name in ("Exact", "Fast"))
    assert exact is not None
    assert fast is not None
    assert fast > exact


def test_a_model_by_uri_has_no_estimate() -> None:
    """Where the size is not known, nothing is made up and the reason says so."""
    found = resolve(spec(model={"uri": "hf://org/repo"}))
    assert (found.model, found.memory, found.export_memory_bytes) == (None, None, None)
    assert any("not estimated" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model": {"preset": "tiny-phi"}}, "did you mean tiny-phi3"),
        ({"technique": {"lora": {"rank": 129}}}, "spec.technique.lora.rank: 129 is above the width 128"),
        ({"training": {"maxSequenceLength": 513}}, "spec.training.maxSequenceLength: 513 is above the context"),
        ({"dataset": {"train": {"uri": "configmap://data"}}}, "write configmap://name/key"),
        ({"output": {"uri": "oci://registry"}}, "spec.output.uri: 'oci://registry' is incomplete"),
        ({"queue": {"localQueue": "a"}}, "spec.queue: this field is not supported yet"),
        (
            {"technique": {"type": "LoRA"}, "export": {"format": "Adapter", "precision": "Exact"}},
            "spec.export.precision: Exact is of ONNX models and format is Adapter; leave it out",
        ),
        (
            {"dataset": {**DATA, "format": "Messages", "columns": {"prompt": "q", "messages": "chat"}}},
            "spec.dataset.columns.prompt: 'q' is not read: rows of format Messages have messages, system, tools;",
        ),
        (
            {"task": "TextClassification", "evaluation": {"generation": {"notation": "ABC"}}},
            "spec.evaluation.generation.notation: ABC is not looked for: task TextClassification",
        ),
    ],
)
def test_what_cannot_run_is_named(fields: dict[str, Any], problem: str) -> None:
    """A problem names the field, the value and the way out."""
    with pytest.raises(UnresolvableError) as caught:
        resolve(spec(**fields))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({}, []),
        ({"model": {"preset": "tiny-phi"}}, ["UnknownPreset"]),
        ({"dataset": {"train": {"uri": "configmap://data"}}}, ["InvalidSpec"]),
        ({"queue": {"localQueue": "a"}, "training": {"maxSequenceLength": 4096}}, ["NotSupported", "InvalidSpec"]),
    ],
)
def test_each_objection_has_its_reason(fields: dict[str, Any], reasons: list[str]) -> None:
    """Programs read the kind of each objection, people its sentence."""
    assert [one.reason for one in objections(spec(**fields))] == reasons


@pytest.mark.parametrize("kind", ModelKind)
def test_how_questions_are_answered_is_told(kind: ModelKind) -> None:
    """An encoder extracts answers, which needs no word; every other model writes them."""
    numbers = find_preset("tiny-phi3").architecture.model_copy(update={"kind": kind})
    asked = spec(task="QuestionAnswering", model={"uri": "hf://team/model"})
    told = [reason for reason in resolve(asked, architecture=numbers).reasons if "extractive" in reason]
    assert bool(told) == (kind is not ModelKind.ENCODER)
    assert all(f"as the model is {kind}" in reason for reason in told)


def test_all_problems_are_told_at_once() -> None:
    """A person corrects a spec once."""
    with pytest.raises(UnresolvableError) as caught:
        resolve(
            spec(technique={"lora": {"rank": 1024}}, training={"maxSequenceLength": 4096}, queue={"localQueue": "a"})
        )
    assert len(caught.value.problems) == 3


def test_sources_are_every_uri_that_is_read() -> None:
    """Each URI comes with its field and its secret."""
    dataset = {
        "train": {"uri": "hf://datasets/a/b", "secretRef": {"name": "hub"}},
        "evaluation": {"uri": "pvc://claim/test.jsonl"},
    }
    found = [
        (source.field, source.uri, source.secret and source.secret.name) for source in sources(spec(dataset=dataset))
    ]
    assert found == [
        ("spec.dataset.train.uri", "hf://datasets/a/b", "hub"),
        ("spec.dataset.evaluation.uri", "pvc://claim/test.jsonl", None),
    ]
