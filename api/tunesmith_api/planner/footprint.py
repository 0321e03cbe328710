"""What each technique adds to a training step: tensors kept for the backward pass, beyond those of plain LoRA.

The rows were found by counting the storages that autograd saves (torch.autograd.graph.saved_tensors_hooks) for two
depths and two batches of Phi-3, Llama and BERT shapes with PEFT 0.21; differences between depths and batches separate
what grows with tokens from what does not. They agree with that count to the byte in fp32 for the decoders.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import PeftMethod, TechniqueType
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.parameters import Options
from tunesmith_api.shapes import Linear, linears
from tunesmith_api.techniques import options_of

_Sum = Callable[[tuple[Linear, ...], Options], int]

#: The layers that read what attention gives.
_BEHIND_ATTENTION = frozenset({"o_proj", "dense", "o"})


def _nothing(_: tuple[Linear, ...], _options: Options) -> int:
    return 0


def _outputs(modules: tuple[Linear, ...], _: Options) -> int:
    return sum(one.outputs * one.count for one in modules)


def _scaled(modules: tuple[Linear, ...], _: Options) -> int:
    """What IA3 scales and keeps: queries, keys and values; the rest LoRA keeps as well.

    Less what LoRA alone keeps of attention, unless keys are repeated for groups of queries: a sixth to a third
    (counted), of which the sixth is taken.
    """
    attention = [one for one in modules if not one.feed_forward]
    given = sum(one.inputs * one.count for one in attention if one.name in _BEHIND_ATTENTION)
    scaled = sum(one.outputs * one.count for one in attention if one.name not in _BEHIND_ATTENTION)
    return scaled - given // 2 if scaled == 3 * given else scaled


def _weights(modules: tuple[Linear, ...], _: Options) -> int:
    return sum(one.weights for one in modules)


def _squares(modules: tuple[Linear, ...], _: Options) -> int:
    return sum(one.inputs**2 * one.count for one in modules)


def _rotations(modules: tuple[Linear, ...], options: Options) -> int:
    """OFT's blocks along the inputs, in each power of Cayley's series but the last."""
    powers = int(options["num_cayley_neumann_terms"]) - 1 if options["use_cayley_neumann"] else 4
    return sum(one.inputs * one.count for one in modules) * int(options["oft_block_size"]) * (2 * powers + 1) // 2


def _reflections(modules: tuple[Linear, ...], options: Options) -> int:
    """HRA's product of reflections after each of them, and the weight that it turned."""
    return (int(options["r"]) + 1) * _squares(modules, options) + _weights(modules, options)


@dataclass(frozen=True)
class Footprint:
    """Elements kept for the backward pass beyond LoRA's.

    Attributes:
        per_token: elements for each token of the batch, all layers together.
        fixed: elements whatever the batch, all layers together.
        trains_base: whether base weights are trained, so that norms keep their inputs too.
    """

    per_token: _Sum = _nothing
    fixed: _Sum = _nothing
    trains_base: bool = False


_LORA = Footprint()
_DELTA = Footprint(fixed=_weights)
_DORA = Footprint(per_token=lambda modules, options: 2 * _outputs(modules, options), fixed=_squares)

#: DoRA keeps each module's output with and without the update, and the identity that it multiplies the update with.
#: QLoRA's outputs are fitted to measured peaks: PEFT copies each 4-bit layer's result before it adds the update.
#: LoHa, LoKr and FourierFT build the whole update of each weight; BOFT its rotation of all inputs in three factors.
FOOTPRINTS: dict[TechniqueType | PeftMethod, Footprint] = {
    TechniqueType.LORA: _LORA,
    TechniqueType.QLORA: Footprint(per_token=_outputs),
    TechniqueType.DORA: _DORA,
    TechniqueType.FULL: Footprint(trains_base=True),
    PeftMethod.IA3: Footprint(per_token=_scaled),
    PeftMethod.ADALORA: _LORA,
    PeftMethod.VERA: _LORA,
    PeftMethod.OFT: Footprint(fixed=_rotations),
    PeftMethod.BOFT: Footprint(per_token=_outputs, fixed=lambda modules, options: 3 * _squares(modules, options)),
    PeftMethod.LOHA: _DELTA,
    PeftMethod.LOKR: _DELTA,
    PeftMethod.FOURIER_FT: _DELTA,
    PeftMethod.HRA: Footprint(fixed=_reflections),
    PeftMethod.LAYER_NORM: Footprint(trains_base=True),
    PeftMethod.PREFIX_TUNING: _LORA,
    PeftMethod.PROMPT_TUNING: _LORA,
    PeftMethod.P_TUNING: _LORA,
}


def footprint_of(technique: TechniqueSpec) -> Footprint:
    """The row of a technique; DoRA's for every LoRA whose weights are decomposed.

    Raises:
        KeyError: technique Auto, which has to be replaced first.
    """
    if technique.lora is not None and technique.lora.weight_decomposed:
        return _DORA
    return FOOTPRINTS[technique.peft.method if technique.peft is not None else technique.type]


def extra_elements(technique: TechniqueSpec, model: Architecture) -> tuple[int, int]:
    """Elements per token and whatever the batch that a technique keeps beyond LoRA, all layers together."""
    footprint, options = footprint_of(technique), options_of(technique)
    targets = set(technique.lora.target_modules or ()) if technique.lora else set()
    modules = tuple(one for one in linears(model) if one.names & targets) or linears(model)
    return footprint.per_token(modules, options), footprint.fixed(modules, options)
