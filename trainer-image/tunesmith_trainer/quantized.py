"""4-bit base weights for QLoRA by bitsandbytes, on a CPU as on a GPU (Dettmers et al. 2023).

They serve the training only: the adapter is merged into the full-precision base, which is loaded anew for that; merging
into the 4-bit weights costs ten times the error (0.82 against 0.06 in the logits of a tiny model).
"""

from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import BitsAndBytesConfig

from tunesmith_api.enums import Precision, Quantization
from tunesmith_api.families import HEADS
from tunesmith_api.finetunejob import QuantizationSpec

_TYPES = {Quantization.NF4: "nf4", Quantization.FP4: "fp4"}
#: Layers that keep full precision, as patterns from the start of a name: the language model's head, and a task's own.
_KEPT = ("lm_head", r".*\.pooler", *sorted(HEADS))


def quantization_config(asked: QuantizationSpec, precision: Precision) -> BitsAndBytesConfig:
    """The configuration that `from_pretrained` quantises by, tensor by tensor, so that the peak stays low.

    Args:
        asked: the job's.
        precision: of the arithmetic; the weights are multiplied in bf16 where the training autocasts to it.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=_TYPES[asked.type],
        bnb_4bit_use_double_quant=asked.double_quantization,
        bnb_4bit_compute_dtype=_COMPUTE[precision],
        llm_int8_skip_modules=list(_KEPT),
    )


def keep_trainable(model: Any) -> Any:
    """Keep 4-bit layers in the layout that has gradients.

    On processors with AVX512_BF16, bitsandbytes 0.50 repacks a layer at its first forward pass in eval mode, for ever,
    into a layout whose product has no gradient: a run that evaluates before it trains would learn in its last layer
    only, and nothing would say so.
    """
    for part in model.modules():
        if isinstance(part, Linear4bit):
            part.support_avx512bf16_for_cpu = False
    return model


_COMPUTE: dict[Precision, Any] = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}
