"""Peak memory of the stages of a job, by its parts. Pure arithmetic; each formula names its source.

"Counted" in a docstring means: the storages that autograd saves were counted, see `planner.footprint`. "Measured" means
`python bench/planner.py`, whose table is in docs/planner.md; "fitted" means chosen so that it comes near that table,
and "assumed" that nothing was measured.
"""

from dataclasses import dataclass, fields, replace

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import ModelKind, Offload, TechniqueType
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.planner.footprint import extra_elements, footprint_of
from tunesmith_api.planner.storage import storage_of
from tunesmith_api.planner.trained import trained_parameters
from tunesmith_api.shapes import (
    key_width,
    layers,
    linear_weights,
    linears,
    query_width,
)
from tunesmith_api.techniques import virtual_tokens

#: Python, torch, transformers, PEFT, bitsandbytes, DeepSpeed and what they load on first use (fitted: docs/planner.md).
FRAMEWORK_BYTES = 1090 * 2**20
#: Of that, resident after the imports on the machine that it was fitted on; elsewhere it was 964 and 1,046 MiB.
FITTED_LIBRARIES_BYTES = 912 * 2**20
#: What DeepSpeed's import adds to them (measured).
DEEPSPEED_BYTES = 45 * 2**20
#: What a process with a GPU keeps on the device: CUDA's context and kernels (assumed).
DEVICE_FRAMEWORK_BYTES = 600 * 2**20
#: Elements that DeepSpeed exchanges at a time, and weights that stage 3 keeps gathered at most. Its own defaults, 500
#: million and a billion, are 2 and 4 GB in fp32 and would weigh more than the parts of a small model.
ZERO_BUCKET_ELEMENTS = 50_000_000
ZERO_LIVE_WEIGHTS = 200_000_000
#: What gathering leaves in glibc's heap: measured, alike for 23 and 74 M weights.
GATHERING_GAPS = 150 * 2**20
#: Longest sequence that is trained on when the job does not say: longer rows rarely pay for their memory.
DEFAULT_SEQUENCE_LENGTH = 2048
#: Tokens of an evaluation batch, padding included; a longer row makes a batch by itself.
EVALUATION_TOKENS = 2048
ENCODER_EVALUATION_TOKENS = 4096
#: Tokens, of prompts and answers together, that are decoded at a time: bounds the KV cache. A longer row is alone.
GENERATION_TOKENS = 4096
#: Share of the positions whose logits are computed where the prompt is not learnt: rows of a batch start their answers
#: at different places, and every place where any row has a label counts (assumed; measured runs were told theirs).
COMPLETION_SHARE = 0.75
#: fp32 copies of the logits while the loss is worked out (logits, log-softmax, gradient) and in evaluation (counted).
LOGIT_COPIES = 3
#: What the allocator holds beside live tensors at the peak, as a share of them: gaps in the heap between tensors of
#: many sizes, more where autocast's copies come and go among them, fewer in an evaluation, before which the trainer
#: returns the heap (fitted: docs/planner.md). On a device: what CUDA's caching allocator rounds up (assumed).
HOST_SLACK, HOST_AUTOCAST_SLACK, HOST_EVALUATION_SLACK, DEVICE_SLACK = 0.35, 0.6, 0.1, 0.1
ADAM_BYTES = 8
FP32, HALF = 4, 2


@dataclass(frozen=True)
class Workload:
    """What one training process does at a time.

    Attributes:
        batch_size: rows of a forward pass.
        sequence_length: tokens of the longest row.
        labelled_share: share of the positions whose logits are computed.
        accumulation: forward passes of an optimizer step.
        autocast: half-precision arithmetic over full-precision weights.
        checkpointing: activations of a layer are worked out again in the backward pass.
        lossless_half: the checkpoint's weights are in the half precision of the arithmetic.
        answer_tokens: longest generated answer; 0 where nothing is generated.
    """

    batch_size: int
    sequence_length: int
    labelled_share: float = 1.0
    accumulation: int = 1
    autocast: bool = False
    checkpointing: bool = False
    lossless_half: bool = False
    answer_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a forward pass."""
        return self.batch_size * self.sequence_length


@dataclass(frozen=True)
class Sharding:
    """How processes share the model's states.

    Attributes:
        processes: training processes in all.
        per_worker: processes in one pod.
        zero_stage: DeepSpeed's stage; 0 is data parallelism only, None no DeepSpeed at all.
        offload: what lies in host memory.
    """

    processes: int = 1
    per_worker: int = 1
    zero_stage: int | None = None
    offload: Offload = Offload.NONE

    def share(self, least_stage: int) -> int:
        """By how much a state is divided that ZeRO shards from some stage on."""
        return self.processes if (self.zero_stage or 0) >= least_stage else 1


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory of one training process by its parts, in bytes.

    Gradients, and activations with logits, are not at their peaks together, and neither is evaluation: see `total`.

    Attributes:
        weights: frozen and trained base weights, as training holds them.
        adapter: weights that the technique adds.
        gradients: of the trained weights.
        optimizer: AdamW's two moments, and the fp32 copy of half-precision weights.
        activations: what the forward pass keeps for the backward pass.
        logits: the loss's share of it.
        evaluation: the evaluation's batch.
        framework: the libraries.
        exchange: what several processes hold to exchange gradients and weights.
        dequantized: the largest 4-bit weight, worked out again where it is used.
        denominator: AdamW's of one weight, in the step after the backward pass.
        restored: what the weights take more in an evaluation, which has all of them in fp32.
        slack: what the allocator holds beside tensors, as a share of those of training.
        evaluation_slack: the same of an evaluation's.
        host: memory beside the devices' that a worker's processes need for offloading and for loading the model, each
            the whole of it; 0 where the device is the host.
        accumulates: whether gradients stay over several backward passes.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    evaluation: int
    framework: int
    exchange: int = 0
    dequantized: int = 0
    denominator: int = 0
    restored: int = 0
    slack: float = HOST_SLACK
    evaluation_slack: float = HOST_EVALUATION_SLACK
    host: int = 0
    accumulates: bool = False

    @property
    def transient(self) -> int:
        """The most of training that comes on top of the states: at the forward pass's end, or in the optimizer's step.

        Gradients grow in the backward pass as activations go, and are freed after each step unless steps accumulate.
        """
        forward = self.activations + self.logits + self.dequantized
        if self.accumulates:
            forward += self.gradients
        return max(forward, self.gradients + self.denominator)

    @property
    def evaluating(self) -> int:
        """What an evaluation has on top of the states."""
        return self.restored + int(self.evaluation * (1 + self.evaluation_slack))

    @property
    def total(self) -> int:
        """Peak on the device (in the process, where there is no device)."""
        states = self.weights + self.adapter + self.optimizer + self.exchange
        return states + self.framework + max(self.transient + self.allocator, self.evaluating)

    @property
    def allocator(self) -> int:
        """What the allocator holds in the gaps between tensors that come and go."""
        return int(self.transient * self.slack)

    def parts(self) -> dict[str, int]:
        """The parts by name, for a table or a bar."""
        own = [
            part.name for part in fields(self) if part.name not in {"host", "accumulates", "slack", "evaluation_slack"}
        ]
        return {name: getattr(self, name) for name in (*own, "allocator")}


def estimate_memory(
    model: Architecture,
    technique: TechniqueSpec,
    work: Workload,
    sharding: Sharding | None = None,
    *,
    device: bool = False,
) -> MemoryEstimate:
    """Peak memory of one training process.

    Args:
        model: the base model.
        technique: how it is adapted; not Auto.
        work: batch and arithmetic.
        sharding: the other processes; none unless said otherwise.
        device: whether tensors lie in a device's own memory.
    """
    shared = sharding or Sharding()
    states = _states(model, technique, shared)
    work = replace(work, sequence_length=work.sequence_length + virtual_tokens(technique))
    on_device, host = _place(states, shared, device=device)
    work = replace(work, lossless_half=work.lossless_half and shared.zero_stage is None)  # DeepSpeed keeps fp32
    saved = HALF * halved_weights(model, technique, work)
    return MemoryEstimate(
        weights=on_device.weights - saved,
        adapter=states.adapter,
        gradients=on_device.gradients,
        optimizer=on_device.optimizer,
        activations=activation_bytes(model, technique, work),
        logits=logit_bytes(model, work),
        evaluation=max(evaluation_bytes(model, work), generation_bytes(model, work)),
        framework=DEVICE_FRAMEWORK_BYTES if device else _libraries(shared),
        exchange=_exchange(model, technique, shared, device=device),
        dequantized=_largest(model, technique) * FP32 if storage_of(technique).quantized else 0,
        denominator=_largest(model, technique) * FP32 if footprint_of(technique).trains_base else 0,
        restored=saved,
        slack=_slack(work, device=device),
        evaluation_slack=DEVICE_SLACK if device else HOST_EVALUATION_SLACK,
        host=host + shared.per_worker * (_libraries(shared) + model.parameters * FP32) if device else 0,
        accumulates=work.accumulation > 1,
    )


@dataclass(frozen=True)
class _States:
    weights: int
    adapter: int
    gradients: int
    optimizer: int
    bucket: int = 0  # of the gradients


def _states(model: Architecture, technique: TechniqueSpec, shared: Sharding) -> _States:
    """Weights, gradients and moments of one process: 4, 4 and 8 bytes, divided by ZeRO's stages.

    Rajbhandari et al. 2020, section 3.1 and figure 1, for full-precision weights: stage 1 divides the optimizer's
    states, stage 2 the gradients too, stage 3 the weights too. AdamW in place: Loshchilov and Hutter 2019. From stage 1
    on DeepSpeed keeps a copy of the trained weights beside the moments, also of those in fp32, and to stage 2 it
    gathers gradients in a bucket that goes with them (both read in its source and seen in measurements).
    """
    trained = trained_parameters(model, technique)
    stage = shared.zero_stage or 0
    bucket = FP32 * min(trained, ZERO_BUCKET_ELEMENTS) if stage in {1, 2} else 0
    return _States(
        weights=base_bytes(model, technique) // shared.share(3),
        adapter=0 if footprint_of(technique).trains_base else trained * FP32 // shared.share(3),
        gradients=trained * FP32 // shared.share(2) + bucket,
        optimizer=trained * (ADAM_BYTES + (FP32 if stage else 0)) // shared.share(1),
        bucket=bucket,
    )


def _place(states: _States, shared: Sharding, *, device: bool) -> tuple[_States, int]:
    """What stays on the device, and what the worker's host holds for its processes.

    Offloaded states take 1.5 times their size in host memory: what DeepSpeed's own estimator adds for buffers of any
    kind (`estimate_zero3_model_states_mem_needs`, additional_buffer_factor); not measured here. The bucket that stages
    1 and 2 gather gradients in stays on the device. Where the device is the host nothing moves.
    """
    if not device or shared.offload is Offload.NONE:
        return states, 0
    moved = states.optimizer + states.gradients - states.bucket
    left = _States(states.weights, states.adapter, states.bucket, 0)
    if shared.offload is Offload.ALL:
        moved += states.weights
        left = replace(left, weights=0)
    return left, moved * shared.per_worker * 3 // 2


def _exchange(model: Architecture, technique: TechniqueSpec, shared: Sharding, *, device: bool) -> int:
    """What stays with a process that is not alone, beyond its states.

    DDP copies gradients into buckets of the same size (Li et al. 2020, section 4.2). Stage 3 has one bucket, and
    gathered weights: the most that stay, and both ends of the model, which are gathered whole. In host memory gathering
    leaves gaps in the heap.
    """
    stage = shared.zero_stage
    if stage is None:
        return trained_parameters(model, technique) * FP32 if shared.processes > 1 else 0
    if stage < 3:
        return 0
    ends = model.vocab_size * model.hidden_size * (1 if model.tie_word_embeddings else 2)
    gathered = FP32 * (min(model.parameters, ZERO_LIVE_WEIGHTS) + ends)
    bucket = FP32 * min(trained_parameters(model, technique), ZERO_BUCKET_ELEMENTS)
    return gathered + bucket + (0 if device else GATHERING_GAPS)


def base_bytes(model: Architecture, technique: TechniqueSpec) -> int:
    """The base weights as they are stored: linear layers in few bits where the technique quantises them."""
    stored, linear = storage_of(technique), linear_weights(model)
    return int(linear * stored.linear + (model.parameters - linear) * stored.other)


def activation_bytes(model: Architecture, technique: TechniqueSpec, work: Workload) -> int:
    """What the forward pass keeps for the backward pass.

    Without checkpointing every layer's; with it each layer's input and one layer's whole (Chen et al. 2016, section 3).
    """
    per_token, fixed = extra_elements(technique, model)
    width = HALF if work.autocast else FP32
    extra = per_token * width * work.tokens + fixed * width
    layer = layer_bytes_per_token(model, technique, work) * work.tokens
    copies = _half_copies(model, technique, work)
    if work.checkpointing:
        inputs = layers(model) * work.tokens * model.hidden_size * FP32
        return inputs + layer + (extra + copies) // layers(model)
    return layers(model) * layer + extra + copies


def layer_bytes_per_token(model: Architecture, technique: TechniqueSpec, work: Workload) -> int:
    """Bytes that one layer keeps per token; counted, and to the byte for Phi-3 in fp32.

    With hidden width h, query width q, key width k and feed-forward width f, in elements: the two norms' inputs and
    outputs 4h (and more, see `_norm_bytes`); attention q + 2k of the projections, q + k after rotation
    where the projections are fused, or 3q where keys and values are repeated for groups, 2q of the output, and the
    mask, one row of the sequence's length; the feed-forward layer 4f with a gate, 2f without, 3f where T5 drops some of
    it out, 8f where it has a gate of GELU in five operations too. In half precision the norms' outputs are cast for
    each module that reads them, and their inputs stay fp32.
    Scaled-dot-product attention keeps no matrix of scores (Dao et al. 2022), unless some are dropped out: then the
    scores, what is dropped and what is left, always in fp32.
    """
    hidden, wide = model.hidden_size, model.intermediate_size
    scores = FP32 * _score_elements(model, work)
    attention = _attention_elements(model) + (0 if scores else work.sequence_length)
    feed_forward = _feed_forward_factor(model) * wide
    norms = _norm_bytes(model, technique)
    if work.autocast:
        readers = 2 if model.fused_projections else 5
        return scores + HALF * (attention + feed_forward + readers * hidden) + (2 * FP32 + norms) * hidden
    return scores + FP32 * (attention + feed_forward + 4 * hidden) + norms * hidden


def _norm_bytes(model: Architecture, technique: TechniqueSpec) -> int:
    """Per unit of width, beyond a norm's output: root-mean-square norms keep their input where they are trained.

    The layer norms of BERT's family and of Marian, two and two and a half a layer, always keep it, and the outputs of
    the modules before them are not kept (counted).
    """
    if model.kind is ModelKind.ENCODER:
        return FP32
    if model.kind is ModelKind.SEQ2SEQ and not model.attention_dropout:
        return FP32 * 3 // 2
    return 2 * FP32 if footprint_of(technique).trains_base else 0


def _score_elements(model: Architecture, work: Workload) -> int:
    """Per token and layer: three matrices of each attention whose weights are dropped out (counted)."""
    if not model.attention_dropout:
        return 0
    matrices = 3 * model.num_attention_heads * work.sequence_length
    return matrices * 3 // 2 if model.kind is ModelKind.SEQ2SEQ else matrices


def _feed_forward_factor(model: Architecture) -> int:
    if model.kind is ModelKind.CAUSAL:
        return 4
    if model.kind is ModelKind.SEQ2SEQ and model.attention_dropout:
        return 8 if model.gated_feed_forward else 3
    return 2


def _attention_elements(model: Architecture) -> int:
    query, key = query_width(model), key_width(model)
    if model.kind is ModelKind.SEQ2SEQ:
        # A decoder's layer has two attentions, an encoder's one: three for two layers. Dropout keeps masks and copies.
        return (10 if model.attention_dropout else 8) * query
    if query == key and model.fused_projections:
        return 7 * query
    return 5 * query


def _half_copies(model: Architecture, technique: TechniqueSpec, work: Workload) -> int:
    """Autocast keeps a half-precision copy of each fp32 linear weight for the backward pass (counted)."""
    if not work.autocast or storage_of(technique).quantized:
        return 0
    return HALF * (linear_weights(model) - halved_weights(model, technique, work))


def halved_weights(model: Architecture, technique: TechniqueSpec, work: Workload) -> int:
    """How many frozen weights training holds in half precision, without DeepSpeed: see the trainer's `halved`."""
    changed = technique.lora is not None and technique.lora.init.splits_base
    if not (work.autocast and work.lossless_half) or changed or storage_of(technique).quantized:
        return 0
    linear = linear_weights(model)
    if technique.type is not TechniqueType.FULL:
        return linear
    last = technique.full.last_layers if technique.full else None
    return 0 if last is None else linear * max(0, layers(model) - last) // layers(model)


def logit_bytes(model: Architecture, work: Workload) -> int:
    """The loss in fp32: logits where a label is, their log-softmax and their gradient (counted)."""
    if model.kind is ModelKind.ENCODER:
        return 0
    return int(work.tokens * work.labelled_share) * model.vocab_size * FP32 * LOGIT_COPIES


def evaluation_bytes(model: Architecture, work: Workload) -> int:
    """An evaluation batch: its logits, and one layer's tensors, since nothing is kept for a backward pass.

    Of an encoder-decoder's logits a few rows at a time are copied (measured); the other kinds copy all of them
    (counted). A layer has four tensors of the hidden width and four of the feed-forward layer's at a time: assumed, and
    within the measured peaks, which have an evaluation each.
    """
    encoder = model.kind is ModelKind.ENCODER
    tokens = max(ENCODER_EVALUATION_TOKENS if encoder else EVALUATION_TOKENS, work.sequence_length)
    layer = tokens * FP32 * (4 * model.hidden_size + 4 * model.intermediate_size)
    if encoder:
        return layer
    copies = 2 if model.kind is ModelKind.SEQ2SEQ else LOGIT_COPIES
    return layer + int(tokens * work.labelled_share) * model.vocab_size * FP32 * copies


def generation_bytes(model: Architecture, work: Workload) -> int:
    """Rows that are decoded together: their KV cache, one layer's part twice as it grows, and one layer's tensors.

    An encoder's output of an encoder-decoder is kept as the decoder's second cache. The layer's
    tensors are assumed, as in `evaluation_bytes`.
    """
    if not work.answer_tokens or model.kind is ModelKind.ENCODER:
        return 0
    tokens = max(GENERATION_TOKENS, work.sequence_length + work.answer_tokens)
    cache = cache_bytes(model, rows=1, tokens=tokens)
    stacks = 2 if model.kind is ModelKind.SEQ2SEQ else 1
    layer = tokens * FP32 * (4 * model.hidden_size + 4 * model.intermediate_size)
    return cache * stacks + cache // layers(model) + layer


def cache_bytes(model: Architecture, *, rows: int, tokens: int) -> int:
    """The KV cache of generation in fp32: a key and a value per layer and token (Pope et al. 2022, section 2.2)."""
    every = model.num_decoder_layers or model.num_hidden_layers
    return 2 * every * key_width(model) * FP32 * rows * tokens


def _slack(work: Workload, *, device: bool) -> float:
    if device:
        return DEVICE_SLACK
    return HOST_AUTOCAST_SLACK if work.autocast else HOST_SLACK


def _libraries(shared: Sharding) -> int:
    return FRAMEWORK_BYTES + (0 if shared.zero_stage is None else DEEPSPEED_BYTES)


def _largest(model: Architecture, technique: TechniqueSpec) -> int:
    """Elements of the largest weight that is worked out again (QLoRA), or has a denominator of AdamW's (full tuning).

    Dettmers et al. 2023, section 3, equation 5: a 4-bit weight is worked out where it is used. AdamW's denominator is
    of one weight at a time in torch's plain loop (read in its source), which it takes on a CPU; that it is
    so on devices too is assumed.
    """
    linear = max(module.inputs * module.outputs for module in linears(model))
    return max(linear, model.vocab_size * model.hidden_size) if footprint_of(technique).trains_base else linear


def estimate_export_memory(model: Architecture, *, quantized: bool) -> int:
    """Peak memory of the export to ONNX in bytes, of all its processes.

    Measured on a model of 74 M weights: merging, the ONNX model builder and the session that is compared take 0.5 GB
    and 12.2 bytes per weight in fp32, 18 when the builder quantises; the estimate is 13 % and 4 % above those runs.
    """
    return int(0.5e9 + model.parameters * (18 if quantized else 12.2)) + FRAMEWORK_BYTES
