"""The report of a run, in Markdown: what was asked, decided, measured and made."""

from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith_api import JobConfig
from tunesmith_api.enums import ExportFormat
from tunesmith_cli.folder import RunFolder
from tunesmith_cli.render import (
    class_rows,
    dataset_line,
    duration,
    export_line,
    gate_lines,
    markdown_table,
    score_rows,
    size,
    train_line,
)


@dataclass(frozen=True)
class Answer:
    """One question, asked over HTTP."""

    question: str
    answer: str
    expected: str


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        failure: category, message and resolution, or an empty string when all went well.
        answer: what the served model said, when it was asked.
    """

    failure: str = ""
    answer: Answer | None = None


def write_report(folder: RunFolder, config: JobConfig, plan: list[str], ending: Ending) -> None:
    """Write the report; a run that failed gets one of what there is."""
    sections = [section for section in _sections(folder, config, plan, ending) if section]
    folder.report.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _sections(folder: RunFolder, config: JobConfig, plan: list[str], ending: Ending) -> Iterator[str]:
    yield f"# {config.name}"
    yield f"**Failed.** {ending.failure}" if ending.failure else ""
    yield _job(config)
    yield "## Plan\n\n" + "\n".join(f"- {line}" for line in plan)
    yield _measured(folder)
    yield _answer(ending.answer) if ending.answer else ""
    yield _classes(folder)
    yield _details(folder)
    yield _plots(folder)
    yield _files(folder)


def _job(config: JobConfig) -> str:
    spec = config.spec
    rows = [
        ["model", spec.model.preset or spec.model.uri or ""],
        ["task", spec.task],
        ["training data", spec.dataset.train.uri],
        ["evaluation data", spec.dataset.evaluation.uri or f"{spec.dataset.evaluation.fraction:.0%} held out"],
        ["technique", spec.technique.type],
        ["export", spec.export.precision],
        ["seed", str(spec.training.seed)],
    ]
    return markdown_table(["job", ""], rows)


def _measured(folder: RunFolder) -> str:
    models = folder.scores()
    rows = score_rows(models)
    gates = gate_lines(folder.gates())
    listed = "\n\n" + "\n".join(f"- {line}" for line in gates) if gates else ""
    return f"## Before and after\n\n{markdown_table(['metric', *models], rows)}{listed}" if rows else ""


def _answer(answer: Answer) -> str:
    rows = [["question", answer.question], ["answer", answer.answer], ["expected", answer.expected]]
    return f"## One question over HTTP\n\n{markdown_table(['', ''], [[a, f'`{b}`'] for a, b in rows])}"


def _classes(folder: RunFolder) -> str:
    train = folder.train_report()
    if train is None or not train.classes:
        return ""
    heading = ["class", "precision", "recall", "F1", "support"]
    return f"## Classes of the tuned model\n\n{markdown_table(heading, class_rows(train.classes))}"


def _details(folder: RunFolder) -> str:
    dataset, train, export = folder.dataset(), folder.train_report(), folder.export_report()
    lines = []
    if dataset is not None:
        lines += [f"data: {dataset_line(dataset)}", *dataset.warnings]
    if train is not None:
        lines.append(f"training: {train_line(train)}")
        lines.append(f"time {duration(train.duration_seconds)}, peak memory {size(train.peak_memory_bytes)}")
    if export is not None:
        lines.append(f"export: {export_line(export)}")
        lines.append("made with " + ", ".join(f"{name} {version}" for name, version in export.versions.items()))
    return "## Details\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _plots(folder: RunFolder) -> str:
    links = [f"![{plot.stem}]({plot.relative_to(folder.root)})" for plot in folder.plots()]
    return "## Plots\n\n" + "\n\n".join(links) if links else ""


_EXPORTS = {
    ExportFormat.ONNX: "the exported model (ONNX)",
    ExportFormat.SAFETENSORS: "the merged model (safetensors)",
    ExportFormat.ADAPTER: "the adapter (PEFT)",
}


def _exported(folder: RunFolder) -> str:
    report = folder.export_report()
    return _EXPORTS[report.format if report is not None else ExportFormat.ONNX]


def _files(folder: RunFolder) -> str:
    lines = [f"- `{folder.workspace.name}/` checkpoints, adapter and reports", "- `logs/` the stages' logs"]
    if folder.export_report() is not None:
        lines.insert(0, f"- `{folder.model.relative_to(folder.root)}/` {_exported(folder)}")
    return "## Files\n\n" + "\n".join(lines)
