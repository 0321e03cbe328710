"""How long a training takes and what it costs, where the pool says how fast it is and what an hour costs. Pure.

Each number and formula says where it is from: a publication, "counted" where it is bookkeeping of the trainer's own
loop, or "assumed" where nothing was measured.
What is not known stays unknown: a pool without `teraflops` has no time, and without `pricePerHour` no cost.
"""

from dataclasses import dataclass

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import ModelKind, PeftMethod, PoolClass, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, TechniqueSpec
from tunesmith_api.planner.footprint import footprint_of
from tunesmith_api.planner.memory import Workload
from tunesmith_api.planner.trained import trained_parameters
from tunesmith_api.shapes import layers, linear_weights, query_width

#: Share of a device's matrix arithmetic that a training step reaches. CPU: measured, 0.41 to 0.50
#: (`python bench/throughput.py`, docs/planner.md). GPU: what large runs report (46 %
#: of the peak for PaLM, Chowdhery et al. 2022, section 4.1), less an assumed part for the small batches of fine-tuning.
#: FPGA: as CPU, since PyTorch trains on the node's processors there.
UTILISATION = {PoolClass.CPU: 0.5, PoolClass.GPU: 0.35, PoolClass.FPGA: 0.5}
#: NF4 weights are worked out again in both passes: litgpt's runs took 1.56 times LoRA's time (3.68 against 2.36 min).
QUANTIZED_FACTOR = 1.56
#: Times of PEFT's benchmark (`method_comparison/MetaMathQA`, Llama-3.2-3B) over LoRA's 15.7 min; DoRA: 19.8 min.
DECOMPOSED_FACTOR = 1.26
METHOD_FACTORS = {
    PeftMethod.IA3: 1.13,
    PeftMethod.ADALORA: 1.24,
    PeftMethod.VERA: 1.08,
    PeftMethod.OFT: 1.27,
    PeftMethod.BOFT: 7.35,
    PeftMethod.PROMPT_TUNING: 1.52,
}


@dataclass(frozen=True)
class Spending:
    """What a training takes; None where it is not known.

    Attributes:
        tokens: tokens that are trained on, passes counted, padding left out.
        tokens_per_second: of all workers together.
        seconds: duration of the training itself.
        cost: in the currency of `pricePerHour`.
    """

    tokens: int | None = None
    tokens_per_second: float | None = None
    seconds: float | None = None
    cost: float | None = None


def flops_per_token(model: Architecture, technique: TechniqueSpec, work: Workload) -> float:
    """Floating-point operations of one training token.

    Forward 2 per weight of the layers, backward 2 for the activations' gradients and 2 for those of trained weights
    (Kaplan et al. 2020, section 2.1: 6N in all; frozen weights have no gradient: 4N, and the adapter's 6). The head
    counts for labelled positions only. Attention takes 2 x layers x length x width more in the forward pass for scores
    and the same for their use (ibid., table 1), and twice that in the backward pass. With checkpointing the layers'
    forward pass is done again (Chen et al. 2016, section 3).
    """
    body, head = linear_weights(model), model.vocab_size * model.hidden_size * work.labelled_share
    if model.kind is ModelKind.ENCODER:
        head = 0
    base = body + head
    trains_base = technique.type is TechniqueType.FULL and not (technique.full and technique.full.last_layers)
    own = 0 if footprint_of(technique).trains_base else trained_parameters(model, technique)
    attention = 4 * layers(model) * work.sequence_length / 2 * query_width(model)
    again = 2 * (body + own) + attention if work.checkpointing else 0
    return (6 if trains_base else 4) * base + 6 * own + 3 * attention + again


def slowdown(technique: TechniqueSpec) -> float:
    """How much longer than its arithmetic says a technique takes, by the factors above.

    Of several that apply the product is taken, and 1 for a method that the benchmark does not have: assumed.
    """
    decomposed = technique.type is TechniqueType.DORA or bool(technique.lora and technique.lora.weight_decomposed)
    quantized = technique.type is TechniqueType.QLORA
    method = METHOD_FACTORS.get(technique.peft.method, 1.0) if technique.peft else 1.0
    return method * (DECOMPOSED_FACTOR if decomposed else 1.0) * (QUANTIZED_FACTOR if quantized else 1.0)


def training_tokens(spec: FineTuneJobSpec, work: Workload, dataset_tokens: int | None, rows: int | None) -> int | None:
    """Tokens of the whole training: counted, as the trainer's loop takes them, with rows of the data's mean length.

    With the data set's numbers: its tokens times the epochs, and at most what maxSteps steps see. Without them only
    maxSteps gives a bound, with every row as long as it can be; else nothing is known.
    """
    training = spec.training
    processes = spec.distribution.workers * spec.distribution.processes_per_worker
    per_step = work.batch_size * training.gradient_accumulation_steps * processes
    mean = work.sequence_length if dataset_tokens is None or not rows else dataset_tokens / rows
    bound = None if training.max_steps is None else int(training.max_steps * per_step * mean)
    whole = None if dataset_tokens is None else int(dataset_tokens * training.epochs)
    known = [amount for amount in (bound, whole) if amount is not None]
    return min(known, default=None)


def spending(
    model: Architecture,
    technique: TechniqueSpec,
    work: Workload,
    *,
    tokens: int | None,
    teraflops: float | None,
    device_class: PoolClass,
    price_per_hour: float | None,
    nodes: int = 1,
    engines: int = 1,
) -> Spending:
    """Time and cost of a training: operations over the arithmetic that is reached, and hours times the price.

    That all engines together are as many times as fast as one is assumed: exchanging gradients takes no time here.

    Args:
        model: the base model.
        technique: how it is adapted.
        work: batch and length.
        tokens: tokens to train on.
        teraflops: matrix arithmetic of one device, or of one node without.
        device_class: what the workers run on.
        price_per_hour: of one node.
        nodes: those that the workers run on.
        engines: what does the arithmetic, in all: devices, or nodes without.
    """
    if teraflops is None:
        return Spending(tokens)
    flops = flops_per_token(model, technique, work) * slowdown(technique)
    rate = teraflops * 1e12 * UTILISATION[device_class] * engines / flops
    if tokens is None:
        return Spending(None, rate)
    seconds = tokens / rate
    return Spending(tokens, rate, seconds, None if price_per_hour is None else seconds / 3600 * price_per_hour * nodes)
