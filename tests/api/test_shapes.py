"""Tests of the linear layers and weight counts that follow from a configuration."""

from typing import Any

import pytest

from tunesmith_api.catalog import find_preset
from tunesmith_api.enums import ModelKind
from tunesmith_api.shapes import architecture_of, linear_widths, lora_parameters, widest_rank

PHI3_MINI = find_preset("phi-3-mini-4k-instruct").architecture
SPECIAL = {"vocab_size": 1000}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    **SPECIAL,
}
T5 = {"model_type": "t5", "is_encoder_decoder": True, "d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4}


def test_lora_trains_rank_times_both_widths_of_each_layer() -> None:
    """Each adapted module adds rank x (input + output) weights, in every decoder layer."""
    per_layer = 16 * ((3072 + 9216) + (3072 + 3072) + (3072 + 16384) + (8192 + 3072))
    assert lora_parameters(PHI3_MINI, 16) == 32 * per_layer


def test_the_widest_rank_is_the_narrowest_side() -> None:
    """A rank above the narrowest side of a layer would not be low."""
    assert widest_rank(PHI3_MINI) == 3072
    assert linear_widths(PHI3_MINI)["qkv_proj"] == (3072, 9216)


def test_weights_of_a_grouped_decoder() -> None:
    """Embedding and head, per layer q, k, v, o and three feed-forward modules with two norms, and the last norm."""
    layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 160 + 2 * 64
    assert architecture_of(LLAMA).parameters == 2 * 1000 * 64 + 2 * layer + 64
    assert linear_widths(architecture_of(LLAMA))["k_proj"] == (64, 32)


def test_an_encoder_decoder_has_both_stacks() -> None:
    """A decoder layer has two attentions and three norms, an encoder layer one and two; embeddings are shared.

    Each stack weighs 32 distances for each of the four heads.
    """
    model = architecture_of({**T5, **SPECIAL, "d_kv": 16})
    attentions, norms = 3 * 2 * 4 * 64 * 64, (2 * 2 + 3 * 2 + 2) * 64
    assert model.kind is ModelKind.SEQ2SEQ
    assert model.parameters == 1000 * 64 + attentions + 4 * 2 * 64 * 128 + norms + 2 * 32 * 4


@pytest.mark.parametrize("said", [{"feed_forward_proj": "gated-gelu"}, {"is_gated_act": True}])
def test_a_gate_is_one_more_projection(said: dict[str, Any]) -> None:
    """T5's second version and mT5 have two of the feed-forward layer's width beside the one back."""
    plain, gated = (architecture_of({**T5, **SPECIAL, **more}) for more in ({}, said))
    assert gated.parameters - plain.parameters == 4 * 64 * 128
    assert {"wi_0", "wi_1", "wo"} <= set(linear_widths(gated))


def test_a_configuration_without_a_width_is_refused() -> None:
    """The message names the number."""
    with pytest.raises(ValueError, match="hidden_size is missing"):
        architecture_of({name: value for name, value in LLAMA.items() if name != "hidden_size"})
