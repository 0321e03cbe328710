"""Progress of work on rows: a line of the log every few seconds."""

import time
from collections.abc import Callable
from typing import Any

from tunesmith_trainer import log

_EVERY_SECONDS = 5.0


class Meter:
    """Counts rows, and logs how many there were, how fast they go, and of how many where that is known."""

    def __init__(
        self, message: str, total: int | None = None, clock: Callable[[], float] = time.monotonic, **fields: Any
    ) -> None:
        self._message = message
        self._fields = fields | ({"total": total} if total is not None else {})
        self._clock = clock
        self._began = self._logged = clock()
        self._rows = 0

    def add(self) -> None:
        """One more row is done."""
        self._rows += 1
        now = self._clock()
        if now - self._logged >= _EVERY_SECONDS:
            self._logged = now
            self._log(now)

    def finish(self) -> None:
        """All rows are done; says so when it took long enough to have been asked about."""
        if self._logged != self._began:
            self._log(self._clock())

    def _log(self, now: float) -> None:
        log.info(
            self._message, rows=self._rows, rows_per_second=round(self._rows / (now - self._began)), **self._fields
        )
