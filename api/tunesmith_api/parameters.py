"""How many weights each technique trains: a formula per technique over the shapes of the layers it adapts. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Linear:
    """One adapted linear layer.

    Attributes:
        inputs: width of what goes in.
        outputs: width of what comes out.
        feedforward: whether it belongs to the feed-forward block rather than to the attention.
        names: last part of its name, or each that the model may call it by where only the kind of the model is known.
    """

    inputs: int
    outputs: int
    feedforward: bool = False
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shapes:
    """What of a model the formulas need.

    Attributes:
        linears: every adapted linear layer, each layer of the model by itself.
        layers: layers of the stack that is trained last: the decoder's where there is one.
        hidden_size: width of the residual stream.
        key_value_width: width of the keys of one layer: key and value heads x head width.
        norm_weights: weights of all norms.
        total: weights in all.
        layer_weights: weights of one layer, for the training of the last ones.
        tail_weights: weights after the last layer: final norm and head.
    """

    linears: tuple[Linear, ...]
    layers: int
    hidden_size: int
    key_value_width: int
    norm_weights: int
    total: int
    layer_weights: int
    tail_weights: int


def narrowed(shapes: Shapes, targets: Collection[str] | None) -> Shapes:
    """The shapes with the layers of some names only; of every layer where none is asked for.

    A family whose names are not known here keeps every layer: only the loaded model tells what they are called.
    """
    found = tuple(layer for layer in shapes.linears if layer.names.intersection(targets or ()))
    return replace(shapes, linears=found) if found else shapes


def lora(options: Options, shapes: Shapes) -> int:
    """A is rank x in and B is out x rank (Hu et al. 2021, section 4)."""
    return sum(int(options["r"]) * (layer.inputs + layer.outputs) for layer in shapes.linears)


def dora(options: Options, shapes: Shapes) -> int:
    """LoRA and one magnitude per output (Liu et al. 2024, section 4)."""
    return lora(options, shapes) + sum(layer.outputs for layer in shapes.linears)


def ia3(_options: Options, shapes: Shapes) -> int:
    """One factor per output of an attention layer, or per input of a feed-forward layer (Liu et al. 2022)."""
    return sum(layer.inputs if layer.feedforward else layer.outputs for layer in shapes.linears)


def adalora(options: Options, shapes: Shapes) -> int:
    """P, the singular values and Q at the first rank (Zhang et al. 2023); the pruned ones end at zero."""
    return sum(int(options["init_r"]) * (layer.inputs + layer.outputs + 1) for layer in shapes.linears)


def vera(options: Options, shapes: Shapes) -> int:
    """Two vectors per layer, of the rank and of the output's width (Kopiczko et al. 2023)."""
    return sum(int(options["r"]) + layer.outputs for layer in shapes.linears)


def oft(options: Options, shapes: Shapes) -> int:
    """A skew-symmetric matrix per block of the input, or one that all blocks share (Qiu et al. 2023)."""
    size = int(options["oft_block_size"])
    each = size * (size - 1) // 2
    return sum(each * (1 if options["block_share"] else layer.inputs // size) for layer in shapes.linears)


def boft(options: Options, shapes: Shapes) -> int:
    """One butterfly factor of square blocks along the input, and a scale per output (Liu et al. 2023)."""
    return sum(layer.inputs * int(options["boft_block_size"]) + layer.outputs for layer in shapes.linears)


def loha(options: Options, shapes: Shapes) -> int:
    """Two low-rank products whose elements are multiplied (Hyeon-Woo et al. 2021)."""
    return sum(2 * int(options["r"]) * (layer.inputs + layer.outputs) for layer in shapes.linears)


def lokr(options: Options, shapes: Shapes) -> int:
    """A small matrix, times (Kronecker) a large one that is low-rank where that is smaller (Yeh et al. 2023)."""
    return sum(_kronecker(options, layer) for layer in shapes.linears)


def _kronecker(options: Options, layer: Linear) -> int:
    rank, factor = int(options["r"]), int(options["decompose_factor"])
    (small_in, large_in), (small_out, large_out) = factors(layer.inputs, factor), factors(layer.outputs, factor)
    split = options["decompose_both"] and rank < max(small_out, small_in) / 2
    small = rank * (small_out + small_in) if split else small_out * small_in
    low_rank = rank < max(large_out, large_in) / 2
    return small + (rank * (large_out + large_in) if low_rank else large_out * large_in)


def factors(dimension: int, factor: int) -> tuple[int, int]:
    """A width as a product of a smaller and a larger number: the asked one, else as near to square as can be."""
    if factor > 0 and dimension % factor == 0:
        return factor, dimension // factor
    bound = dimension if factor == -1 else factor
    small = max(
        divisor for divisor in range(1, int(dimension**0.5) + 1) if dimension % divisor == 0 and divisor <= bound
    )
    return small, dimension // small


def fourier(options: Options, shapes: Shapes) -> int:
    """The same number of spectral coefficients for each layer (Gao et al. 2024)."""
    return len(shapes.linears) * int(options["n_frequency"])


def hra(options: Options, shapes: Shapes) -> int:
    """As many Householder vectors of the input's width as the rank (Yuan et al. 2024)."""
    return sum(int(options["r"]) * layer.inputs for layer in shapes.linears)


def norms(_options: Options, shapes: Shapes) -> int:
    """Every weight of every norm (Zhao et al. 2023)."""
    return shapes.norm_weights


def prefix(options: Options, shapes: Shapes) -> int:
    """A key and a value per virtual token and layer, or the network that makes them (Li and Liang 2021)."""
    tokens, each = int(options["num_virtual_tokens"]), 2 * shapes.layers * shapes.key_value_width
    if not options["prefix_projection"]:
        return tokens * each
    width = shapes.key_value_width
    inner = int(options.get("encoder_hidden_size") or width)
    return tokens * width + (width + 1) * inner + (inner + 1) * each


def prompt(options: Options, shapes: Shapes) -> int:
    """One embedding per virtual token (Lester et al. 2021)."""
    return int(options["num_virtual_tokens"]) * shapes.hidden_size


def p_tuning(options: Options, shapes: Shapes) -> int:
    """One embedding per virtual token and a network of three linear layers on them (Liu et al. 2021)."""
    width = shapes.hidden_size
    inner = int(options.get("encoder_hidden_size") or width)
    return prompt(options, shapes) + (width + 1) * inner + (inner + 1) * inner + (inner + 1) * width


def full(_options: Options, shapes: Shapes) -> int:
    """Every weight."""
    return shapes.total


def last_layers(options: Options, shapes: Shapes) -> int:
    """The weights of the last layers, of the final norm and of the head."""
    return int(options["last_layers"]) * shapes.layer_weights + shapes.tail_weights
