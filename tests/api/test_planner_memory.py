"""Tests of the planner's memory formulas: values worked out by hand, and what must hold for every job."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_api.architecture import Architecture
from tunesmith_api.catalog import find_preset
from tunesmith_api.enums import ModelKind, Offload
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.planner import (
    ZERO_BUCKET_ELEMENTS,
    ZERO_LIVE_WEIGHTS,
    MemoryEstimate,
    Sharding,
    Workload,
    estimate_memory,
    trained_parameters,
)
from tunesmith_api.planner.memory import (
    activation_bytes,
    base_bytes,
    cache_bytes,
    generation_bytes,
    halved_weights,
    layer_bytes_per_token,
    logit_bytes,
)
from tunesmith_api.shapes import linear_weights, linears

PHI3_MINI = find_preset("phi-3-mini-4k-instruct").architecture
#: The shape whose saved storages were counted: 256 wide, 640 in the feed-forward layer, 8 heads, fused projections.
COUNTED = Architecture(
    parameters=2_000_000,
    hidden_size=256,
    intermediate_size=640,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=8,
    vocab_size=1000,
    max_position_embeddings=2048,
)
LORA = TechniqueSpec.model_validate({"type": "LoRA", "lora": {"rank": 8, "alpha": 16}})
FULL = TechniqueSpec.model_validate({"type": "Full"})
QLORA = TechniqueSpec.model_validate({"type": "QLoRA", "lora": {"rank": 8, "alpha": 16}})
DORA = TechniqueSpec.model_validate({"type": "DoRA", "lora": {"rank": 8, "alpha": 16}})
WORK = Workload(batch_size=4, sequence_length=64)


def memory(technique: TechniqueSpec = LORA, work: Workload = WORK, **more: Any) -> MemoryEstimate:
    """The estimate for Phi-3 mini."""
    return estimate_memory(PHI3_MINI, technique, work, **more)


@pytest.mark.parametrize(
    ("technique", "precision", "counted"),
    [(LORA, "FP32", 21_928), (LORA, "BF16", 12_008), (FULL, "FP32", 23_848), (FULL, "BF16", 13_992)],
)
def test_a_layer_keeps_what_autograd_was_counted_to_keep(
    technique: TechniqueSpec, precision: str, counted: int
) -> None:
    """Bytes per layer and token agree within one per cent with the storages that autograd saves for this shape."""
    work = replace(WORK, autocast=precision == "BF16")
    assert layer_bytes_per_token(COUNTED, technique, work) == pytest.approx(counted, rel=0.01)


BERT = COUNTED.model_copy(update={"kind": ModelKind.ENCODER, "fused_projections": False, "attention_dropout": True})
MARIAN = COUNTED.model_copy(update={"kind": ModelKind.SEQ2SEQ, "fused_projections": False, "num_decoder_layers": 2})
T5 = MARIAN.model_copy(update={"attention_dropout": True, "gated_feed_forward": False})


@pytest.mark.parametrize(
    ("model", "technique", "counted"),
    [
        (BERT, FULL, 21_520),
        (BERT, LORA, 21_712),
        (MARIAN, FULL, 19_012),
        (MARIAN, LORA, 19_268),
        (T5, FULL, 33_298),
        (T5, LORA, 30_986),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_other_families_keep_what_was_counted(model: Architecture, technique: TechniqueSpec, counted: int) -> None:
    """Per layer and token, a layer of an encoder-decoder being half of an encoder's and half of a decoder's."""
    assert layer_bytes_per_token(model, technique, WORK) == pytest.approx(counted, rel=0.015)


def test_scores_that_are_dropped_out_grow_with_the_square_of_the_length() -> None:
    """Three matrices of every head in fp32, also under autocast."""
    kept = [layer_bytes_per_token(BERT, FULL, replace(WORK, sequence_length=length)) for length in (64, 512)]
    half = [
        layer_bytes_per_token(BERT, FULL, replace(WORK, sequence_length=length, autocast=True)) for length in (64, 512)
    ]
    assert kept[1] - kept[0] == half[1] - half[0] == 3 * 8 * (512 - 64) * 4


def test_full_tuning_takes_sixteen_bytes_a_weight() -> None:
    """Weights, gradients and AdamW's two moments in fp32: 4 + 4 + 8 (Rajbhandari et al. 2020, section 3.1)."""
    found = memory(FULL)
    assert found.weights + found.gradients + found.optimizer == 16 * PHI3_MINI.parameters


@pytest.mark.parametrize(("stage", "bytes_per_weight"), [(0, 16), (1, 4 + 4 + 3), (2, 4 + 1 + 3), (3, 1 + 1 + 3)])
def test_zero_divides_states_by_stage(stage: int, bytes_per_weight: float) -> None:
    """Of four workers: stage 1 divides moments and the weights' copy, stage 2 gradients too, stage 3 weights too."""
    found = memory(FULL, sharding=Sharding(processes=4, zero_stage=stage))
    bucket = 4 * ZERO_BUCKET_ELEMENTS if stage in {1, 2} else 0
    states = found.weights + found.gradients + found.optimizer - bucket
    assert states == pytest.approx(bytes_per_weight * PHI3_MINI.parameters, rel=1e-6)


def test_processes_hold_what_they_exchange() -> None:
    """DDP's buckets are as large as the gradients; stage 3 holds gathered weights, both ends whole, and one bucket."""
    trained = trained_parameters(PHI3_MINI, LORA)
    assert memory().exchange == 0
    assert memory(sharding=Sharding(processes=2)).exchange == 4 * trained
    third = memory(FULL, sharding=Sharding(processes=4, zero_stage=3), device=True).exchange
    assert third == 4 * (ZERO_LIVE_WEIGHTS + 2 * 32064 * 3072 + ZERO_BUCKET_ELEMENTS)


def test_nf4_takes_four_bits_and_its_constants() -> None:
    """Linear weights take 4.127 bits with double quantisation, 4.5 without; embeddings and head stay fp32."""
    linear = linear_weights(PHI3_MINI)
    rest = 4 * (PHI3_MINI.parameters - linear)
    plain = TechniqueSpec.model_validate({"type": "QLoRA", "quantization": {"doubleQuantization": False}})
    assert base_bytes(PHI3_MINI, QLORA) == pytest.approx(linear * 4.127 / 8 + rest, rel=1e-5)
    assert base_bytes(PHI3_MINI, plain) == pytest.approx(linear * 4.5 / 8 + rest, rel=1e-6)


def test_logits_cover_the_labelled_positions() -> None:
    """Half of 256 tokens, 32064 words, four bytes, three copies."""
    assert logit_bytes(PHI3_MINI, replace(WORK, labelled_share=0.5)) == 128 * 32064 * 4 * 3


def test_the_cache_holds_keys_and_values() -> None:
    """Two tensors of the key width for each layer and token, in fp32."""
    assert cache_bytes(PHI3_MINI, rows=2, tokens=100) == 2 * 32 * 3072 * 4 * 2 * 100


def test_generation_is_bounded_by_its_tokens() -> None:
    """4096 tokens of cache and one layer's part of it again, whatever the batch; nothing where nothing is generated."""
    cache = cache_bytes(PHI3_MINI, rows=1, tokens=4096)
    layer = 4096 * 4 * (4 * 3072 + 4 * 8192)
    found = generation_bytes(PHI3_MINI, replace(WORK, answer_tokens=128))
    assert found == cache + cache // 32 + layer
    assert generation_bytes(PHI3_MINI, WORK) == 0


def test_checkpointing_keeps_inputs_and_one_layer() -> None:
    """Each layer's input, and one layer's activations."""
    whole, less = (activation_bytes(PHI3_MINI, LORA, replace(WORK, checkpointing=flag)) for flag in (False, True))
    assert less == 32 * 256 * 3072 * 4 + whole // 32


def test_offload_moves_states_from_the_device_to_the_host() -> None:
    """Moments and gradients leave the device with Optimizer, weights too with All; on a CPU pool nothing moves."""
    sharding = Sharding(processes=2, zero_stage=3)
    kept, optimizer, everything = (
        memory(FULL, sharding=replace(sharding, offload=offload), device=True) for offload in Offload
    )
    assert kept.total > optimizer.total > everything.total
    assert kept.host < optimizer.host < everything.host
    assert memory(FULL, sharding=replace(sharding, offload=Offload.ALL)) == memory(FULL, sharding=sharding)


@pytest.mark.parametrize("stage", [1, 2])
def test_offload_leaves_the_bucket_on_the_device(stage: int) -> None:
    """Stages 1 and 2 gather gradients on the device wherever they lie afterwards; the host holds the states only."""
    sharding = Sharding(processes=2, zero_stage=stage)
    bucket = 4 * ZERO_BUCKET_ELEMENTS
    kept, moved = (
        memory(FULL, sharding=replace(sharding, offload=offload), device=True)
        for offload in (Offload.NONE, Offload.OPTIMIZER)
    )
    assert (moved.gradients, moved.optimizer) == (bucket, 0)
    assert moved.host - kept.host == (kept.gradients - bucket + kept.optimizer) * 3 // 2


def test_accumulated_gradients_meet_the_activations() -> None:
    """Where steps accumulate, gradients are there while the next forward pass runs."""
    assert memory(FULL, replace(WORK, accumulation=2)).total > memory(FULL).total


def test_techniques_are_in_their_known_order() -> None:
    """QLoRA needs less than LoRA, LoRA less than DoRA, and all less than full tuning."""
    totals = [memory(technique).total for technique in (QLORA, LORA, DORA, FULL)]
    assert totals == sorted(totals)
    assert len(set(totals)) == 4


workloads = st.builds(
    Workload,
    batch_size=st.integers(1, 64),
    sequence_length=st.integers(8, 4096),
    labelled_share=st.floats(0, 1),
    accumulation=st.integers(1, 4),
    autocast=st.booleans(),
    checkpointing=st.booleans(),
)
techniques = st.sampled_from([LORA, QLORA, DORA, FULL])


@given(work=workloads, technique=techniques, more=st.integers(1, 64))
def test_more_rows_or_longer_ones_never_need_less(work: Workload, technique: TechniqueSpec, more: int) -> None:
    """The estimate grows with batch and length."""
    least = memory(technique, work).total
    assert memory(technique, replace(work, batch_size=work.batch_size + more)).total >= least
    assert memory(technique, replace(work, sequence_length=work.sequence_length + more)).total >= least


@given(work=workloads, technique=techniques)
def test_checkpointing_never_needs_more(work: Workload, technique: TechniqueSpec) -> None:
    """It keeps a part of what the plain pass keeps, but for one layer."""
    without, with_it = (memory(technique, replace(work, checkpointing=flag)).total for flag in (False, True))
    assert with_it <= without + 1.5 * (32 * 3072 * 4 * work.tokens)


@given(work=workloads, processes=st.integers(4, 64), stage=st.integers(1, 3), on_device=st.booleans())
def test_a_higher_stage_of_full_tuning_never_needs_more(
    work: Workload, processes: int, stage: int, *, on_device: bool
) -> None:
    """From four processes on each stage takes away more than its exchange adds, and more processes only divide."""

    def total(processes: int, stage: int | None) -> int:
        shared = Sharding(processes=processes, zero_stage=stage)
        return memory(FULL, work, sharding=shared, device=on_device).total

    assert total(2 * processes, stage) <= total(processes, stage) <= total(processes, stage - 1 or None)


@given(work=workloads, technique=techniques)
def test_parts_are_never_negative(work: Workload, technique: TechniqueSpec) -> None:
    """Every part is an amount of memory."""
    assert all(amount >= 0 for amount in memory(technique, work).parts().values())


def peft(method: str, **config: Any) -> TechniqueSpec:
    """A technique of PEFT with options."""
    return TechniqueSpec.model_validate({"type": "PEFT", "peft": {"method": method, "config": config}})


def test_reflections_and_virtual_tokens_take_memory() -> None:
    """HRA keeps a square of each layer's inputs per reflection, and virtual tokens are tokens of every row."""
    few, many = (memory(peft("HRA", r=rank)).activations for rank in (8, 64))
    assert many - few == 56 * sum(one.inputs**2 * one.count for one in linears(PHI3_MINI)) * 4
    short = memory(peft("PromptTuning", num_virtual_tokens=16))
    longer = memory(peft("PromptTuning", num_virtual_tokens=48), replace(WORK, sequence_length=32))
    assert longer.activations == short.activations


def test_a_bf16_checkpoint_takes_two_bytes_of_a_frozen_weight_and_no_copy() -> None:
    """Where training goes by autocast: 4 of 6 bytes are saved, and an evaluation has the weights in fp32."""
    linear = linear_weights(PHI3_MINI)
    half = replace(WORK, autocast=True)
    plain, held = memory(work=half), memory(work=replace(half, lossless_half=True))
    assert plain.weights - held.weights == held.restored == 2 * linear
    assert plain.activations - held.activations == 2 * linear
    assert memory(work=replace(WORK, lossless_half=True)) == memory()
    evaluating = replace(held, activations=0, logits=0, gradients=0)
    assert evaluating.total - replace(evaluating, restored=0).total == 2 * linear


@pytest.mark.parametrize(
    ("technique", "share"),
    [
        ({"type": "QLoRA"}, 0),
        ({"type": "Full"}, 0),
        ({"type": "Full", "full": {"lastLayers": 8}}, 0.75),
        ({"type": "LoRA", "lora": {"init": "PiSSA"}}, 0),
        ({"type": "DoRA"}, 1),
        ({"type": "PEFT", "peft": {"method": "LayerNorm"}}, 1),
    ],
)
def test_only_weights_that_stay_the_checkpoints_are_held_in_half(technique: dict[str, Any], share: float) -> None:
    """Trained, quantised and split ones are not."""
    asked = TechniqueSpec.model_validate(technique)
    work = replace(WORK, autocast=True, lossless_half=True)
    assert halved_weights(PHI3_MINI, asked, work) == share * linear_weights(PHI3_MINI)


def test_deepspeed_keeps_weights_of_its_own() -> None:
    """With ZeRO nothing is held in half precision, which the trainer leaves to DeepSpeed."""
    work = replace(WORK, autocast=True)
    sharding = Sharding(processes=2, per_worker=1, zero_stage=2)
    assert memory(work=replace(work, lossless_half=True), sharding=sharding) == memory(work=work, sharding=sharding)
