"""Background processes by pid file: start, check, stop; never a process that is not ours."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import ClusterError


@dataclass(frozen=True)
class Daemon:
    """A started process. `started` is its start time in clock ticks, which tells it from a later one with its pid."""

    name: str
    pid: int
    started: int
    argv: tuple[str, ...]
    env: Mapping[str, str]

    @property
    def alive(self) -> bool:
        """Whether the very process that was started still runs."""
        return _start_time(self.pid) == self.started


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])  # proc(5): the 22nd field, counted from the third


def recorded(root: Path) -> Iterator[Daemon]:
    """Every process that was started for the cluster in `root`, in the order of starting."""
    files = sorted((root / "run").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    for file in files:
        record = json.loads(file.read_text())
        yield Daemon(**{**record, "argv": tuple(record["argv"])})


def find(root: Path, name: str) -> Daemon | None:
    """The recorded process with this name, alive or not."""
    return next((daemon for daemon in recorded(root) if daemon.name == name), None)


def forget_dead(root: Path) -> list[str]:
    """Drops the records of processes that have died, as after a restart of the machine; returns their names."""
    dead = [daemon.name for daemon in recorded(root) if not daemon.alive]
    for name in dead:
        (root / "run" / f"{name}.json").unlink()
    return dead


def ensure(root: Path, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> bool:
    """Starts `argv` unless it already runs; says whether it had to. Its output goes to log/NAME.log."""
    found = find(root, name)
    if found is not None and found.alive:
        return False
    start(root, name, argv, env or {})
    return True


def start(root: Path, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Daemon:
    """Starts `argv` in a session of its own and records it."""
    for folder in ("run", "log"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    path = root / "log" / f"{name}.log"
    if path.exists():
        path.replace(path.with_suffix(".previous.log"))
    with path.open("wb") as log:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **env},
            cwd=root,
        )
    daemon = Daemon(name, child.pid, _start_time(child.pid) or 0, tuple(argv), dict(env))
    (root / "run" / f"{name}.json").write_text(json.dumps(asdict(daemon)))
    # The child outlives this program on purpose; without this its destructor would warn that it still runs.
    child.returncode = 0
    return daemon


def stop(root: Path, daemon: Daemon, *, sig: signal.Signals = signal.SIGTERM, grace_seconds: float = 10) -> None:
    """Ends the process, by SIGKILL after the grace time, and forgets it."""
    if daemon.alive:
        os.kill(daemon.pid, sig)
        if not _gone(daemon, grace_seconds):
            os.kill(daemon.pid, signal.SIGKILL)
            _gone(daemon, grace_seconds)
    (root / "run" / f"{daemon.name}.json").unlink(missing_ok=True)


def _gone(daemon: Daemon, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while daemon.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_until(what: str, check: Callable[[], bool], root: Path, *, seconds: float = 90, every: float = 0.2) -> None:
    """Waits for `check`, and gives up early when one of the cluster's processes has died.

    Raises:
        ClusterError: It took longer than `seconds`, or a process died; the message has the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not check():
        for daemon in recorded(root):
            if not daemon.alive:
                raise ClusterError(f"{daemon.name} stopped while waiting for {what}.\n{log_tail(root, daemon.name)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"Waited {seconds:.0f} s for {what} in vain; the logs are in {root / 'log'}.")
        time.sleep(every)


def log_tail(root: Path, name: str, lines: int = 8) -> str:
    """The last lines of a process's log, with the log's path."""
    path = root / "log" / f"{name}.log"
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join([f"{path}:", *text.splitlines()[-lines:]])
