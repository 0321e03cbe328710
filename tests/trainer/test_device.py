"""A training on the device that the machine has. `pytest -m gpu` runs it on a GPU; LoRA runs on every CPU."""

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

LORA = {"type": "LoRA", "lora": {"rank": 16, "alpha": 32}}
CPU, GPU = pytest.param("cpu", {"CUDA_VISIBLE_DEVICES": ""}), pytest.param("cuda", {}, marks=pytest.mark.gpu)


def on(device: Any, technique: dict[str, Any], precision: str = "FP32", **distribution: Any) -> Any:
    """A row of the table: what runs where."""
    name = " ".join([device.values[0], technique["type"], precision, *map(str, distribution.values())])
    return pytest.param(*device.values, technique, precision, distribution, marks=device.marks, id=name)


@pytest.mark.parametrize(
    ("device", "environment", "technique", "precision", "distribution"),
    [
        on(CPU, LORA),
        on(GPU, LORA),
        on(GPU, LORA, "BF16"),
        on(GPU, LORA, "FP16"),
        on(GPU, {"type": "Full"}, "BF16"),
        on(GPU, {"type": "DoRA", "lora": {"rank": 16, "alpha": 32}}, "BF16"),
        on(GPU, {"type": "QLoRA", "lora": {"rank": 16, "alpha": 32}}, "BF16"),
        on(GPU, LORA, "BF16", strategy="DDP"),
        on(GPU, LORA, "BF16", strategy="DeepSpeed", zeroStage=2),
        on(GPU, LORA, "BF16", strategy="DeepSpeed", zeroStage=3),
    ],
)
def test_a_model_learns_within_its_plan_on_this_device(
    job: Callable[..., dict[str, Any]],
    run_stage: Callable[..., Any],
    device: str,
    environment: dict[str, str],
    technique: dict[str, Any],
    precision: str,
    distribution: dict[str, Any],
) -> None:
    """Perplexity halves at least, in the arithmetic that was asked for, and the plan's memory holds the training."""
    config = job(
        training={"epochs": 2, "precision": precision},
        distribution=distribution or {"strategy": "None"},
        evaluation={"generation": {"maxSamples": 4}},
    )
    config["spec"]["technique"] = technique
    for stage in (Stage.PREPARE, Stage.TRAIN):
        assert run_stage(stage, config, **environment)[0] == 0
    report = json.loads((Path(config["workspace"]) / "train-report.json").read_text())
    assert report["precision"] == precision
    assert report["tuned"]["perplexity"] < report["base"]["perplexity"] / 2
    spec = FineTuneJobSpec.model_validate(config["spec"])
    work = Workload(spec.training.batch_size, 128, autocast=precision != "FP32", answer_tokens=48)
    model = find_preset("tiny-phi3").architecture
    planned = estimate_memory(model, spec.technique, work, device=device == "cuda").total
    assert report["peakMemoryBytes"] <= 1.05 * planned
