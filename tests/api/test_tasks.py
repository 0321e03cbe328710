"""Tests of the kinds of model, and of the table of tasks, which can be read from either side."""

from typing import Any

import pytest

from tunesmith_api.enums import DataFormat, Metric, ModelKind, Task
from tunesmith_api.finetunejob import Scores
from tunesmith_api.tasks import TASKS, formats_of, metrics_of, model_kind, tasks_of


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "phi3"}, ModelKind.CAUSAL),
        ({"model_type": "llama"}, ModelKind.CAUSAL),
        ({"model_type": "bert"}, ModelKind.ENCODER),
        ({"model_type": "distilbert"}, ModelKind.ENCODER),
        ({"model_type": "roberta"}, ModelKind.ENCODER),
        ({"model_type": "t5", "is_encoder_decoder": True}, ModelKind.SEQ2SEQ),
        ({"model_type": "marian", "is_encoder_decoder": True}, ModelKind.SEQ2SEQ),
    ],
)
def test_a_model_is_of_one_kind(config: dict[str, Any], kind: ModelKind) -> None:
    """The configuration alone says how a model reads and writes."""
    assert model_kind(config) is kind


def test_every_task_has_a_row() -> None:
    """A task of the contract without a row would be accepted and never run."""
    assert set(TASKS) == set(Task)


def test_every_format_has_a_task() -> None:
    """A format that no task takes could never be used."""
    assert [format_ for format_ in DataFormat if format_ is not DataFormat.AUTO and not tasks_of(format_)] == []


@pytest.mark.parametrize("task", Task)
def test_formats_and_tasks_agree(task: Task) -> None:
    """The tasks of a format are those whose formats it is among."""
    assert all(task in tasks_of(format_) for format_ in formats_of(task))


def test_every_metric_is_measured_somewhere_and_reported_by_its_name() -> None:
    """Gates and scores speak of the same metrics."""
    assert {metric for task in Task for metric in metrics_of(task)} == set(Metric)
    assert set(Metric) == set(Scores.model_fields)
