"""Looking at a base model's folder without torch."""

from pathlib import Path

import pytest

from tunesmith_trainer.model_files import inspect_model, layers_of, width_of

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "tiny-phi3": (ROOT / "examples" / "models", 4, 128),
    "tiny-llama": (ROOT / "tests" / "models", 2, 64),
    "tiny-bert": (ROOT / "tests" / "models", 3, 96),
    "tiny-distilbert": (ROOT / "tests" / "models", 3, 96),
    "tiny-t5": (ROOT / "tests" / "models", 2, 64),
    "tiny-marian": (ROOT / "tests" / "models", 2, 64),
    "tiny-opus-mt": (ROOT / "tests" / "models", 2, 48),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_layers_and_width_are_known_of_every_family(name):
    """Each calls them differently; a bound that is read as 0 would refuse every job."""
    folder, layers, width = FOLDERS[name]
    config = inspect_model(folder / name).config
    assert (layers_of(config), width_of(config)) == (layers, width)


def test_the_decoder_s_layers_count():
    """Marian's `num_hidden_layers` are the encoder's; what is trained last is the decoder."""
    assert layers_of({"num_hidden_layers": 6, "encoder_layers": 6, "decoder_layers": 2}) == 2
