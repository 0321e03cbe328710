"""Child processes and signals."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tunesmith_cli.process import Children

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
CHECKPOINT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('checkpoint', flush=True), sys.exit(143)))
print('up', flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(60)
"""


def run(children: Children, code: str, log: Path, look: object = None, deadline: float | None = None) -> int:
    """Run Python code as a child."""

    def nothing() -> None:
        return

    return children.run(
        [sys.executable, "-c", code],
        log,
        {"ANSWER": "42"},
        look=look or nothing,
        deadline=deadline,  # type: ignore[arg-type]
    )


def interrupt_once_up(log: Path, times: int = 1) -> object:
    """A look that sends this process SIGINT as soon as the child is up, once a look."""
    left = [times]

    def look() -> None:
        if left[0] and log.exists() and "up" in log.read_text():
            left[0] -= 1
            os.kill(os.getpid(), signal.SIGINT)

    return look


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_is_the_childs(tmp_path: Path, code: int) -> None:
    """Output and environment go through, and the exit code comes back."""
    log = tmp_path / "logs/a.log"
    text = f"import os, sys; print(os.environ['ANSWER']); print('oops', file=sys.stderr); sys.exit({code})"
    assert run(Children(), text, log) == code
    assert sorted(log.read_text().split()) == ["42", "oops"]


def test_a_killed_child_has_a_shells_exit_code(tmp_path: Path) -> None:
    """SIGKILL is 137, as in a pod's status."""
    assert run(Children(), "import os; os.kill(os.getpid(), 9)", tmp_path / "a.log") == 137


def test_an_interrupt_asks_the_child_for_a_checkpoint(tmp_path: Path) -> None:
    """Ctrl-C reaches the child as SIGTERM, its exit code comes back, and no further child starts."""
    log, children = tmp_path / "a.log", Children()
    with children.listening():
        assert run(children, CHECKPOINT, log, interrupt_once_up(log)) == 143
        assert run(children, SLEEP, tmp_path / "b.log") == 143
    assert "checkpoint" in log.read_text()
    assert not (tmp_path / "b.log").exists()


def test_a_second_interrupt_kills(tmp_path: Path) -> None:
    """A child that does not stop is killed by the second Ctrl-C."""
    log, children = tmp_path / "a.log", Children()
    with children.listening():
        assert run(children, STUBBORN, log, interrupt_once_up(log, times=2)) == 137


def test_the_handlers_are_put_back() -> None:
    """Outside of the block, Ctrl-C means what it meant before."""
    before = signal.getsignal(signal.SIGINT)
    with Children().listening():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_a_deadline_stops_the_child(tmp_path: Path) -> None:
    """After the deadline the child is asked to stop, as by SIGTERM."""
    assert run(Children(), SLEEP, tmp_path / "a.log", deadline=time.monotonic()) == 143


def test_a_started_child_is_gone_after_the_block(tmp_path: Path) -> None:
    """A server does not outlive its command."""
    with Children().started([sys.executable, "-c", SLEEP], tmp_path / "a.log", {}) as child:
        assert child.poll() is None
    assert child.poll() is not None
