"""Rows that fill up the last batch of a gang teach nothing."""

from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES
from tiny_recipes import recipe_of

from tunesmith_trainer.loop import BatchCollator

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("family", FAMILIES)
def test_a_filling_row_teaches_nothing(family: str, tmp_path: Path) -> None:
    """A row and a filler beside it have the loss and the gradients of the row alone."""
    recipe = recipe_of(family, tmp_path)
    model = recipe.load_base()
    row, filler = recipe.evaluation[0], recipe.evaluation[2]
    collate = BatchCollator(recipe)
    losses, gradients = [], []
    for places in ([(row, False)], [(row, False), (filler, True)]):
        model.zero_grad()
        loss = recipe.loss(model, collate(places))
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)
