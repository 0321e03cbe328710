"""The model catalog: numbers that agree with the published models."""

import json
from pathlib import Path

import pytest

from tunesmith_api.architecture import Architecture
from tunesmith_api.catalog import UnknownPresetError, find_preset, load_catalog
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner import linear_widths
from tunesmith_api.support import unsupported_job_fields

ROOT = Path(__file__).parents[2]
TINY = ROOT / "examples/models/tiny-phi3"

#: Published sizes, in billions of weights.
PUBLISHED = {
    "phi-3-mini-4k-instruct": 3.82,
    "phi-3-mini-128k-instruct": 3.82,
    "phi-3-small-8k-instruct": 7.39,
    "phi-3-small-128k-instruct": 7.39,
    "phi-3-medium-4k-instruct": 13.96,
    "phi-3-medium-128k-instruct": 13.96,
    "phi-3.5-mini-instruct": 3.82,
    "phi-4-mini-instruct": 3.84,
    "phi-4": 14.66,
    "tiny-phi3": 0.000804,
}


def counted_weights(model: Architecture) -> int:
    """Weights of a decoder: embeddings (once where tied), linear layers and norms."""
    embeddings = model.vocab_size * model.hidden_size * (1 if model.tie_word_embeddings else 2)
    layer = sum(a * b for a, b in linear_widths(model).values()) + 2 * model.hidden_size
    return embeddings + model.num_hidden_layers * layer + model.hidden_size


def test_the_catalog_holds_the_first_families() -> None:
    """Every model of the table is in the catalog, under its own name and the right file."""
    assert set(load_catalog()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_follow_from_the_architecture(name: str) -> None:
    """The architecture's numbers give the stated and the published count within one per cent."""
    model = find_preset(name).architecture
    assert counted_weights(model) == pytest.approx(model.parameters, rel=0.01)
    assert model.parameters == pytest.approx(PUBLISHED[name] * 1e9, rel=0.01)


def test_the_tiny_models_numbers_are_its_configuration() -> None:
    """The bundled model's row says what its config.json says."""
    config = json.loads((TINY / "config.json").read_text())
    derived = {"parameters", "kind", "num_decoder_layers", "head_dim", "stored_in_bf16"}
    derived |= {"fused_projections", "gated_feed_forward", "biases"}
    stated = find_preset("tiny-phi3").architecture.model_dump(exclude=derived)
    assert stated == {name: config[name] for name in stated}


def test_only_the_tiny_model_is_bundled() -> None:
    """Every other model is fetched from its publisher."""
    assert [name for name, model in load_catalog().items() if model.bundled] == ["tiny-phi3"]
    assert all(model.uri.startswith("hf://microsoft/") for model in load_catalog().values() if not model.bundled)


def test_an_unknown_preset_names_the_nearest() -> None:
    """A typo is answered with what was probably meant."""
    with pytest.raises(UnknownPresetError, match=r"did you mean .*phi-3-mini-4k-instruct"):
        find_preset("phi3-mini-4k")


def test_a_preset_without_a_neighbour_lists_the_catalog() -> None:
    """A name that is like no other is answered with all of them."""
    with pytest.raises(UnknownPresetError, match="known presets: phi-3-medium-128k-instruct"):
        find_preset("zzzz")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_that_needs_foreign_code_is_refused(name: str) -> None:
    """Phi-3 small would need code from its repository; the refusal names the field and what to use."""
    data = {"train": {"uri": "configmap://data/train.jsonl"}}
    refused = unsupported_job_fields(FineTuneJobSpec.model_validate({"model": {"preset": name}, "dataset": data}))
    assert [found.field for found in refused] == (["spec.model.preset"] if "small" in name else [])
    assert "small" not in "".join(found.supported for found in refused)
