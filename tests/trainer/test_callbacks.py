"""What watches the training loop, against states of the test's own."""

import math
from types import SimpleNamespace

import pytest

from tunesmith_trainer.callbacks import DivergenceGuard
from tunesmith_trainer.errors import DivergedError

STATE = SimpleNamespace(global_step=3, max_steps=9)


def watch(*, fp16, **logs):
    """Show the guard a logged step."""
    DivergenceGuard().on_log(SimpleNamespace(fp16=fp16), STATE, SimpleNamespace(), logs=logs)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("fp16", "name"), [(False, "loss"), (False, "grad_norm"), (False, "eval_loss"), (True, "loss"), (True, "eval_loss")]
)
def test_what_is_not_finite_ends_the_run(fp16, name, value):
    """The message has the step and the number; a loss counts in every precision."""
    with pytest.raises(DivergedError, match=f"diverged at step 3 of 9: {name} is {value}"):
        watch(fp16=fp16, **{"loss": 1.0, "grad_norm": 1.0, name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_overflows_in_fp16_is_no_divergence(value):
    """The scaler begins too high by design, skips such steps and finds its scale."""
    watch(fp16=True, loss=1.0, grad_norm=value)
