"""The train stage's processes: in this one, or one per device; the first failure that explains the others is told.

A pod's PID 1 stays small: it starts the processes, passes SIGTERM on, and makes one exit code of theirs. torchrun would
do the starting too, but ends with code 1 whatever its workers ended with.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api import ExitCode, Stage, Termination, decode_termination
from tunesmith_api.enums import Strategy
from tunesmith_api.jobconfig import PROGRESS_PORT_VARIABLE, TERMINATION_LOG_VARIABLE
from tunesmith_trainer import log
from tunesmith_trainer.distributed import RANK_VARIABLE, Layout, layout_of
from tunesmith_trainer.environment import worker_threads
from tunesmith_trainer.errors import PreemptedError, error_of
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.stages import Run

#: Seconds that the other processes get to end by themselves once one has ended; again after SIGTERM.
_GRACE_SECONDS = 30.0
_POLL_SECONDS = 0.1
#: Codes that another process's end explains.
_CONSEQUENCES = frozenset({int(ExitCode.WORKER_LOST), int(ExitCode.PREEMPTED)})


class ProcessDiedError(Exception):
    """Raised when a training process ended outside the contract: a crash, or a signal such as SIGKILL."""


@dataclass(frozen=True)
class Ended:
    """How one process ended; a negative code is a signal's."""

    rank: int
    code: int
    termination: Termination | None


def train(run: Run, outcome: Outcome) -> None:
    """The train stage: in this process, or in several that this one watches over.

    Raises:
        StageError: what the training raised.
        ProcessDiedError: a process crashed or was killed.
    """
    distribution = run.config.spec.distribution
    if distribution.strategy is not Strategy.DEEPSPEED:
        hide_deepspeed()
    layout = None if RANK_VARIABLE in os.environ else layout_of(distribution)
    if layout is None or layout.world == 1:
        _train_here(run, outcome, layout)
        return
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        ends = _supervise(run, layout, Path(folder))
    _conclude(ends, layout, outcome, preempted=run.preemption.requested)


def hide_deepspeed() -> None:
    """Let libraries find no DeepSpeed in this process: accelerate imports it anyway, for 3.6 s of CPU time."""
    if "deepspeed" not in sys.modules:
        # Python's way to say that there is no such module.
        sys.modules["deepspeed"] = None  # type: ignore[assignment]


def _train_here(run: Run, outcome: Outcome, layout: Layout | None) -> None:
    from tunesmith_trainer import train as stage  # noqa: PLC0415 - imports torch, which a launcher does without

    if layout is None:
        stage.train(run, outcome)
        return
    variables = layout.variables(0)
    os.environ.update(variables)
    try:
        stage.train(run, outcome)
    finally:
        for name in variables:
            del os.environ[name]


def _supervise(run: Run, layout: Layout, folder: Path) -> list[Ended]:
    config = folder / "job.json"
    config.write_text(run.config.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
    command = [sys.executable, "-m", "tunesmith_trainer", Stage.TRAIN.value, "--config", str(config)]
    environments = [rank_environment(layout, local, folder) for local in range(layout.processes)]
    log.info("starting processes", worker=layout.worker, workers=layout.workers, processes=layout.processes)
    with run.preemption.deferred(), _started(command, environments) as processes:
        order = _wait(processes, run)
    return [_ended(layout, place, processes[place], folder) for place in order]


def rank_environment(layout: Layout, local_rank: int, folder: Path) -> dict[str, str]:
    """The environment of one process: its place, its share of the threads, and its own termination message."""
    own = {
        **layout.variables(local_rank),
        "OMP_NUM_THREADS": str(max(1, worker_threads() // layout.processes)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        TERMINATION_LOG_VARIABLE: str(_termination_file(folder, local_rank)),
    }
    if layout.rank(local_rank) != 0:
        own[PROGRESS_PORT_VARIABLE] = "0"
    return {**os.environ, **own}


def _termination_file(folder: Path, local_rank: int) -> Path:
    return folder / f"termination-{local_rank}.json"


@contextlib.contextmanager
def _started(
    command: Sequence[str], environments: Sequence[Mapping[str, str]]
) -> Iterator["list[subprocess.Popen[bytes]]"]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.extend(subprocess.Popen(command, env=dict(one)) for one in environments)
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(processes: "Sequence[subprocess.Popen[bytes]]", run: Run) -> list[int]:
    """The order in which all processes ended; SIGTERM is passed on, and what hangs after a failure is ended."""
    order: list[int] = []
    forwarded, deadline, force = False, float("inf"), signal.SIGTERM
    while len(order) < len(processes):
        if run.preemption.requested and not forwarded:
            forwarded = True
            _signal(processes, signal.SIGTERM)
        order += [place for place, one in enumerate(processes) if place not in order and one.poll() is not None]
        if deadline == float("inf") and any(processes[place].returncode != 0 for place in order):
            deadline = time.monotonic() + _GRACE_SECONDS
        if time.monotonic() > deadline:
            _signal(processes, force)
            deadline, force = time.monotonic() + _GRACE_SECONDS, signal.SIGKILL
        time.sleep(_POLL_SECONDS)
    return order


def _signal(processes: "Sequence[subprocess.Popen[bytes]]", number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _ended(layout: Layout, local_rank: int, process: "subprocess.Popen[bytes]", folder: Path) -> Ended:
    file = _termination_file(folder, local_rank)
    termination = decode_termination(file.read_text(encoding="utf-8")) if file.exists() else None
    ended = Ended(layout.rank(local_rank), process.returncode, termination)
    log.info("process ended", rank=ended.rank, exit_code=ended.code)
    return ended


def _conclude(ends: Sequence[Ended], layout: Layout, outcome: Outcome, *, preempted: bool) -> None:
    """Fill in the outcome of the lowest rank and raise what explains a failure."""
    lowest = min(ends, key=lambda end: end.rank).termination
    if lowest is not None:
        outcome.evaluation, outcome.progress = lowest.evaluation, lowest.progress
    cause = root_cause(ends)
    if cause is None:
        return
    if preempted and cause.code in {-signal.SIGTERM, *_CONSEQUENCES}:
        raise PreemptedError(_message(cause, layout) if cause.code == ExitCode.PREEMPTED else "SIGTERM was received")
    raise error_of(cause.code, _message(cause, layout)) or ProcessDiedError(_message(cause, layout))


def root_cause(ends: Sequence[Ended]) -> Ended | None:
    """The end that explains the others: the first failure that is no consequence of another process's end."""
    failed = [end for end in ends if end.code != 0]
    causes = [end for end in failed if end.code not in _CONSEQUENCES]
    stopped = [end for end in failed if end.code == ExitCode.PREEMPTED]
    return next(iter(causes or stopped or failed), None)


def _message(end: Ended, layout: Layout) -> str:
    if end.termination is not None and end.termination.failure is not None:
        return end.termination.failure.message
    who = f"training process {end.rank} of {layout.world}"
    if end.code == -signal.SIGKILL:
        return f"{who} was killed (SIGKILL), most likely because the machine or the container ran out of memory"
    if end.code < 0:
        return f"{who} was ended by {signal.Signals(-end.code).name}"
    return f"{who} ended with exit code {end.code} and left no message"
