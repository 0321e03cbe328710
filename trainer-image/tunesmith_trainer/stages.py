"""The three stages by name; each is imported only when it runs, so that prepare starts without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from tunesmith_api import JobConfig, Stage
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.workspace import Workspace


@dataclass(frozen=True)
class Run:
    """What every stage gets: the job, its files, and the ear for SIGTERM."""

    config: JobConfig
    workspace: Workspace
    preemption: Preemption


StageFunction = Callable[[Run, Outcome], None]

#: Module and function of each stage.
STAGES: dict[Stage, tuple[str, str]] = {
    Stage.PREPARE: ("tunesmith_trainer.prepare", "prepare"),
    Stage.TRAIN: ("tunesmith_trainer.launcher", "train"),
    Stage.EXPORT: ("tunesmith_trainer.export", "export"),
}


def load_stage(stage: Stage) -> StageFunction:
    """The function of a stage: it fills in the outcome, and raises a StageError when it fails."""
    module, name = STAGES[stage]
    function: StageFunction = getattr(import_module(module), name)
    return function
