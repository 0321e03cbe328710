"""Layers that a checkpoint has no weights for are trained and saved whole, as a task's head is."""

import peft
import pytest
import torch
from technique_runs import base_of, spec_of
from tiny_models import WIDTH, WORDS
from transformers import BertConfig, BertForMaskedLM

from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.classification import Classification
from tunesmith_trainer.encoder_model import Reading
from tunesmith_trainer.encoder_recipe import EncoderRecipe
from tunesmith_trainer.tuned import load_tuned, save_tuned

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A BERT as its pre-training leaves it: with no pooler."""
    folder = tmp_path_factory.mktemp("bert")
    shape = {"hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=WORDS, **shape)).save_pretrained(folder)
    return folder


def recipe(folder, seed):
    """A recipe for three classes; the seed makes what is new."""
    return EncoderRecipe(folder, seed, [], Classification(("a", "b", "c"), multiple=False), Reading(0, segments=True))


@pytest.mark.parametrize("name", ["LoRA", "QLoRA"])
def test_a_pooler_that_is_new_is_trained_and_saved(name, masked, tmp_path):
    """The adapter alone, on a base whose new layers began otherwise, says the same; it is never stored in few bits."""
    asked = spec_of(name)
    tuned = adapt(base_of(recipe(masked, 1), asked), Adaptation(asked, task="SEQ_CLS")).eval()
    trained = [name for name, weight in tuned.named_parameters() if weight.requires_grad]
    assert any("pooler" in name for name in trained)
    with torch.no_grad():
        for weight in tuned.parameters():
            if weight.requires_grad:
                weight.add_(0.01)
    save_tuned(tuned, tmp_path)
    loaded = load_tuned(base_of(recipe(masked, 2), asked), tmp_path)
    assert isinstance(loaded, peft.PeftModel)
    batch = {"input_ids": torch.arange(5, 15).reshape(2, 5), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, tuned(**batch).logits, rtol=0, atol=1e-6)
