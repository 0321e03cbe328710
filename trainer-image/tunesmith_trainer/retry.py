"""Trying again what may pass: exponential backoff with jitter, bounded, and counted from the last progress."""

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tunesmith_trainer import log
from tunesmith_trainer.errors import ServiceUnavailableError

#: Environment variables: how often a request is tried, and the wait after the first failure in seconds.
ATTEMPTS_VARIABLE = "TUNESMITH_RETRY_ATTEMPTS"
FIRST_WAIT_VARIABLE = "TUNESMITH_RETRY_FIRST_SECONDS"

Result = TypeVar("Result")


class TransientError(Exception):
    """Raised inside an attempt for what may pass: a 5xx, a 429, a cut connection. Never leaves `Retry.call`.

    Args:
        reason: what happened, for messages.
        retry_after: a Retry-After header of the answer (RFC 9110, 10.2.3): seconds or a date; empty without one.
    """

    def __init__(self, reason: str, retry_after: str = "") -> None:
        super().__init__(reason)
        self.retry_after = retry_after

    def asked_seconds(self, now: float) -> float:
        """The wait that the host asks for at a time since the epoch; 0 where it asks for none that can be read."""
        if self.retry_after.strip().isdecimal():
            return float(self.retry_after)
        try:
            return parsedate_to_datetime(self.retry_after).timestamp() - now
        except ValueError:
            return 0.0


@dataclass(frozen=True)
class Retry:
    """How often and how patiently something is tried.

    Attributes:
        attempts: attempts without progress before giving up.
        first_seconds: wait after the first failure; doubled with each further one.
        longest_seconds: bound of a single wait.
        longest_asked_seconds: bound of a wait that the host asks for.
        sleep: waits.
        clock: seconds since the epoch.
        jitter: a number from 0 to 1 that spreads the waits of many clients.
    """

    attempts: int = 6
    first_seconds: float = 1.0
    longest_seconds: float = 30.0
    longest_asked_seconds: float = 120.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def wait_seconds(self, failures: int) -> float:
        """The wait after a number of failures in a row: half of it fixed, half of it by chance."""
        longest = min(self.longest_seconds, self.first_seconds * 2.0 ** (failures - 1))
        return longest * (0.5 + self.jitter() / 2)

    def call(self, what: str, attempt: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
        """Call `attempt` until it returns or has raised TransientError too often.

        Args:
            what: what is tried, for messages.
            attempt: does it once.
            progress: how far it has come; attempts are counted anew when it gets further than ever, as by a download
                that is cut.

        Raises:
            ServiceUnavailableError: every attempt failed; the message tells how many there were.
        """
        failures, reached = 0, progress()
        while True:
            try:
                return attempt()
            except TransientError as error:
                failures = 1 if progress() > reached else failures + 1
                reached = max(reached, progress())
                if failures >= self.attempts:
                    raise ServiceUnavailableError(f"{what}: {error} (tried {failures} times)") from error
                asked = min(error.asked_seconds(self.clock()), self.longest_asked_seconds)
                wait = max(self.wait_seconds(failures), asked)
                log.warn("trying again", what=what, reason=str(error), attempt=failures, wait_seconds=round(wait, 1))
                self.sleep(wait)


def retry_from(environ: Mapping[str, str] = os.environ) -> Retry:
    """The retries that the environment states, else the defaults."""
    default = Retry()
    return Retry(
        attempts=int(environ.get(ATTEMPTS_VARIABLE, default.attempts)),
        first_seconds=float(environ.get(FIRST_WAIT_VARIABLE, default.first_seconds)),
    )
