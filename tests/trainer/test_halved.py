"""Frozen weights held in half precision: nothing that a training computes under autocast changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from technique_runs import spec_of, start
from tiny_recipes import recipe_of

from tunesmith_api import Stage
from tunesmith_api.enums import Precision
from tunesmith_api.planner.memory import Workload, halved_weights
from tunesmith_api.shapes import architecture_of
from tunesmith_api.techniques import TECHNIQUES
from tunesmith_trainer import train
from tunesmith_trainer.halved import halved
from tunesmith_trainer.recipe import Recipe

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

MODEL = Path(__file__).parents[2] / "examples/models/tiny-phi3"


def store_in_bf16(folder: Path) -> Path:
    """Write a model's weights in bf16, as most checkpoints are."""
    weights = load_file(folder / "model.safetensors")
    rounded = {name: weight.bfloat16() for name, weight in weights.items()}
    save_file(rounded, folder / "model.safetensors", {"format": "pt"})
    return folder


def recipe_in(folder: Path, *, bf16: bool = True) -> Recipe:
    """The recipe of a tiny Llama in a folder."""
    recipe = recipe_of("llama", folder)
    if bf16:
        store_in_bf16(folder)
    return recipe


def gradients(model: Any, recipe: Recipe) -> dict[str, torch.Tensor]:
    """The gradients of a step by autocast."""
    model.zero_grad()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        recipe.loss(model, recipe.collate(recipe.evaluation[:4]), None).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_gradients_are_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    """With the weights that the planner counts held, and afterwards the weights are the fp32 ones that they were."""
    asked, recipe = spec_of(name), recipe_in(tmp_path / "model")
    model = start(recipe, asked)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    expected = gradients(model, recipe)
    with halved(model, Precision.BF16) as held:
        found = gradients(model, recipe)
    work = Workload(4, 32, autocast=True, lossless_half=True)
    assert held == halved_weights(architecture_of(model.config.to_dict()), asked, work)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for place, weight in model.named_parameters():
        assert weight.dtype is before[place].dtype
        assert torch.equal(weight, before[place])


def test_weights_that_half_precision_would_round_stay(tmp_path: Path) -> None:
    """A checkpoint in fp32 is trained as it is, and so is every one in fp32 arithmetic."""
    for precision, bf16 in ((Precision.BF16, False), (Precision.FP32, True)):
        recipe = recipe_in(tmp_path / precision, bf16=bf16)
        with halved(start(recipe, spec_of("LoRA")), precision) as held:
            assert held == 0


def test_a_training_comes_out_the_same(
    job: Any, run_here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The train stage holds them, and its adapter and its scores are those of a stage that does not."""
    held = []
    stored = store_in_bf16(copytree(MODEL, tmp_path / "model"))

    @contextmanager
    def watched(model: Any, precision: Precision) -> Iterator[int]:
        with halved(model, precision) as weights:
            held.append(weights)
            yield weights

    @contextmanager
    def unheld(*_: Any) -> Iterator[int]:
        yield 0

    results = []
    for way in (watched, unheld):
        monkeypatch.setattr(train, "halved", way)
        training = {"precision": "BF16", "maxSteps": 4}
        config = job(model={"preset": None, "uri": f"file://{stored}"}, training=training)
        config["workspace"] = str(tmp_path / way.__name__)
        for stage in (Stage.PREPARE, Stage.TRAIN):
            assert run_here(stage, config).code == 0
        adapter = load_file(tmp_path / way.__name__ / "adapter/adapter_model.safetensors")
        report = (tmp_path / way.__name__ / "train-report.json").read_text()
        results.append((adapter, train.TrainReport.model_validate_json(report)))
    (first, report), (second, plain) = results
    assert held > [0]
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert (report.tuned, report.base, report.final_loss) == (plain.tuned, plain.base, plain.final_loss)
