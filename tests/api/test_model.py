"""Tests of the contract's base types."""

import pytest
from pydantic import ValidationError

from tunesmith_api.finetunejob import FineTuneJobSpec

MINIMAL = {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://data/train.jsonl"}}}


def with_(path: str, value: object) -> dict[str, object]:
    """The minimal spec with one value set at a dotted path."""
    spec: dict[str, object] = {"model": dict(MINIMAL["model"]), "dataset": dict(MINIMAL["dataset"])}
    node = spec
    *parents, last = path.split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return spec


def test_a_minimal_spec_takes_every_default() -> None:
    """A model and a data set are enough; all else has a default."""
    spec = FineTuneJobSpec.model_validate(MINIMAL)

    assert spec.technique.type == "Auto"
    assert spec.dataset.evaluation.fraction == 0.1
    assert spec.backoff_limit == 3


def test_the_wire_form_is_camel_case_and_reads_back() -> None:
    """What is written as JSON is what is read, with camelCase keys and no nulls."""
    spec = FineTuneJobSpec.model_validate(with_("training.learningRate", 0.001))

    wire = spec.wire()

    assert wire["training"]["learningRate"] == 0.001
    assert "maxSteps" not in wire["training"]
    assert FineTuneJobSpec.model_validate(wire) == spec


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("modle", {}, "Extra inputs are not permitted"),
        ("model", {"preset": "a", "uri": "hf://a/b"}, "set exactly one of preset, uri"),
        ("model", {}, "set exactly one of preset, uri"),
        ("model", {"uri": "ftp://a/b"}, "uri must start with one of hf://"),
        ("technique.lora", {"rank": 0}, "greater than or equal to 1"),
        ("technique", {"type": "Full", "lora": {}}, "technique.lora goes with type Auto, LoRA, QLoRA or DoRA"),
        ("technique", {"type": "LoRA", "goal": "Balanced"}, "technique.goal goes with type Auto only"),
        ("technique", {"goal": "LowestMemory", "lora": {"rank": 4}}, "technique.lora says what technique.goal would"),
        ("technique", {"type": "PEFT"}, "type PEFT needs it"),
        ("compute", {"pool": "a", "class": "CPU"}, "set compute.pool or compute.class, not both"),
        ("evaluation.gates", [{"metric": "exact_match"}], "a gate needs min, max or maxRegression"),
        ("dataset.evaluation", {"fraction": 0.1, "uri": "hf://a/b"}, "set exactly one of fraction, uri"),
        ("serve", {"replicas": {"min": 3, "max": 2}}, "replicas.max must not be below replicas.min"),
        ("training.learningRate", float("nan"), "finite number"),
        ("distribution", {"strategy": "None", "workers": 2}, "strategy None is one process"),
        ("distribution", {"strategy": "None", "processesPerWorker": 2}, "strategy None is one process"),
        ("distribution", {"strategy": "DDP", "zeroStage": 2}, "zeroStage goes with strategy DeepSpeed"),
        ("distribution", {"offload": "Optimizer"}, "offload goes with strategy DeepSpeed"),
        (
            "distribution",
            {"strategy": "DeepSpeed", "zeroStage": 0, "offload": "Optimizer"},
            "needs zeroStage 1, 2 or 3",
        ),
        ("distribution", {"strategy": "DeepSpeed", "offload": "All"}, "which only zeroStage 3 can"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_way_out(path: str, value: object, message: str) -> None:
    """Each wrong value is refused with a message that says what is wrong."""
    spec = with_(path, value)
    if path == "dataset.evaluation":
        spec["dataset"]["train"] = MINIMAL["dataset"]["train"]

    with pytest.raises(ValidationError) as caught:
        FineTuneJobSpec.model_validate(spec)

    assert message in str(caught.value)
