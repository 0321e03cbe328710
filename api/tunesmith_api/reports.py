"""What stages tell: report files in the workspace, and the termination message that the operator reads.

Files below the workspace folder: `prepare-report.json` (DatasetStatus), `train-report.json` (TrainReport),
`export/export-report.json` (ExportReport), `train-log.jsonl` (a Progress per line), `samples.jsonl` (a Sample per
line).
"""

from typing import Annotated

from pydantic import Field, ValidationError

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import ExportFormat
from tunesmith_api.exits import FailureCategory
from tunesmith_api.finetunejob import (
    ArtifactStatus,
    DatasetStatus,
    EvaluationStatus,
    GateResult,
    Parity,
    Progress,
    Scores,
)
from tunesmith_api.jobconfig import Stage
from tunesmith_api.model import Model
from tunesmith_api.strings import Identifier, Message

#: The kubelet keeps at most this much of a container's termination message.
TERMINATION_LIMIT_BYTES = 4096

PREPARE_REPORT = "prepare-report.json"
TRAIN_REPORT = "train-report.json"
EXPORT_REPORT = "export-report.json"
TRAIN_LOG = "train-log.jsonl"
SAMPLES = "samples.jsonl"
#: Evaluation rows that prepare leaves as samples.
SAMPLE_COUNT = 20
#: Folder of the exported model below the workspace.
EXPORT_FOLDER = "export"
#: Folder of the fetched base model below the workspace.
MODEL_FOLDER = "model"


class Turn(Model):
    """One message of a conversation."""

    role: Identifier
    """Who speaks: system, user or assistant."""
    content: str
    """What was said."""


class Sample(Model):
    """One evaluation row as people read it, for trying the model out."""

    messages: list[Turn]
    """The conversation up to the answer; a single turn is a prompt as it is for TextGeneration."""
    reference: str
    """The answer that the data set gives."""


class ClassScores(Model):
    """How well one class, or one type of entity, is found."""

    label: str
    """Name of the class."""
    precision: float
    """Share of the found ones that are right."""
    recall: float
    """Share of the wanted ones that were found."""
    f1: float
    """Harmonic mean of both."""
    support: int
    """How often the evaluation rows want it."""


class StoppingReport(Model):
    """What early stopping came to."""

    best_step: int
    """Step with the least evaluation loss, whose weights are the result."""
    best_loss: float
    """That loss."""
    planned_steps: int
    """Optimizer steps that the training would have had."""


class TrainReport(Model):
    """What the train stage did."""

    base: Scores
    """The base model."""
    tuned: Scores
    """The tuned model."""
    gates: list[GateResult]
    """How the gates came out."""
    steps: int
    """Optimizer steps that were made."""
    early_stopping: StoppingReport | None = None
    """The best step and the steps that were planned; absent without early stopping."""
    final_loss: float
    """Training loss of the last logged step."""
    trained_parameters: int
    """Weights that were trained."""
    total_parameters: int
    """Weights in all."""
    duration_seconds: float
    """Wall time of the training, without the time before a resume."""
    tokens_per_second: float
    """Input tokens without padding per second."""
    peak_memory_bytes: int
    """Peak resident memory of the process (device memory on a device)."""
    precision: Identifier
    """Arithmetic that was used."""
    resumed_from_step: int | None = None
    """Step of the checkpoint that the last run started from."""
    classes: list[ClassScores] = Field(default_factory=list)
    """The tuned model by class or entity type, for tasks that have them."""


class ExportReport(Model):
    """What the export stage did; lies in the folder that it published."""

    job: Identifier
    """Name of the FineTuneJob."""
    model: Message
    """The base model's preset or URI."""
    artifact: ArtifactStatus
    """What was published."""
    format: ExportFormat = ExportFormat.ONNX
    """In which layout."""
    parity: Parity | None = None
    """How close the ONNX model is to the merged torch model; absent for the other formats."""
    exported: Scores | None = None
    """Metrics of the ONNX model; absent for the other formats, whose are the tuned model's."""
    gates: list[GateResult]
    """How the gates came out on the ONNX model, or on the tuned one for the other formats."""
    versions: Annotated[dict[str, str], Field(max_length=32)]
    """Versions of the libraries that made it."""


class Failure(Model):
    """Why a stage failed."""

    category: FailureCategory
    """Kind of the failure."""
    message: Message
    """What was seen: field, value, row, step, loss."""
    resolution: Message
    """What to do about it."""


class Termination(Model):
    """What a stage leaves in its termination message: at most 4 KiB of JSON."""

    stage: Stage
    """The stage."""
    exit_code: int
    """The process's exit code."""
    failure: Failure | None = None
    """Why it failed; absent when it did not."""
    model: Architecture | None = None
    """The numbers of a base model by URI, which prepare read."""
    dataset: DatasetStatus | None = None
    """What prepare found."""
    evaluation: EvaluationStatus | None = None
    """What train (base, tuned) or export (exported) measured."""
    progress: Progress | None = None
    """How far train came."""
    artifact: ArtifactStatus | None = None
    """What export published."""

    def encode(self) -> str:
        """The message as JSON, shortened to the kubelet's limit by dropping warnings and cutting the failure's text."""
        text = self.model_dump_json(by_alias=True, exclude_none=True)
        if len(text.encode()) <= TERMINATION_LIMIT_BYTES:
            return text
        dataset = self.dataset and self.dataset.model_copy(update={"warnings": []})
        failure = self.failure and self.failure.model_copy(update={"message": self.failure.message[:1000]})
        short = self.model_copy(update={"dataset": dataset, "failure": failure})
        return short.model_dump_json(by_alias=True, exclude_none=True)


def decode_termination(text: str | None) -> Termination | None:
    """The termination message of a container, or None when it is absent or not ours (as after SIGKILL)."""
    if not text:
        return None
    try:
        return Termination.model_validate_json(text)
    except ValidationError:
        return None
