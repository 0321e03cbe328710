"""Tests of the planner's formulas."""

from tunesmith_api.catalog import Architecture
from tunesmith_api.finetunejob import LoraSpec
from tunesmith_api.planner import estimate_lora_memory, linear_widths, lora_parameters, widest_rank

PHI3_MINI = Architecture(
    parameters=3_821_079_552,
    hidden_size=3072,
    intermediate_size=8192,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    vocab_size=32064,
    max_position_embeddings=4096,
)


def test_lora_trains_rank_times_both_widths_of_each_layer() -> None:
    """Each adapted module adds rank x (input + output) weights, in every decoder layer."""
    per_layer = 16 * ((3072 + 9216) + (3072 + 3072) + (3072 + 16384) + (8192 + 3072))

    assert lora_parameters(PHI3_MINI, 16) == 32 * per_layer


def test_the_widest_rank_is_the_narrowest_side() -> None:
    """A rank above the narrowest side of a layer would not be low."""
    assert widest_rank(PHI3_MINI) == 3072
    assert linear_widths(PHI3_MINI)["qkv_proj"] == (3072, 9216)


def test_memory_grows_with_batch_and_length_but_weights_do_not() -> None:
    """Activations and logits scale with the tokens of a batch; weights, adapter and optimizer do not."""
    small = estimate_lora_memory(PHI3_MINI, LoraSpec(), batch_size=1, sequence_length=512)
    large = estimate_lora_memory(PHI3_MINI, LoraSpec(), batch_size=4, sequence_length=512)

    assert large.activations == 4 * small.activations
    assert large.logits == 4 * small.logits
    assert (large.weights, large.optimizer) == (small.weights, small.optimizer)
    assert large.total > small.total
