"""The board of a training's progress: every step, the numbers of the logged ones, and how young they are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunesmith_trainer.progress import ProgressBoard, read_log


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_every_step_shows_with_the_time_that_is_left(tmp_path: Path) -> None:
    """Between two logged steps the step and the time left go on; speed and loss are the last that were measured."""
    clock = Clock()
    board = ProgressBoard(tmp_path / "progress.jsonl", 100, clock=clock)
    board.start()
    board.reach(1)
    assert (board.latest.step, board.latest.eta_seconds) == (1, None)
    clock.seconds = 20
    board.advance(10, 1000, loss=2.0, learning_rate=0.1)
    board.reach(15)
    latest = board.latest
    assert (latest.step, latest.eta_seconds, latest.loss, latest.tokens_per_second) == (15, 170, 2.0, 50.0)
    assert [line.step for line in read_log(tmp_path / "progress.jsonl")] == [10]


def test_an_answer_is_as_young_as_the_question(tmp_path: Path) -> None:
    """A step that takes minutes does not make a living training look dead."""
    board = ProgressBoard(tmp_path / "progress.jsonl", 100)
    board._latest = board.latest.model_copy(update={"updated_at": "2020-01-01T00:00:00Z"})
    answered = board.answer().updated_at
    assert answered is not None
    assert datetime.now(UTC) - datetime.fromisoformat(answered) < timedelta(seconds=5)
    assert board.latest.updated_at == "2020-01-01T00:00:00Z"
