"""SIGTERM: stop at once where nothing is lost, or at the end of the optimizer step while training."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tunesmith_trainer.errors import PreemptedError


class Preemption:
    """Whether SIGTERM has asked to stop.

    As PID 1 of a container a process without a handler ignores SIGTERM; this one raises PreemptedError in the main
    thread, except within `deferred()`, where the flag is for the training loop to see.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def listen(self) -> None:
        """Install the handler."""
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            raise PreemptedError("SIGTERM was received")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While inside, only note the request; the caller stops when it is safe."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
