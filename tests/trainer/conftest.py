"""Fixtures of the trainer's tests: job configs, the example's model and data, and stages run here or as processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api import JobConfig, Stage, Termination, decode_termination
from tunesmith_trainer.config import parse_config
from tunesmith_trainer.errors import StageError
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.stages import Run, load_stage
from tunesmith_trainer.workspace import Workspace

# Before torch is loaded: waiting OpenMP threads that spin make tests many times slower on a busy machine.
os.environ["OMP_WAIT_POLICY"] = "passive"

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = EXAMPLES / "models"
DATA = EXAMPLES / "home-assistant"
THREADS = "2"


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested objects with some values replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


def job(workspace: Path, **changes: Any) -> dict[str, Any]:
    """The job config of the example, in a workspace, with changes to its spec."""
    spec = {
        "model": {"preset": "tiny-phi3"},
        "task": "Chat",
        "dataset": {
            "train": {"uri": "configmap://home/train.jsonl"},
            "evaluation": {"uri": "configmap://home/test.jsonl"},
        },
        "technique": {"type": "LoRA", "lora": {"rank": 16, "alpha": 32}},
        "training": {"epochs": 4, "learningRate": 0.005, "batchSize": 16, "maxSequenceLength": 128},
        "evaluation": {"generation": {"maxNewTokens": 48}},
        "export": {"precision": "Exact"},
    }
    inputs = {f"configmap://home/{name}.jsonl": str(DATA / f"{name}.jsonl") for name in ("train", "test")}
    return {"name": "home", "workspace": str(workspace), "inputs": inputs, "spec": merge(spec, changes)}


@dataclass(frozen=True)
class Ended:
    """How a stage ended, run in this process."""

    code: int
    message: str
    outcome: Outcome


def run_here(stage: Stage, config: dict[str, Any], *, preempted: bool = False) -> Ended:
    """Run a stage in this process and say how it ended; `preempted` stops a training after its first step."""
    outcome, preemption = Outcome(), Preemption()
    preemption.requested = preempted
    try:
        parsed: JobConfig = parse_config(config)
        workspace = Workspace(Path(parsed.workspace))
        workspace.root.mkdir(parents=True, exist_ok=True)
        load_stage(stage)(Run(parsed, workspace, preemption), outcome)
    except StageError as error:
        return Ended(int(error.exit_code), str(error), outcome)
    return Ended(0, "", outcome)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a stage's process."""
    own = {
        "TUNESMITH_MODELS": str(MODELS),
        "TUNESMITH_TERMINATION_LOG": str(folder / "termination.json"),
        "TUNESMITH_PROGRESS_PORT": "0",
        "OMP_NUM_THREADS": THREADS,
    }
    return {**os.environ, **own, **more}


def start_stage(stage: Stage, config: dict[str, Any], folder: Path, **more: str) -> subprocess.Popen[str]:
    """Start a stage as a process, with its job config and termination message in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "tunesmith_trainer", stage, "--config", str(folder / "job.json")]
    return subprocess.Popen(
        command, env=environment(folder, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_stage(stage: Stage, config: dict[str, Any], folder: Path, **more: str) -> tuple[int, Termination | None]:
    """Run a stage as a process to its end: its exit code and its termination message."""
    with start_stage(stage, config, folder, **more) as process:
        output, _ = process.communicate()
    print(output[-4000:])  # noqa: T201 - pytest shows it when the test fails
    return process.returncode, decode_termination((folder / "termination.json").read_text())


@pytest.fixture(autouse=True)
def _bundled_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finds the bundled model and keeps the thread count of every stage the same."""
    monkeypatch.setenv("TUNESMITH_MODELS", str(MODELS))
    monkeypatch.setenv("OMP_NUM_THREADS", THREADS)
    monkeypatch.setenv("TUNESMITH_PROGRESS_PORT", "0")


@pytest.fixture(name="job")
def _job(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`job(**changes)`: the example's job config in this test's workspace, with changes to its spec."""
    return lambda **changes: job(tmp_path / "workspace", **changes)


@pytest.fixture(name="make_job", scope="session")
def _make_job() -> Callable[..., dict[str, Any]]:
    """`make_job(workspace, **changes)`: the example's job config in any workspace."""
    return job


@pytest.fixture(name="run_here", scope="session")
def _run_here() -> Callable[..., Ended]:
    """`run_here(stage, config)`: runs a stage in this process."""
    return run_here


@pytest.fixture(name="run_stage")
def _run_stage(tmp_path: Path) -> Callable[..., tuple[int, Termination | None]]:
    """`run_stage(stage, config, **environment)`: runs a stage as a process to its end."""
    return lambda stage, config, **more: run_stage(stage, config, tmp_path / "process", **more)


@pytest.fixture(name="start_stage")
def _start_stage(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`start_stage(stage, config, **environment)`: starts a stage as a process."""
    return lambda stage, config, **more: start_stage(stage, config, tmp_path / "process", **more)


@dataclass(frozen=True)
class TunedRun:
    """The example, tuned and exported by the three stages as processes."""

    workspace: Path
    config: dict[str, Any]
    terminations: dict[Stage, Termination]


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> TunedRun:
    """The example through all stages, once for the session; each must end with code 0."""
    folder = tmp_path_factory.mktemp("tuned")
    config = job(folder / "workspace", evaluation={"gates": [{"metric": "exact_match", "min": 0.9}]})
    terminations = {}
    for stage in Stage:
        code, termination = run_stage(stage, config, folder / stage)
        assert code == 0, f"{stage} ended with {code}: {termination}"
        assert termination is not None
        terminations[stage] = termination
    return TunedRun(folder / "workspace", config, terminations)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., str]:
    """Writes rows as JSONL and gives the file:// URI."""

    def write(rows: list[Any], name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"file://{path}"

    return write
