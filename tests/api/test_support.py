"""Tests of the table of fields that are refused until they are built."""

from typing import Any

import pytest

from tunesmith_api.catalog import load_catalog
from tunesmith_api.enums import ModelKind
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.misfits import refusals
from tunesmith_api.modelendpoint import ModelEndpointSpec
from tunesmith_api.support import unsupported_endpoint_fields, unsupported_job_fields

MODEL = {"preset": "tiny-phi3"}
DATASET = {"train": {"uri": "configmap://data/train.jsonl"}}


def job(**fields: Any) -> FineTuneJobSpec:
    """A minimal job with some fields set."""
    return FineTuneJobSpec.model_validate({"model": MODEL, "dataset": DATASET, **fields})


def mlflow(secret: str = "") -> dict[str, Any]:
    """An MLflow tracker with a login, or without."""
    return {"type": "MLflow", "uri": "http://mlflow:5000", **({"secretRef": {"name": secret}} if secret else {})}


@pytest.mark.parametrize("trackers", [[mlflow("a"), mlflow("a")], [mlflow(), mlflow()], [mlflow("a")]])
def test_mlflow_trackers_may_share_a_login(trackers: list[Any]) -> None:
    """Two experiments of one server are one login; TensorBoard has none."""
    assert unsupported_job_fields(job(tracking=[{"type": "TensorBoard"}, *trackers])) == []


def test_two_logins_are_told_by_their_names() -> None:
    """The client has one for the process, and would send it to both servers."""
    (found,) = unsupported_job_fields(job(tracking=[mlflow("a"), mlflow("b")]))

    assert str(found).startswith("spec.tracking[1].secretRef: b beside a of spec.tracking[0] is not supported yet; ")
    assert "give both trackers the same secret" in str(found)


def test_a_plain_job_asks_for_nothing_that_is_missing() -> None:
    """The defaults are all supported."""
    assert unsupported_job_fields(job()) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (
            {"distribution": {"strategy": "DeepSpeed"}, "training": {"precision": "FP16"}},
            "spec.training.precision",
        ),
        ({"model": {"uri": "https://host/model"}}, "spec.model.uri"),
        ({"output": {"uri": "hf://team/bot"}}, "spec.output.uri"),
        ({"queue": {"localQueue": "team-a"}}, "spec.queue"),
        ({"tracking": [mlflow("a"), mlflow("b")]}, "spec.tracking[1].secretRef"),
        ({"tracking": [mlflow("a"), {"type": "TensorBoard"}, mlflow()]}, "spec.tracking[2].secretRef"),
        ({"serve": {"rollout": {"strategy": "Canary"}}}, "spec.serve.rollout.strategy"),
    ],
)
def test_each_missing_capability_is_named_with_a_way_out(fields: dict[str, Any], named: str) -> None:
    """A field that asks for something that is not built is named, with what to do instead."""
    (found,) = unsupported_job_fields(job(**fields))

    assert found.field == named
    assert "not supported yet; " in str(found)


def test_an_endpoint_serves_only_folders_that_it_can_mount() -> None:
    """A source that would need a download is refused by name."""
    spec = ModelEndpointSpec.model_validate({"source": {"uri": "https://example.com/model"}})

    (found,) = unsupported_endpoint_fields(spec)

    assert found.field == "spec.source.uri"


@pytest.mark.parametrize(
    ("technique", "stage", "named"),
    [
        ({"type": "LoRA"}, 3, []),
        ({"type": "Full", "full": {"lastLayers": 1}}, 3, []),
        ({"type": "QLoRA"}, 2, []),
        ({"type": "LoRA", "lora": {"init": "PiSSA"}}, 3, ["spec.distribution.zeroStage: PiSSA"]),
        ({"type": "DoRA", "lora": {"init": "PiSSA"}}, 3, ["spec.distribution.zeroStage: PiSSA"]),
        ({"type": "DoRA", "lora": {"init": "OLoRA"}}, 3, ["spec.distribution.zeroStage: OLoRA"]),
        ({"type": "DoRA", "lora": {"init": "Gaussian"}}, 3, []),
        ({"type": "QLoRA"}, 3, ["spec.distribution.zeroStage: QLoRA"]),
        ({"type": "PEFT", "peft": {"method": "AdaLoRA"}}, 2, ["spec.distribution.strategy: AdaLoRA"]),
    ],
)
def test_a_technique_that_does_not_take_being_parted_is_refused(technique: Any, stage: int, named: list[str]) -> None:
    """DeepSpeed shards gradients and, at stage 3, weights; each refusal says what to use instead."""
    found = refusals(job(technique=technique, distribution={"strategy": "DeepSpeed", "zeroStage": stage}))

    assert [sentence.partition(" does")[0].partition(" reads")[0] for sentence in found] == named
    assert all("; use " in sentence for sentence in found)


@pytest.mark.parametrize("kind", [kind for kind in ModelKind if kind is not ModelKind.CAUSAL])
def test_serving_what_no_server_runs_is_refused_by_name(kind: ModelKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset tells its kind before prepare has seen the model: the server runs causal models only."""
    preset = load_catalog()["tiny-phi3"]
    preset = preset.model_copy(update={"architecture": preset.architecture.model_copy(update={"kind": kind})})
    monkeypatch.setattr("tunesmith_api.support.load_catalog", lambda: {"tiny-phi3": preset})

    (found,) = unsupported_job_fields(job(task="TextClassification", serve={}))

    assert found.field == "spec.serve"
    assert "leave serve out" in str(found)
