"""Frozen weights in half precision while training by autocast, where that changes nothing.

Autocast multiplies in half precision: at each forward pass it casts every frozen fp32 weight anew, and the backward
pass keeps the cast. That is six bytes for each weight, of which two are used. Most checkpoints are stored in bf16, so
that their weights are what they would be cast to. Such weights are cast once, and are fp32 again afterwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith_api.enums import Precision
from tunesmith_trainer.adapters import in_layers

_HALVES: dict[Precision, torch.dtype] = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@contextmanager
def halved(model: Any, precision: Precision) -> Iterator[int]:
    """Hold frozen weights of the linear layers in half precision while inside; afterwards they are fp32 as before.

    Only weights that half precision holds exactly: what the model computes under autocast stays the same to the bit.

    Args:
        model: an adapted model.
        precision: of the training; FP32 changes nothing.

    Yields:
        How many weights are held so.
    """
    dtype = _HALVES.get(precision)
    held = [weight for weight in _frozen(model) if _fits(weight, dtype)] if dtype is not None else []
    for weight in held:
        weight.data = weight.data.to(dtype)
    try:
        yield sum(weight.numel() for weight in held)
    finally:
        for weight in held:
            weight.data = weight.data.float()


def _frozen(model: Any) -> Iterator[Any]:
    """The fp32 weights of linear layers that the technique leaves alone; a quantised layer is of a class of its own."""
    for name, part in model.named_modules():
        if type(part) is not nn.Linear or not in_layers(name):
            continue
        if part.weight.dtype is torch.float32 and not part.weight.requires_grad:
            yield part.weight


def _fits(weight: Any, dtype: torch.dtype) -> bool:
    return bool(torch.equal(weight.data.to(dtype).float(), weight.data))
