"""Values to what a person reads: the plan, the scores, a failure. Pure but for rich's types."""

from collections.abc import Sequence

from rich.table import Table

from tunesmith_api import ExportReport, Resolution, TrainReport
from tunesmith_api.enums import ExportFormat, Metric
from tunesmith_api.finetunejob import DatasetStatus, GateResult, Progress, Scores
from tunesmith_api.metrics import METRICS, measured, score_of
from tunesmith_api.reports import ClassScores


def duration(seconds: float) -> str:
    """Seconds as people say them: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float) -> str:
    """A byte count in the largest unit that leaves a whole part."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def progress_line(progress: Progress) -> str:
    """What is behind the bar: loss, speed and time left."""
    parts = [f"step {progress.step}/{progress.total_steps}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.eta_seconds is not None and progress.step < progress.total_steps:
        parts.append(f"{duration(progress.eta_seconds)} left")
    return ", ".join(parts)


def dataset_line(dataset: DatasetStatus) -> str:
    """What prepare found."""
    return (
        f"{dataset.examples:,} training and {dataset.evaluation_examples:,} evaluation rows ({dataset.format}),"
        f" {dataset.tokens:,} tokens, longest row {dataset.longest_tokens}"
    )


def train_line(report: TrainReport) -> str:
    """What train did."""
    share = report.trained_parameters / report.total_parameters
    resumed = f", resumed from step {report.resumed_from_step}" if report.resumed_from_step is not None else ""
    return (
        f"{report.steps:,} steps{_stopped(report)}{resumed}, loss {report.final_loss:.4f},"
        f" {report.tokens_per_second:,.0f} tokens/s, {report.trained_parameters:,} weights trained ({share:.2%}),"
        f" {report.precision}"
    )


def _stopped(report: TrainReport) -> str:
    """What early stopping came to; empty without it."""
    found = report.early_stopping
    if found is None:
        return ""
    early = f" of {found.planned_steps:,}, stopped early" if report.steps < found.planned_steps else ""
    return f"{early}, weights of step {found.best_step:,} (evaluation loss {found.best_loss:.4f})"


def export_line(report: ExportReport) -> str:
    """What export did."""
    parity = report.parity
    if parity is None:
        what = "the adapter alone" if report.format is ExportFormat.ADAPTER else "the merged weights"
        return f"{size(report.artifact.size_bytes)}, {what}"
    return (
        f"{size(report.artifact.size_bytes)}, {report.artifact.precision}, greedy agreement"
        f" {parity.greedy_agreement:.1%}, largest logit difference {parity.max_logit_difference:.2g}"
    )


def plan_lines(resolution: Resolution, notes: Sequence[str]) -> list[str]:
    """Why the run is what it is."""
    return [*resolution.reasons, *(f"note: {note}" for note in notes)]


def score_rows(models: dict[str, Scores | None]) -> list[list[str]]:
    """A row for each metric that any model has: its name, then a cell for each model."""
    return [
        [METRICS[metric].label, *(_cell(metric, scores) for scores in models.values())]
        for metric in measured(*models.values())
    ]


def class_rows(classes: Sequence[ClassScores]) -> list[list[str]]:
    """A row for each class: its name, three shares, and how often the evaluation rows want it."""
    return [
        [one.label, *(f"{share:.1%}" for share in (one.precision, one.recall, one.f1)), f"{one.support:,}"]
        for one in classes
    ]


def _cell(metric: Metric, scores: Scores | None) -> str:
    value = score_of(scores, metric) if scores else None
    return "" if value is None else METRICS[metric].pattern.format(value)


def score_table(models: dict[str, Scores | None]) -> Table:
    """Before and after, side by side."""
    table = Table("", *models)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in score_rows(models):
        table.add_row(*row)
    return table


def gate_lines(gates: Sequence[GateResult]) -> list[str]:
    """How the gates came out."""
    return [f"gate {'passed' if gate.passed else 'NOT MET'}: {gate.message}" for gate in gates]


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a cell's line ends become blanks."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(_cell_text(cell) for cell in line)} |" for line in lines)


def _cell_text(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", "\\|")
