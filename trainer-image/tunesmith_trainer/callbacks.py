"""What watches the training loop: divergence, preemption, checkpoints and progress, one callback each."""

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunesmith_trainer import log
from tunesmith_trainer.checkpoints import folder_of, seal
from tunesmith_trainer.errors import DivergedError
from tunesmith_trainer.gang import Gang
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.progress import ProgressBoard
from tunesmith_trainer.tracking import Tracking


class DivergenceGuard(TrainerCallback):
    """Stops a run whose loss or gradient is no longer finite; by itself it would end with exit code 0.

    Under FP16 the loss alone tells: the gradient of a step that overflows is not finite either, and the scaler skips
    that step and halves its scale, at first by design.
    """

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Raise DivergedError on a loss or gradient norm that is not a number."""
        del control
        for name in ("loss", "eval_loss") if args.fp16 else ("loss", "grad_norm", "eval_loss"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise DivergedError(
                    f"training diverged at step {state.global_step} of {state.max_steps}: {name} is {value}"
                )


class StopTogether(TrainerCallback):
    """On SIGTERM to any process, all save a checkpoint at the end of the same step and stop; counts tokens over all."""

    def __init__(self, preemption: Preemption, gang: Gang, progress: "ReportProgress") -> None:
        self._preemption = preemption
        self._gang = gang
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint and for the end; every saved step is logged first, so that the guard sees its loss."""
        del args
        asked, tokens = self._gang.total([float(self._preemption.requested), float(self._progress.take())])
        self._progress.tokens += round(tokens)
        if asked:
            self._preemption.requested = True
        if asked and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        if control.should_save:
            control.should_log = True


class SealCheckpoints(TrainerCallback):
    """Seals every checkpoint when every process has written its part."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal the checkpoint of this step."""
        del control
        self._gang.meet()
        self._gang.lead_only(lambda: seal(folder_of(Path(args.output_dir), state.global_step)))
        log.info("checkpoint saved", step=state.global_step)


class ReportProgress(TrainerCallback):
    """Puts every step on the board, and the numbers of every logged one."""

    def __init__(self, board: ProgressBoard) -> None:
        self._board = board
        #: Input tokens without padding of all processes, up to the last step.
        self.tokens = 0
        self._step_tokens = 0

    def add(self, tokens: int) -> None:
        """Count the tokens of a batch of this process."""
        self._step_tokens += tokens

    def take(self) -> int:
        """The tokens that this process counted in the step."""
        taken, self._step_tokens = self._step_tokens, 0
        return taken

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        del args, state, control
        self._board.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the step on the board."""
        del args, control
        self._board.reach(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Put a training loss on the board; evaluation and summary lines are left out."""
        del args, control
        if logs is None or "loss" not in logs:
            return
        self._board.advance(state.global_step, self.tokens, logs["loss"], logs["learning_rate"])
        latest = self._board.latest
        log.info("progress", step=latest.step, total_steps=latest.total_steps, loss=latest.loss)


class TrackSteps(TrainerCallback):
    """Gives every logged step to the trackers: the Progress that the board has, and the evaluation losses."""

    def __init__(self, tracking: Tracking, board: ProgressBoard) -> None:
        self._tracking = tracking
        self._board = board

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Hand the numbers over; returns at once."""
        del args, control
        if "eval_loss" in (logs or {}):
            self._tracking.log({"eval_loss": (logs or {})["eval_loss"]}, state.global_step)
        if "loss" in (logs or {}):
            latest = self._board.latest
            names = ("loss", "learning_rate", "tokens_per_second")
            self._tracking.log({name: getattr(latest, name) for name in names}, latest.step)
