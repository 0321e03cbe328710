"""Tests of the table of fields that are refused until they are built."""

from typing import Any

import pytest

from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.modelendpoint import ModelEndpointSpec
from tunesmith_api.support import unsupported_endpoint_fields, unsupported_job_fields

MODEL = {"preset": "tiny-phi3"}
DATASET = {"train": {"uri": "configmap://data/train.jsonl"}}


def job(**fields: Any) -> FineTuneJobSpec:
    """A minimal job with some fields set."""
    return FineTuneJobSpec.model_validate({"model": MODEL, "dataset": DATASET, **fields})


def test_a_plain_job_asks_for_nothing_that_is_missing() -> None:
    """The defaults are all supported."""
    assert unsupported_job_fields(job()) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"task": "Translation"}, "spec.task"),
        ({"technique": {"type": "QLoRA"}}, "spec.technique.type"),
        ({"technique": {"type": "LoRA", "lora": {"init": "PiSSA"}}}, "spec.technique.lora.init"),
        ({"distribution": {"strategy": "DDP"}}, "spec.distribution.strategy"),
        ({"distribution": {"workers": 2}}, "spec.distribution.workers"),
        ({"distribution": {"zeroStage": 0}}, "spec.distribution.zeroStage"),
        ({"distribution": {"offload": "All"}}, "spec.distribution.offload"),
        ({"training": {"earlyStopping": {}}}, "spec.training.earlyStopping"),
        ({"model": {"uri": "s3://bucket/model"}}, "spec.model.uri"),
        ({"output": {"uri": "oci://registry/team/bot:v1"}}, "spec.output.uri"),
        ({"queue": {"localQueue": "team-a"}}, "spec.queue"),
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
