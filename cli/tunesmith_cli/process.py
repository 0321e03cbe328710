"""The child process that runs, and what a person's Ctrl-C or a SIGTERM means for it: a checkpoint, then the end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tunesmith_api import ExitCode

#: Seconds between two looks at a running child.
POLL_SECONDS = 0.2


class Children:
    """Starts one child at a time, each in a session of its own, so that Ctrl-C reaches it through us only.

    Attributes:
        interrupted: whether a signal asked to stop.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._current: subprocess.Popen[bytes] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Forward SIGINT and SIGTERM to the child while inside: the first as SIGTERM, a second as SIGKILL."""
        before = {number: signal.signal(number, self._forward) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _forward(self, _number: int, _frame: FrameType | None) -> None:
        again, self.interrupted = self.interrupted, True
        if self._current is not None and self._current.poll() is None:
            self._current.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    @contextmanager
    def started(
        self, command: Sequence[str], log: Path, variables: Mapping[str, str]
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """A child whose output goes to a log file; it is gone when the block is left."""
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._current = child
        try:
            yield child
        finally:
            self._current = None
            stop(child)

    def run(
        self,
        command: Sequence[str],
        log: Path,
        variables: Mapping[str, str],
        *,
        look: Callable[[], None],
        deadline: float | None = None,
    ) -> int:
        """Run a child to its end and return its exit code; a signal's number plus 128 where one killed it.

        After an interrupt none is started any more: the answer is that of a stopped one.

        Args:
            command: the child's command line.
            log: where its output goes.
            variables: environment variables beside our own.
            look: called while it runs, a few times a second.
            deadline: time of the steady clock after which the child is asked to stop.
        """
        if self.interrupted:
            return int(ExitCode.PREEMPTED)
        with self.started(command, log, variables) as child:
            while child.poll() is None:
                look()
                if deadline is not None and time.monotonic() > deadline:
                    child.terminate()
                    deadline = None
                wait(child)
            look()
            return exit_code(child.returncode)


def wait(child: "subprocess.Popen[bytes]") -> None:
    """Wait until the child ends, for one poll at most."""
    try:
        child.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def exit_code(returncode: int) -> int:
    """A return code as shells and the kubelet give it."""
    return returncode if returncode >= 0 else 128 - returncode


def stop(child: "subprocess.Popen[bytes]", grace_seconds: float = 30) -> None:
    """End a child: politely, then not."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
