"""What this machine has: processors, memory, and the parts of the product."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from tunesmith_api import ExitCode
from tunesmith_api.jobconfig import BUNDLED_MODELS_PATH, BUNDLED_MODELS_VARIABLE
from tunesmith_cli.errors import CliError

#: This machine's name among pools.
MACHINE = "this-machine"
_CHECKOUT_MODELS = Path(__file__).parents[2] / "examples" / "models"


@dataclass(frozen=True)
class Machine:
    """This machine as a pool of one node.

    Attributes:
        cpus: processors that this process may use.
        memory_bytes: physical memory.
        free_bytes: memory that new processes can have without swapping.
    """

    cpus: int
    memory_bytes: int
    free_bytes: int


def this_machine() -> Machine:
    """The machine that this process runs on."""
    memory = psutil.virtual_memory()
    cpus = len(psutil.Process().cpu_affinity() or []) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    return Machine(cpus=cpus or 1, memory_bytes=memory.total, free_bytes=memory.available)


def require_part(module: str, extra: str) -> None:
    """Refuse to start what is not installed.

    Raises:
        CliError: the module cannot be found.
    """
    if importlib.util.find_spec(module) is None:
        raise CliError(f"{module} is not installed; run: pip install 'tunesmith[{extra}]'", ExitCode.INPUT_NOT_FOUND)


def bundled_models(preset: str) -> Path:
    """The folder of the catalog's bundled models: the user's, the checkout's, or the image's.

    Raises:
        CliError: none of them has the preset.
    """
    given = os.environ.get(BUNDLED_MODELS_VARIABLE)
    folders = [Path(given)] if given else [_CHECKOUT_MODELS, Path(BUNDLED_MODELS_PATH)]
    for folder in folders:
        if (folder / preset / "config.json").is_file():
            return folder
    looked = " and ".join(str(folder / preset) for folder in folders)
    raise CliError(
        f"spec.model.preset: {preset} is bundled, but not at {looked}; set {BUNDLED_MODELS_VARIABLE} to a folder that"
        f" holds {preset}/, such as examples/models of the repository",
        ExitCode.INPUT_NOT_FOUND,
    )
