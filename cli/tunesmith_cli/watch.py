"""`tunesmith watch`: a job's status in a cluster, live, until it is Ready or has failed. Reads through kubectl."""

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tunesmith_api import ConditionType, ExitCode, FineTuneJobStatus
from tunesmith_cli.errors import CliError
from tunesmith_cli.render import dataset_line, gate_lines, progress_line, score_table

FAILED = 1
TIMED_OUT = 124


@dataclass(frozen=True)
class WatchOptions:
    """What to watch.

    Attributes:
        name: name of the FineTuneJob.
        kubectl: command line of kubectl with the namespace and context to use.
        timeout_seconds: when to give up; never when None.
        every_seconds: time between two looks.
    """

    name: str
    kubectl: tuple[str, ...]
    timeout_seconds: float | None = None
    every_seconds: float = 2


def watch(options: WatchOptions, console: Console) -> int:
    """Show a job until it ends; 0 when it is Ready, the failed stage's exit code or 1 when it failed, 124 when late.

    Raises:
        CliError: the job cannot be read.
    """
    ends = None if options.timeout_seconds is None else time.monotonic() + options.timeout_seconds
    shown: list[str] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            job = _get(options)
            status = status_of(job)
            _show(console, live, options.name, status, shown)
            code = exit_code_of(job, status)
            if code is not None or (ends is not None and time.monotonic() > ends):
                break
            time.sleep(options.every_seconds)
    console.print(Group(*(Text(line) for line in status_lines(options.name, status)), *_tables(status)))
    return TIMED_OUT if code is None else code


def _show(console: Console, live: Live, name: str, status: FineTuneJobStatus, shown: list[str]) -> None:
    """Redraw on a terminal; elsewhere print what is new."""
    lines = status_lines(name, status)
    if console.is_terminal:
        live.update(Group(*map(Text, lines)), refresh=True)
    elif lines != shown:
        console.print(*(line for line in lines if line not in shown), sep="\n", markup=False, highlight=False)
    shown[:] = lines


def _get(options: WatchOptions) -> dict[str, Any]:
    command: Sequence[str] = (*options.kubectl, "get", "finetunejobs.tunesmith.dev", options.name, "-o", "json")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CliError("kubectl is not installed or not on PATH", ExitCode.INPUT_NOT_FOUND) from error
    if done.returncode != 0:
        missing = "NotFound" in done.stderr
        raise CliError(done.stderr.strip(), ExitCode.INPUT_NOT_FOUND if missing else ExitCode.SERVICE_UNAVAILABLE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def status_of(job: dict[str, Any]) -> FineTuneJobStatus:
    """The status of a job.

    Raises:
        CliError: it was written by another version.
    """
    try:
        return FineTuneJobStatus.model_validate(job.get("status") or {})
    except ValidationError as error:
        raise CliError(f"the job's status was written by another version: {error}") from error


def exit_code_of(job: dict[str, Any], status: FineTuneJobStatus) -> int | None:
    """0 when the job is Ready, the failure's exit code when it is Stalled, None while something may still change."""
    if (status.observed_generation or 0) < job["metadata"].get("generation", 0):
        return None
    states = {condition.type: condition.status for condition in status.conditions}
    if states.get(ConditionType.READY) == "True":
        return ExitCode.DONE
    if states.get(ConditionType.STALLED) == "True":
        return (status.failure and status.failure.exit_code) or FAILED
    return None


def status_lines(name: str, status: FineTuneJobStatus) -> list[str]:
    """A job's status in a few lines."""
    lines = [f"{name}: {status.phase or 'not seen by the operator yet'}"]
    if status.plan is not None:
        lines += [f"  plan: {reason}" for reason in status.plan.reasons]
    if status.dataset is not None:
        lines.append(f"  data: {dataset_line(status.dataset)}")
    if status.progress is not None:
        lines.append(f"  training: {progress_line(status.progress)}")
    for condition in status.conditions:
        if condition.message:
            lines.append(f"  {condition.type} {condition.status} ({condition.reason}): {condition.message}")
    if status.evaluation is not None:
        lines += [f"  {line}" for line in gate_lines(status.evaluation.gates)]
    if status.failure is not None:
        lines += [f"  {status.failure.category}: {status.failure.message}", f"  {status.failure.resolution}"]
    if status.endpoint is not None:
        lines.append(f"  served by ModelEndpoint {status.endpoint}")
    return lines


def _tables(status: FineTuneJobStatus) -> list[Any]:
    found = status.evaluation
    if found is None:
        return []
    return [score_table({"base": found.base, "tuned": found.tuned, "exported": found.exported})]
