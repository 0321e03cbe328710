"""Early stopping: whether the evaluation loss still falls, and at which step it was least."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunesmith_api.finetunejob import EarlyStopping
from tunesmith_trainer import log
from tunesmith_trainer.checkpoints import folder_of
from tunesmith_trainer.gang import Gang
from tunesmith_trainer.progress import ProgressBoard
from tunesmith_trainer.workspace import read_json, write_json

#: In a checkpoint: what the evaluations up to its step have shown.
_FILE = "early-stopping.json"


@dataclass(frozen=True)
class Course:
    """What the evaluations of a training have shown so far.

    Attributes:
        best_step: the step with the least loss; 0 before the first evaluation.
        best_loss: the least loss.
        reference: the loss that counted as progress last: many small falls are progress once they add up.
        idle: evaluations since then.
    """

    best_step: int = 0
    best_loss: float = math.inf
    reference: float = math.inf
    idle: int = 0

    def after(self, step: int, loss: float, asked: EarlyStopping) -> "Course":
        """The same with one more evaluation."""
        fall = self.reference - loss
        progress = fall > 0 and fall >= asked.min_delta
        best_step, best_loss = (step, loss) if loss < self.best_loss else (self.best_step, self.best_loss)
        return Course(best_step, best_loss, loss if progress else self.reference, 0 if progress else self.idle + 1)

    def is_over(self, asked: EarlyStopping) -> bool:
        """Whether there were as many evaluations without progress as the job has patience for."""
        return self.idle >= asked.patience


def read_course(checkpoint: Path) -> Course:
    """What the evaluations up to a checkpoint have shown."""
    found = read_json(checkpoint / _FILE)
    return Course() if found is None else Course(**found)


class StopEarly(TrainerCallback):
    """Ends the training when its evaluations show no more progress; keeps the best checkpoint from being deleted.

    Every process sees the same losses, so all come to the same end. The course lies in every checkpoint: a resumed run
    ends where an undisturbed one does.
    """

    def __init__(self, asked: EarlyStopping, course: Course, gang: Gang, board: ProgressBoard) -> None:
        self._asked = asked
        self._gang = gang
        self._board = board
        self.course = course

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say on the board what is known from before a resume."""
        del args, state, control
        self._board.note_best(self.course.best_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        """Count an evaluation of the schedule, and ask for the end when patience is over."""
        del args
        self.course = self.course.after(state.global_step, metrics["eval_loss"], self._asked)
        state.best_global_step = self.course.best_step  # the Trainer deletes older checkpoints, but not this step's
        self._board.note_best(self.course.best_step)
        if self.course.is_over(self._asked) and state.global_step < state.max_steps:
            control.should_training_stop = True
            log.info("no more progress", step=state.global_step, total_steps=state.max_steps, **asdict(self.course))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the course into the checkpoint."""
        del control
        if self._gang.leads and self.course.best_step:
            write_json(folder_of(Path(args.output_dir), state.global_step) / _FILE, asdict(self.course))
