"""`python -m tunesmith_trainer STAGE [--config FILE]`: run one stage; the edge where errors become exit codes."""

import argparse
import errno
import sys
import traceback
from pathlib import Path

from tunesmith_api import ExitCode, Stage
from tunesmith_api.jobconfig import CONFIG_PATH
from tunesmith_trainer import log
from tunesmith_trainer.config import load_config
from tunesmith_trainer.credentials import Redaction
from tunesmith_trainer.environment import settle_environment
from tunesmith_trainer.errors import OutputNotWritableError, StageError
from tunesmith_trainer.outcome import Outcome, termination_of, write_termination
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.stages import Run, load_stage
from tunesmith_trainer.workspace import Workspace, make_readable

CRASH_EXIT_CODE = 1
_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


def run_stage(stage: Stage, config_path: Path, outcome: Outcome, redaction: Redaction) -> None:
    """Run one stage and leave its files readable by every user; `redaction` learns the job's secrets.

    Raises:
        StageError: the stage failed for a reason of the contract.
    """
    preemption = Preemption()
    preemption.listen()
    config = load_config(config_path)
    redaction.learn(config)
    workspace = Workspace(Path(config.workspace))
    log.info("stage started", stage=stage, job=config.name)
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        load_stage(stage)(Run(config, workspace, preemption), outcome)
    except OSError as error:
        if error.errno not in _WRITE_ERRORS:
            raise
        raise OutputNotWritableError(f"{error.filename or workspace.root}: {error.strerror}") from error
    finally:
        if workspace.root.is_dir():
            make_readable([workspace.root])


def main(arguments: list[str] | None = None) -> int:
    """Run the stage that the command line names and return its exit code."""
    parser = argparse.ArgumentParser(prog="tunesmith_trainer", description="Run one stage of a FineTuneJob.")
    parser.add_argument("stage", type=Stage, choices=list(Stage), metavar="{prepare,train,export}")
    parser.add_argument("--config", type=Path, default=Path(CONFIG_PATH), help="job config (default: %(default)s)")
    options = parser.parse_args(arguments)
    settle_environment()
    outcome, redaction = Outcome(), Redaction()
    log.start_logging(redaction.hide)
    exit_code, message = int(ExitCode.DONE), ""
    try:
        run_stage(options.stage, options.config, outcome, redaction)
    except StageError as error:
        exit_code, message = int(error.exit_code), redaction.hide(str(error))
        log.LOGGER.error(message)
    except Exception as error:  # noqa: BLE001 - the edge: whatever is not ours is a crash with its traceback
        print(redaction.hide(traceback.format_exc()), file=sys.stderr)  # noqa: T201 - as the interpreter prints it
        exit_code, message = CRASH_EXIT_CODE, redaction.hide(f"{type(error).__name__}: {error}")
    write_termination(termination_of(options.stage, exit_code, outcome, message))
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
