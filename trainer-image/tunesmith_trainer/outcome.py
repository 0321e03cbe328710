"""What a stage has to tell, collected while it runs: the termination message is made of it however the stage ends."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api import Architecture, ExitCode, Failure, Stage, Termination, meaning_of
from tunesmith_api.finetunejob import ArtifactStatus, DatasetStatus, EvaluationStatus, Progress
from tunesmith_api.jobconfig import TERMINATION_LOG_PATH, TERMINATION_LOG_VARIABLE
from tunesmith_trainer import log

_MESSAGE_LIMIT = 2000


@dataclass
class Outcome:
    """What is known so far; a stage fills in its part."""

    model: Architecture | None = None
    dataset: DatasetStatus | None = None
    evaluation: EvaluationStatus | None = None
    progress: Progress | None = None
    artifact: ArtifactStatus | None = None


def termination_of(stage: Stage, exit_code: int, outcome: Outcome, message: str = "") -> Termination:
    """The termination message of a stage that ended with an exit code; `message` says what was seen when it failed."""
    return Termination(
        stage=stage,
        exit_code=exit_code,
        failure=None if exit_code == ExitCode.DONE else _failure(exit_code, message),
        model=outcome.model,
        dataset=outcome.dataset,
        evaluation=outcome.evaluation,
        progress=outcome.progress,
        artifact=outcome.artifact,
    )


def _failure(exit_code: int, message: str) -> Failure:
    meaning = meaning_of(exit_code)
    short = message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"
    return Failure(category=meaning.category, message=short, resolution=meaning.resolution)


def write_termination(termination: Termination, environ: Mapping[str, str] = os.environ) -> None:
    """Leave the message where the kubelet, or the local run, reads it.

    Outside a container there is no termination log unless the environment variable names one; then only the log has it.
    """
    text = termination.encode()
    log.info("stage ended", exit_code=termination.exit_code, termination=text)
    path = Path(environ.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG_PATH))
    if TERMINATION_LOG_VARIABLE not in environ and not path.exists():
        return
    with contextlib.suppress(OSError):
        path.write_text(text, encoding="utf-8")
