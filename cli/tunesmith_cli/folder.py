"""The folder of a local run: where each of its files lies."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from tunesmith_api import ExitCode, ExportReport, JobConfig, Stage, TrainReport
from tunesmith_api.finetunejob import DatasetStatus, GateResult, Progress, Scores
from tunesmith_api.reports import (
    EXPORT_FOLDER,
    EXPORT_REPORT,
    MODEL_FOLDER,
    PREPARE_REPORT,
    SAMPLES,
    TRAIN_LOG,
    TRAIN_REPORT,
    Sample,
    Termination,
    decode_termination,
)
from tunesmith_cli.errors import CliError

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved job."""
        return self.root / "job.json"

    @property
    def inputs(self) -> Path:
        """Values of ConfigMap manifests, as files."""
        return self.root / "inputs"

    @property
    def workspace(self) -> Path:
        """What the stages share."""
        return self.root / "workspace"

    @property
    def fetched_model(self) -> Path:
        """The base model; absent when it is used in place, and until prepare has fetched it."""
        return self.workspace / MODEL_FOLDER

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.workspace / EXPORT_FOLDER

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.root / "report.md"

    def log(self, process: str) -> Path:
        """The log of a stage or of the server."""
        return self.root / "logs" / f"{process}.log"

    def termination_file(self, stage: Stage) -> Path:
        """Where a stage leaves its last words."""
        return self.root / "terminations" / f"{stage}.json"

    def termination(self, stage: Stage) -> Termination | None:
        """A stage's last words, or None when it left none."""
        return decode_termination(_text(self.termination_file(stage)))

    def dataset(self) -> DatasetStatus | None:
        """What prepare found."""
        text = _text(self.workspace / PREPARE_REPORT)
        return DatasetStatus.model_validate_json(text) if text else None

    def train_report(self) -> TrainReport | None:
        """What train did."""
        text = _text(self.workspace / TRAIN_REPORT)
        return TrainReport.model_validate_json(text) if text else None

    def export_report(self) -> ExportReport | None:
        """What export did."""
        text = _text(self.model / EXPORT_REPORT)
        return ExportReport.model_validate_json(text) if text else None

    def scores(self) -> dict[str, Scores | None]:
        """Metrics of the base, the tuned and the exported model, as far as they were measured."""
        train, export = self.train_report(), self.export_report()
        return {
            "base": train.base if train else None,
            "tuned": train.tuned if train else None,
            "exported": export.exported if export else None,
        }

    def gates(self) -> list[GateResult]:
        """How the gates came out, last on the exported model."""
        train, export = self.train_report(), self.export_report()
        return export.gates if export else train.gates if train else []

    def progress(self) -> Progress | None:
        """The newest whole line of the training log."""
        lines = _text(self.workspace / TRAIN_LOG).splitlines()
        return _newest(reversed(lines))

    def samples(self) -> list[Sample]:
        """Evaluation rows to try the model with."""
        return [Sample.model_validate_json(line) for line in _text(self.workspace / SAMPLES).splitlines()]

    def plots(self) -> list[Path]:
        """Plots of the run, in the order of their names."""
        return sorted(self.workspace.rglob("*.png"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _newest(lines: Iterable[str]) -> Progress | None:
    for line in lines:
        try:
            return Progress.model_validate_json(line)
        except ValidationError:
            continue  # the line that is being written
    return None


def new_folder(name: str, now: datetime, asked: Path | None) -> RunFolder:
    """The folder of a new run: as asked, else `runs/NAME-TIME`.

    Raises:
        CliError: it holds another run, or cannot be made.
    """
    root = asked or RUNS / f"{name}-{now:%Y%m%d-%H%M%S}"
    folder = RunFolder(root.absolute())
    if folder.config.exists():
        raise CliError(f"{root} holds a run already; continue it with --resume {root}, or choose another --output")
    try:
        folder.workspace.mkdir(parents=True, exist_ok=True)
        folder.log("any").parent.mkdir(exist_ok=True)
        folder.termination_file(Stage.PREPARE).parent.mkdir(exist_ok=True)
    except OSError as error:
        raise CliError(f"--output: {root} cannot be made: {error.strerror}", ExitCode.OUTPUT_NOT_WRITABLE) from error
    return folder


def resumed_folder(root: Path) -> tuple[RunFolder, JobConfig]:
    """The folder of an earlier run, and its job.

    Raises:
        CliError: it holds no run.
    """
    folder = RunFolder(root.absolute())
    try:
        return folder, JobConfig.model_validate_json(folder.config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CliError(f"--resume: {root} holds no run (no job.json)", ExitCode.INPUT_NOT_FOUND) from error
    except ValidationError as error:
        raise CliError(f"--resume: {folder.config} was not written by this version: {error}") from error
