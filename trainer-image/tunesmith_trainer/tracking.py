"""Bringing metrics to the trackers from a thread of its own: a tracker that is down costs a warning, not the run."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api import JobConfig
from tunesmith_api.enums import TrackerType
from tunesmith_api.finetunejob import Scores
from tunesmith_api.finetunejob import Tracker as TrackerSpec
from tunesmith_trainer import log
from tunesmith_trainer.errors import InputNotFoundError, PreemptedError
from tunesmith_trainer.logins import LOGIN_KEYS, Login
from tunesmith_trainer.trackers import (
    FAILED,
    FINISHED,
    KILLED,
    Measured,
    MLflow,
    TensorBoard,
    TrackedRun,
    Tracker,
    disclosed,
    finite,
    flat,
)
from tunesmith_trainer.workspace import key_of

#: What the end of a run may wait for all trackers together.
END_SECONDS = 5.0
#: How often numbers are sent, and how long a tracker that failed is left alone at most.
_SEND_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
#: Numbers that are kept for a tracker that is down; the oldest are dropped.
_MOST_KEPT = 20_000


class Courier:
    """Carries one tracker's load in a thread; nothing that the tracker does or leaves undone reaches the caller.

    Args:
        name: of the tracker, for messages.
        tracker: gets the load.
        run: what it is told at the start.
        hide: takes secrets out of what a tracker says when it fails.
    """

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun, hide: Callable[[str], str] = str) -> None:
        self._name, self._tracker, self._run, self._hide = name, tracker, run, hide
        self._waiting: list[Measured] = []
        self._files: list[Path] = []
        self._status = ""
        self._changed = threading.Condition()
        self._started = self._warned = False
        self._thread = threading.Thread(target=self._carry, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def log(self, measured: list[Measured]) -> None:
        """Take numbers along; returns at once."""
        with self._changed:
            self._waiting += measured
            del self._waiting[:-_MOST_KEPT]

    def end(self, status: str, files: list[Path]) -> None:
        """Say that the run is over; `join` waits for what is left."""
        with self._changed:
            self._status, self._files = status, files
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for the last load, but not longer than some seconds."""
        self._thread.join(max(seconds, 0))
        if self._thread.is_alive():
            log.warn("tracker gave up at the end of the run", tracker=self._name, waiting=len(self._waiting))

    def _carry(self) -> None:
        failures = 0
        while True:
            with self._changed:
                pause = min(_SEND_SECONDS * 2**failures, _LONGEST_WAIT_SECONDS)
                self._changed.wait_for(lambda: bool(self._status), timeout=pause if self._started or failures else 0)
                status = self._status
            failures = 0 if self._deliver(status) else failures + 1
            if status and (failures == 0 or failures > 1):
                return

    def _deliver(self, status: str) -> bool:
        """Everything that waits, to the tracker; whether it took it."""
        try:
            if not self._started:
                self._tracker.start(self._run)
                self._started = True
            self._send()
            if status:
                self._tracker.end(status)
        except Exception as error:  # noqa: BLE001 - a tracker must not end a training, whatever it raises
            self._warn(error)
            return False
        if status:
            self._attach()
        if self._warned:
            log.info("tracker answers again", tracker=self._name)
            self._warned = False
        return True

    def _send(self) -> None:
        with self._changed:
            load, self._waiting = self._waiting, []
        try:
            if load:
                self._tracker.log(load)
        except Exception:
            with self._changed:
                self._waiting = (load + self._waiting)[-_MOST_KEPT:]
            raise

    def _attach(self) -> None:
        """Files go last: a tracker that takes none, or hangs over them, has its run ended."""
        try:
            self._tracker.attach(self._files)
        except Exception as error:  # noqa: BLE001 - as above
            log.warn("tracker takes no files; the run is ended", tracker=self._name, reason=self._reason(error))

    def _warn(self, error: Exception) -> None:
        """Once for each time that it goes down."""
        if not self._warned:
            log.warn("tracker fails; the training goes on", tracker=self._name, reason=self._reason(error))
        self._warned = True

    def _reason(self, error: Exception) -> str:
        """The first line of what it said, without secrets."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return self._hide(lines[0])[:300]


@dataclass
class Tracking:
    """The trackers of a run; none is as good as some."""

    couriers: list[Courier] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def log(self, values: Mapping[str, float | None], step: int) -> None:
        """Give numbers of a step to every tracker; returns at once."""
        now = time.time_ns() // 1_000_000
        measured = [Measured(name, value, step, now) for name, value in finite(values).items()]
        for courier in self.couriers:
            courier.log(measured)

    def log_scores(self, who: str, scores: Scores, step: int) -> None:
        """Give the scores of a model (base, tuned) to every tracker."""
        self.log({f"{who}_{name}": value for name, value in scores.model_dump().items()}, step)

    def end(self, status: str) -> None:
        """Close every run; waits for all of them together, and not for long."""
        files = [file for place in self.files for file in (sorted(place.glob("*.png")) if place.is_dir() else [place])]
        for courier in self.couriers:
            courier.end(status, [file for file in files if file.is_file()])
        deadline = time.monotonic() + END_SECONDS
        for courier in self.couriers:
            courier.join(deadline - time.monotonic())


def check_logins(config: JobConfig) -> None:
    """The trackers' logins: a key that is missing is told before any training, not at its start.

    Raises:
        InputNotFoundError: a tracker's secret lacks its keys.
    """
    for place, tracker in enumerate(config.spec.tracking):
        _login(config, place, tracker)


@contextmanager
def tracked(config: JobConfig, files: list[Path], step: int = 0) -> Iterator[Tracking]:
    """The job's trackers while it trains; how the block ends is how the runs end.

    Args:
        config: the job.
        files: what is attached at the end: files, and folders of plots.
        step: that the run starts from.

    Raises:
        InputNotFoundError: a tracker's secret lacks its keys.
    """
    found = Tracking(files=files)
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        found.couriers += [_courier(config, place, one, step) for place, one in enumerate(config.spec.tracking)]
    try:
        yield found
    except PreemptedError:
        found.end(KILLED)
        raise
    except BaseException:
        found.end(FAILED)
        raise
    found.end(FINISHED)


def _courier(config: JobConfig, place: int, spec: TrackerSpec, step: int) -> Courier:
    run = TrackedRun(
        name=config.name,
        experiment=spec.experiment or config.namespace,
        parameters=flat(disclosed(config.spec.wire())),
        workspace=Path(config.workspace),
        step=step,
    )
    login = _login(config, place, spec)
    return Courier(f"{spec.type}[{place}]", _MAKERS[spec.type](spec, login), run, login.hide)


def _mlflow(spec: TrackerSpec, login: Login) -> Tracker:
    return MLflow(spec.uri or "", key_of(spec.uri, spec.experiment)[:16], login)


def _tensorboard(spec: TrackerSpec, login: Login) -> Tracker:
    del spec, login
    return TensorBoard()


_MAKERS: dict[TrackerType, Callable[[Any, Login], Tracker]] = {
    TrackerType.MLFLOW: _mlflow,
    TrackerType.TENSORBOARD: _tensorboard,
}


def _login(config: JobConfig, place: int, spec: TrackerSpec) -> Login:
    if spec.secret_ref is None:
        return Login()
    login = Login(Path(config.secrets.get(spec.secret_ref.name, "")))
    if not login.is_complete():
        nor = ", nor the keys ".join(_listed(alternative) for alternative in LOGIN_KEYS[1:])
        raise InputNotFoundError(
            f"spec.tracking[{place}].secretRef: secret {spec.secret_ref.name!r} has no key 'token', nor the keys {nor}"
        )
    return login


def _listed(keys: Sequence[str]) -> str:
    return f"{', '.join(repr(key) for key in keys[:-1])} and {keys[-1]!r}"
