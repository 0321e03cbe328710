"""How far the training is: a line per log step in the workspace, and the latest one for who asks."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tunesmith_api.finetunejob import Progress


@dataclass(frozen=True)
class Mark:
    """A moment of the training: optimizer step, input tokens without padding so far, seconds of a steady clock."""

    step: int
    tokens: int
    seconds: float


class ProgressBoard:
    """The latest Progress, for the log file and for other threads.

    Args:
        path: the log file; lines of steps after `start_step` are dropped, since a resumed run makes them again.
        total_steps: optimizer steps in all.
        start_step: step of the checkpoint that is resumed from, or 0.
        clock: steady seconds.
    """

    def __init__(
        self, path: Path, total_steps: int, start_step: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._mark = Mark(start_step, 0, clock())
        self._step_seconds: float | None = None
        self._latest = Progress(step=start_step, total_steps=total_steps, updated_at=_now())
        _keep_until(path, start_step)

    @property
    def latest(self) -> Progress:
        """The newest Progress; its numbers are those of the last logged step, its step the last one done."""
        with self._lock:
            return self._latest

    def answer(self) -> Progress:
        """The newest Progress as of now: who asks learns that the process lives, however long a step takes."""
        return self.latest.model_copy(update={"updated_at": _now()})

    def start(self) -> None:
        """Say that the first step begins now: what came before is no training time."""
        self._mark = Mark(self._mark.step, self._mark.tokens, self._clock())

    def note_best(self, step: int) -> None:
        """Note the step with the least evaluation loss; 0 when none is known."""
        with self._lock:
            self._latest = self._latest.model_copy(update={"best_step": step or None})

    def reach(self, step: int) -> None:
        """Note that a step is done, logged or not."""
        with self._lock:
            left = None
            if self._step_seconds is not None:
                left = round((self._latest.total_steps - step) * self._step_seconds)
            self._latest = self._latest.model_copy(update={"step": step, "eta_seconds": left, "updated_at": _now()})

    def advance(self, step: int, tokens: int, loss: float, learning_rate: float) -> None:
        """Note a logged step: `tokens` are the input tokens without padding since the process began training."""
        mark = Mark(step, tokens, self._clock())
        progress = self._measure(mark, loss, learning_rate)
        self._mark = mark
        with self._lock:
            self._latest = _legible(progress)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(progress.model_dump_json(by_alias=True, exclude_none=True) + "\n")

    def _measure(self, mark: Mark, loss: float, learning_rate: float) -> Progress:
        seconds = max(mark.seconds - self._mark.seconds, 1e-9)
        self._step_seconds = seconds / max(mark.step - self._mark.step, 1)
        total = self._latest.total_steps
        return Progress(
            step=mark.step,
            total_steps=total,
            loss=loss,
            learning_rate=learning_rate,
            tokens_per_second=round((mark.tokens - self._mark.tokens) / seconds, 1),
            eta_seconds=round((total - mark.step) * self._step_seconds),
            best_step=self._latest.best_step,
            updated_at=_now(),
        )


def _legible(progress: Progress) -> Progress:
    """What people read in a table: four digits; the log keeps all."""
    rounded = {name: float(f"{getattr(progress, name):.4g}") for name in ("loss", "learning_rate")}
    return progress.model_copy(update=rounded)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_log(path: Path) -> list[Progress]:
    """Every Progress of a log file; a line that a kill cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Progress.model_validate_json(line) for line in lines if _is_whole(line)]


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _keep_until(path: Path, step: int) -> None:
    kept = [progress for progress in read_log(path) if progress.step <= step]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line.model_dump_json(by_alias=True, exclude_none=True) + "\n" for line in kept))
