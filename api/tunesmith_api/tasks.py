"""Tasks, the kinds of model that can learn them, and what each takes: read by validation, trainer, planner and docs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.enums import DataFormat, Metric, ModelKind, Task
from tunesmith_api.finetunejob import Columns

#: `model_type` of the encoders that the trainer knows; MiniLM's is bert or xlm-roberta.
ENCODER_TYPES = frozenset({"bert", "distilbert", "roberta", "xlm-roberta"})


def model_kind(config: Mapping[str, Any]) -> ModelKind:
    """The kind of a model, from its config.json."""
    if config.get("is_encoder_decoder"):
        return ModelKind.SEQ2SEQ
    return ModelKind.ENCODER if config.get("model_type") in ENCODER_TYPES else ModelKind.CAUSAL


_DIALOGUES = (DataFormat.MESSAGES, DataFormat.SHARE_GPT, DataFormat.ALPACA, DataFormat.PROMPT_COMPLETION)
_LIKELIHOOD = (Metric.PERPLEXITY, Metric.TOKEN_ACCURACY)
_CLASSES = (Metric.ACCURACY, Metric.MACRO_F1)
_ENTITIES = (Metric.ENTITY_PRECISION, Metric.ENTITY_RECALL, Metric.ENTITY_F1)
_ANSWERS = (Metric.EXACT_MATCH, Metric.F1)
_TRANSLATIONS = (Metric.BLEU, Metric.CHRF)
_GENERATIONS = (*_LIKELIHOOD, Metric.EXACT_MATCH, Metric.ROUGE_L, Metric.PARSE_RATE)


@dataclass(frozen=True)
class TaskKind:
    """One task on one kind of model.

    Attributes:
        formats: layouts of rows that it takes, in the order in which Auto tries them.
        metrics: what is measured on the evaluation rows, and what gates can name.
    """

    formats: tuple[DataFormat, ...]
    metrics: tuple[Metric, ...]


#: Tasks, the kinds of models that they can be tuned on, and what each takes. A causal model writes its answer as text.
TASKS: Mapping[Task, Mapping[ModelKind, TaskKind]] = {
    Task.TEXT_GENERATION: {ModelKind.CAUSAL: TaskKind((*_DIALOGUES, DataFormat.TEXT), _GENERATIONS)},
    Task.CHAT: {ModelKind.CAUSAL: TaskKind(_DIALOGUES, _GENERATIONS)},
    Task.QUESTION_ANSWERING: {
        ModelKind.ENCODER: TaskKind((DataFormat.SQUAD,), _ANSWERS),
        ModelKind.CAUSAL: TaskKind((DataFormat.SQUAD, DataFormat.PROMPT_COMPLETION), (*_LIKELIHOOD, *_ANSWERS)),
    },
    Task.TEXT_CLASSIFICATION: {
        ModelKind.ENCODER: TaskKind((DataFormat.LABELED_TEXT,), _CLASSES),
        ModelKind.CAUSAL: TaskKind((DataFormat.LABELED_TEXT,), (*_LIKELIHOOD, *_CLASSES)),
    },
    Task.TOKEN_CLASSIFICATION: {
        ModelKind.ENCODER: TaskKind((DataFormat.TOKEN_LABELS,), _ENTITIES),
        ModelKind.CAUSAL: TaskKind((DataFormat.TOKEN_LABELS,), (*_LIKELIHOOD, *_ENTITIES)),
    },
    Task.TRANSLATION: {
        ModelKind.SEQ2SEQ: TaskKind((DataFormat.PARALLEL_TEXT,), (*_LIKELIHOOD, *_TRANSLATIONS)),
        ModelKind.CAUSAL: TaskKind((DataFormat.PARALLEL_TEXT,), (*_LIKELIHOOD, *_TRANSLATIONS)),
    },
}


def formats_of(task: Task) -> tuple[DataFormat, ...]:
    """Every format that a task takes, on whatever kind of model, without repetition."""
    return tuple(dict.fromkeys(format_ for kind in TASKS[task].values() for format_ in kind.formats))


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """Every metric that is measured on a task, on whatever kind of model, without repetition."""
    return tuple(dict.fromkeys(metric for kind in TASKS[task].values() for metric in kind.metrics))


def tasks_of(format_: DataFormat) -> tuple[Task, ...]:
    """The tasks that take a format."""
    return tuple(task for task in TASKS if format_ in formats_of(task))


def format_problem(task: Task, format_: DataFormat) -> str:
    """Why rows of a format are not for a task, with the way out; empty when they are, or when the format is Auto."""
    if format_ is DataFormat.AUTO or format_ in formats_of(task):
        return ""
    return (
        f"{format_} is not for task {task}, which takes {', '.join(formats_of(task))}; use spec.task {_tasks(format_)}"
    )


_BESIDE_TURNS = ("system", "tools")
#: The fields of `dataset.columns` that a format has.
COLUMNS: dict[DataFormat, tuple[str, ...]] = {
    DataFormat.MESSAGES: ("messages", *_BESIDE_TURNS),
    DataFormat.SHARE_GPT: ("messages", *_BESIDE_TURNS),
    DataFormat.ALPACA: ("prompt", "input", "completion", *_BESIDE_TURNS),
    DataFormat.PROMPT_COMPLETION: ("prompt", "completion", *_BESIDE_TURNS),
    DataFormat.SQUAD: ("context", "question", "answers", "impossible"),
    DataFormat.TOKEN_LABELS: ("tokens", "text", "tags"),
    DataFormat.PARALLEL_TEXT: ("source", "target", "translation"),
    DataFormat.LABELED_TEXT: ("text", "label"),
    DataFormat.TEXT: ("text",),
}


def foreign_columns(columns: Columns, format_: DataFormat) -> list[str]:
    """The columns that a job names and rows of its format have not, a sentence each; none when the format is Auto."""
    if format_ is DataFormat.AUTO:
        return []
    known = ", ".join(COLUMNS[format_])
    return [
        f"spec.dataset.columns.{field}: {value!r} is not read: rows of format {format_} have {known};"
        " leave it out, or set spec.dataset.format"
        for field, value in columns.wire().items()
        if field not in COLUMNS[format_]
    ]


def _tasks(format_: DataFormat) -> str:
    return " or ".join(tasks_of(format_))


def answer_reasons(task: Task, kind: ModelKind | None) -> tuple[str, ...]:
    """What the plan says of how a model of a kind answers, where a person could expect something else."""
    if task is not Task.QUESTION_ANSWERING or kind in {None, ModelKind.ENCODER}:
        return ()
    return (f"Task {task}: answers are generated, as the model is {kind}; extractive answers need an encoder.",)
