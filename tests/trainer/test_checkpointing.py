"""Gradient checkpointing changes the memory of a training and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from technique_runs import spec_of, start, trainer_of
from tiny_models import FAMILIES
from tiny_recipes import recipe_of

from tunesmith_trainer.recipe import Recipe

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

#: Each family by LoRA, and what treats layers otherwise on one of them.
CELLS = [("llama", "LoRA"), ("bert", "LoRA"), ("t5", "LoRA"), ("llama", "QLoRA")]
MORE = [(family, "LoRA") for family in FAMILIES if (family, "LoRA") not in CELLS]
MORE += [("llama", name) for name in ("DoRA", "AdaLoRA", "Full", "Prompt tuning")]


def kept_bytes(recipe: Recipe, model: Any) -> int:
    """What autograd keeps of a forward pass for the backward pass."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        recipe.loss(model.train(), recipe.collate(recipe.evaluation))
    return sum(sizes.values())


@pytest.mark.parametrize(
    ("family", "name"), [*CELLS, *(pytest.param(*cell, marks=pytest.mark.extended) for cell in MORE)]
)
def test_the_same_is_learnt_with_less_kept(family: str, name: str, tmp_path: Path) -> None:
    """The weights after eight steps are the same, and a forward pass keeps less."""
    recipe, asked, kept, weights = recipe_of(family, tmp_path / "base"), spec_of(name), [], []
    for again in (False, True):
        model = start(recipe, asked)
        trainer_of(model, asked, recipe, tmp_path / str(again), gradient_checkpointing=again).train()
        weights.append({key: weight for key, weight in model.named_parameters() if weight.requires_grad})
        kept.append(kept_bytes(recipe, model))
    assert kept[1] < kept[0]
    for key, weight in weights[0].items():
        torch.testing.assert_close(weights[1][key], weight, rtol=0, atol=1e-6)
