"""The planner's memory against training processes on this machine; `bench/planner.py` has many more configurations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api import Stage
from tunesmith_api.catalog import find_preset
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner import Workload, estimate_memory

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("technique", "batch"), [({"type": "LoRA", "lora": {"rank": 16, "alpha": 32}}, 64), ({"type": "Full"}, 8)]
)
def test_the_estimate_is_near_the_measured_peak(
    job: Callable[..., dict[str, Any]], run_stage: Callable[..., Any], technique: dict[str, Any], batch: int
) -> None:
    """At most 5 % below the peak of the process, so that a pod with the planned memory lives, and 15 % above."""
    training = {"batchSize": batch, "maxSteps": 3, "precision": "FP32"}
    config = job(training=training, evaluation={"generation": {"maxSamples": 0}})
    config["spec"]["technique"] = technique
    for stage in (Stage.PREPARE, Stage.TRAIN):
        assert run_stage(stage, config)[0] == 0
    folder = Path(config["workspace"])
    longest = json.loads((folder / "prepare-report.json").read_text())["longestTokens"]
    measured = json.loads((folder / "train-report.json").read_text())["peakMemoryBytes"]
    spec = FineTuneJobSpec.model_validate(config["spec"])
    work = Workload(batch, longest, labelled_share=0.5)
    estimated = estimate_memory(find_preset("tiny-phi3").architecture, spec.technique, work).total
    assert 0.95 * measured <= estimated <= 1.15 * measured
