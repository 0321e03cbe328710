"""What watches the training loop: divergence, preemption, checkpoints and progress, one callback each."""

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunesmith_trainer import log
from tunesmith_trainer.checkpoints import seal
from tunesmith_trainer.errors import DivergedError
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.progress import ProgressBoard


class DivergenceGuard(TrainerCallback):
    """Stops a run whose loss or gradient is no longer finite; by itself it would end with exit code 0."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Raise DivergedError on a loss or gradient norm that is not a number."""
        del args, control
        for name in ("loss", "grad_norm", "eval_loss"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise DivergedError(
                    f"training diverged at step {state.global_step} of {state.max_steps}: {name} is {value}"
                )


class StopOnPreemption(TrainerCallback):
    """On SIGTERM, saves a checkpoint at the end of the step and stops."""

    def __init__(self, preemption: Preemption) -> None:
        self._preemption = preemption

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and for the end; every saved step is logged first, so that the guard sees its loss."""
        if self._preemption.requested and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        del args
        if control.should_save:
            control.should_log = True


class SealCheckpoints(TrainerCallback):
    """Seals every checkpoint when it is whole."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal the checkpoint of this step."""
        del control
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        log.info("checkpoint saved", step=state.global_step)


class ReportProgress(TrainerCallback):
    """Puts every logged step on the board."""

    def __init__(self, board: ProgressBoard) -> None:
        self._board = board
        #: Input tokens without padding, kept up by the loop.
        self.tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        del args, state, control
        self._board.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Put a training loss on the board; evaluation and summary lines are left out."""
        del args, control
        if logs is None or "loss" not in logs:
            return
        self._board.advance(state.global_step, self.tokens, logs["loss"], logs["learning_rate"])
        latest = self._board.latest
        log.info("progress", step=latest.step, total_steps=latest.total_steps, loss=latest.loss)
