"""How many bytes a frozen base weight takes: as it is, or in the few bits of a quantised base. Pure data."""

from dataclasses import dataclass

from tunesmith_api.enums import Quantization, TechniqueType
from tunesmith_api.finetunejob import QuantizationSpec, TechniqueSpec

#: Weights share one constant in blocks of 64, and constants one of their own in blocks of 256 (Dettmers et al. 2023,
#: section 3: 32/64 = 0.5 bit per weight, or 8/64 + 32/(64 x 256) = 0.127 bit with double quantisation).
_BLOCK_BITS = 32 / 64
_DOUBLE_BLOCK_BITS = 8 / 64 + 32 / (64 * 256)


@dataclass(frozen=True)
class Storage:
    """Bytes of one weight.

    Attributes:
        linear: of a linear layer's weight.
        other: of embeddings, heads and norms, which are never quantised.
        quantized: whether linear weights are worked out again, one layer at a time, wherever they are used.
    """

    linear: float
    other: float = 4.0
    quantized: bool = False


FULL_PRECISION = Storage(4.0)
_BITS = {Quantization.NF4: 4.0, Quantization.FP4: 4.0, Quantization.HQQ: 4.0}


def storage_of(technique: TechniqueSpec) -> Storage:
    """How a technique stores the base weights."""
    if technique.type is not TechniqueType.QLORA:
        return FULL_PRECISION
    asked = technique.quantization or QuantizationSpec()
    constants = _DOUBLE_BLOCK_BITS if asked.double_quantization else _BLOCK_BITS
    return Storage((_BITS[asked.type] + constants) / 8, quantized=True)
