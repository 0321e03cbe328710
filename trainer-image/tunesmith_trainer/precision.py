"""The arithmetic of the training, chosen from what the processor has."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from tunesmith_api.enums import Precision
from tunesmith_trainer.errors import BadConfigError

#: Processor flags that make bf16 faster than fp32 (2.0 to 2.2 times with avx512_bf16, measured); Arm's is `bf16`.
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
#: Narrowest model that autocast makes faster on a CPU: 640 wide 2 times as fast, 128 wide half as fast (measured).
AUTOCAST_WIDTH = 512
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Device:
    """What the model runs on.

    Attributes:
        name: `cpu` or `cuda`.
        bf16: whether it has fast bf16 arithmetic.
    """

    name: str
    bf16: bool


def cpu_has_bf16(cpuinfo: str) -> bool:
    """Whether a processor has bf16 instructions, by the flags in /proc/cpuinfo."""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return bool(flags and _BF16_FLAGS & set(flags.group(1).split()))


def probe_device() -> Device:
    """The device of this process: a GPU when torch sees one, else the CPU."""
    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.is_bf16_supported(including_emulation=False))
    return Device("cpu", cpu_has_bf16(_CPUINFO.read_text()) if _CPUINFO.exists() else False)


def choose_precision(asked: Precision, device: Device, hidden_size: int) -> Precision:
    """The precision to train in: weights are fp32 always, BF16 and FP16 mean autocast.

    Args:
        asked: the job's.
        device: where it runs.
        hidden_size: the model's width; autocast pays for itself in wide layers only.

    Raises:
        BadConfigError: FP16 without a GPU.
    """
    if asked is Precision.FP16 and device.name == "cpu":
        raise BadConfigError("spec.training.precision: FP16 needs a GPU; use Auto, BF16 or FP32")
    if asked is not Precision.AUTO:
        return asked
    wide = device.name == "cuda" or hidden_size >= AUTOCAST_WIDTH
    return Precision.BF16 if device.bf16 and wide else Precision.FP32
