"""Every technique on every kind of model that it fits has the properties that `test_techniques` proves on a Phi-3."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from technique_runs import Trained, base_of, logits_of, spec_of, start, train, trainer_of
from tiny_models import FAMILIES
from tiny_recipes import kind_of, recipe_of

from tunesmith_api.techniques import TECHNIQUES, technique_of
from tunesmith_trainer.encoder_recipe import EncoderRecipe
from tunesmith_trainer.tuned import load_tuned, merged, save_tuned

pytestmark = [
    pytest.mark.torch,
    pytest.mark.extended,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CELLS = [
    pytest.param((family, name), id=f"{family}-{name}")
    for family in FAMILIES
    for name, row in TECHNIQUES.items()
    if kind_of(family) in row.kinds
]


def anew(recipe: Any) -> Any:
    """The recipe in another run, where a new head begins otherwise."""
    return replace(recipe, seed=2) if isinstance(recipe, EncoderRecipe) else recipe


@pytest.fixture(scope="module", params=CELLS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Each cell, trained."""
    family, name = request.param
    folder = tmp_path_factory.mktemp("cell")
    return train(spec_of(name), recipe_of(family, folder / "base"), folder / "run")


def test_the_loss_falls(trained: Trained) -> None:
    """Eight steps on eight rows lower the loss on them."""
    assert trained.recipe.mean_loss(trained.model) < trained.first_loss


def test_only_declared_weights_change(trained: Trained) -> None:
    """What asks for no gradient is the same to the last bit, and most of what asks for one has moved."""
    assert trained.moved <= trained.declared
    assert len(trained.moved) > len(trained.declared) / 2


def test_saved_and_loaded_it_says_the_same(trained: Trained, tmp_path: Path) -> None:
    """The result, loaded on a fresh base, has the same logits."""
    save_tuned(trained.model, tmp_path)
    loaded = load_tuned(base_of(anew(trained.recipe), trained.asked), tmp_path)
    expected = logits_of(trained.recipe, trained.model)
    torch.testing.assert_close(logits_of(trained.recipe, loaded), expected, rtol=0, atol=2e-5)


def test_merged_it_says_the_same(trained: Trained, tmp_path: Path) -> None:
    """Merged into the full-precision base, it is a plain model with the same logits as unmerged on that base."""
    save_tuned(trained.model, tmp_path)
    loaded = load_tuned(anew(trained.recipe).load_base(), tmp_path)
    unmerged = logits_of(trained.recipe, loaded)
    if not technique_of(trained.asked).merges:
        with pytest.raises(AttributeError):
            merged(loaded)
        return
    plain = merged(loaded)
    assert not isinstance(plain, peft.PeftModel)
    torch.testing.assert_close(logits_of(trained.recipe, plain), unmerged, rtol=0, atol=1e-4)


def test_a_resumed_run_is_exact(trained: Trained, tmp_path: Path) -> None:
    """From the checkpoint in the middle, the last weights are the same to the last bit."""
    model = start(trained.recipe, trained.asked)
    trainer = trainer_of(model, trained.asked, trained.recipe, tmp_path)
    trainer.train(resume_from_checkpoint=str(trained.folder / "checkpoint-4"))
    last = trained.model.get_parameter
    assert [name for name in trained.declared if not torch.equal(model.get_parameter(name), last(name))] == []
