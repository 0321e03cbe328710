"""The arithmetic that fits the processor and the model."""

import pytest

from tunesmith_api.enums import Precision
from tunesmith_trainer.errors import BadConfigError
from tunesmith_trainer.precision import AUTOCAST_WIDTH, Device, choose_precision, cpu_has_bf16

pytestmark = pytest.mark.torch

WIDE, NARROW = AUTOCAST_WIDTH, AUTOCAST_WIDTH - 1
CASES = [
    (Precision.AUTO, Device("cpu", bf16=True), WIDE, Precision.BF16),
    (Precision.AUTO, Device("cpu", bf16=True), NARROW, Precision.FP32),
    (Precision.AUTO, Device("cpu", bf16=False), WIDE, Precision.FP32),
    (Precision.AUTO, Device("cuda", bf16=True), NARROW, Precision.BF16),
    (Precision.BF16, Device("cpu", bf16=False), NARROW, Precision.BF16),
    (Precision.FP16, Device("cuda", bf16=True), WIDE, Precision.FP16),
]


@pytest.mark.parametrize(("asked", "device", "width", "chosen"), CASES)
def test_auto_uses_bf16_where_it_is_faster(asked, device, width, chosen):
    """What is asked for is used; Auto looks at the device and the model's width."""
    assert choose_precision(asked, device, width) is chosen


def test_fp16_needs_a_gpu():
    """The message names the field and the alternatives."""
    with pytest.raises(BadConfigError, match=r"spec\.training\.precision: FP16 needs a GPU"):
        choose_precision(Precision.FP16, Device("cpu", bf16=True), WIDE)


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("flags\t\t: fpu avx512_bf16\n", True),
        ("flags\t: fpu avx2\n", False),
        ("Features\t: asimd bf16\n", True),
        ("", False),
    ],
)
def test_the_processors_flags_tell(cpuinfo, has):
    """Intel, AMD and Arm name it differently."""
    assert cpu_has_bf16(cpuinfo) is has
