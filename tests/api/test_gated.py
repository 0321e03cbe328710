"""Tests of gates on what is not measured."""

from typing import Any

import pytest

from tunesmith_api.enums import DataFormat, Metric, ModelKind, Task
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.gated import unmeasured_gates
from tunesmith_api.metrics import METRICS
from tunesmith_api.resolve import objections
from tunesmith_api.tasks import TASKS, metrics_of

CAUSAL, ENCODER, SEQ2SEQ = ModelKind.CAUSAL, ModelKind.ENCODER, ModelKind.SEQ2SEQ


def job(task: Task | str, metric: Metric | str, **generation: Any) -> FineTuneJobSpec:
    """A job with one gate."""
    return FineTuneJobSpec.model_validate(
        {
            "model": {"uri": "hf://org/model"},
            "dataset": {"train": {"uri": "configmap://data/train.jsonl"}},
            "task": task,
            "evaluation": {"gates": [{"metric": metric, "min": 0.5}], "generation": generation},
        }
    )


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("kind", ModelKind)
def test_a_gate_may_name_what_its_task_measures_and_nothing_else(task: Task, kind: ModelKind) -> None:
    """For every task and kind of model the table of tasks decides."""
    row = TASKS[task].get(kind)
    for metric in Metric if row else ():
        found = unmeasured_gates(job(task, metric, notation="ABC"), kind)
        assert bool(found) == (metric not in row.metrics), metric
        assert all(sentence.startswith(f"spec.evaluation.gates: {metric} is not measured: ") for sentence in found)


@pytest.mark.parametrize("metric", [metric for metric in Metric if METRICS[metric].generated])
def test_without_answers_their_metrics_cannot_be_gated(metric: Metric) -> None:
    """With maxSamples 0 a model that writes has none of them; an encoder still has its own."""
    for task in [task for task in Task if metric in metrics_of(task)]:
        for kind in [kind for kind, row in TASKS[task].items() if metric in row.metrics]:
            found = unmeasured_gates(job(task, metric, maxSamples=0, notation="ABC"), kind)
            assert bool(found) == (kind is not ENCODER), (task, kind)
            assert all("generation.maxSamples is 0; set it to 1 or more" in sentence for sentence in found)


@pytest.mark.parametrize(
    ("task", "metric", "generation", "kind", "words"),
    [
        ("Chat", "accuracy", {}, None, "task Chat has perplexity"),
        ("TextClassification", "perplexity", {}, None, ""),
        ("TextClassification", "perplexity", {}, ENCODER, "task TextClassification of encoder models has accuracy"),
        ("TextClassification", "accuracy", {"maxSamples": 0}, None, ""),
        ("TextClassification", "accuracy", {"maxSamples": 0}, CAUSAL, "generation.maxSamples is 0"),
        ("Translation", "bleu", {"maxSamples": 0}, None, "generation.maxSamples is 0"),
        ("Translation", "bleu", {"maxSamples": 0}, SEQ2SEQ, "generation.maxSamples is 0"),
        ("Chat", "parse_rate", {}, None, "generation.notation is absent; set it to ABC or SVG"),
    ],
)
def test_the_reason_and_the_way_out_are_told(
    task: str, metric: str, generation: dict[str, Any], kind: ModelKind | None, words: str
) -> None:
    """Where the kind is not known, only what no kind measures is refused."""
    found = unmeasured_gates(job(task, metric, **generation), kind)
    assert bool(found) == bool(words)
    assert all(words in sentence for sentence in found)


def test_rows_of_text_have_no_answers() -> None:
    """Once the layout is detected, the gate is refused."""
    asked = job("TextGeneration", "exact_match")
    assert unmeasured_gates(asked) == []
    assert "rows of format Text have no answer" in unmeasured_gates(asked, CAUSAL, DataFormat.TEXT)[0]


def test_a_job_with_such_a_gate_is_refused_when_it_is_applied() -> None:
    """Operator and command line object before a stage starts, of a preset by its kind."""
    asked = job("Chat", "exact_match", maxSamples=0)
    assert ["generation.maxSamples is 0" in one.message for one in objections(asked)] == [True]
    preset = asked.model_copy(update={"model": asked.model.model_copy(update={"uri": None, "preset": "tiny-phi3"})})
    assert ["generation.maxSamples is 0" in one.message for one in objections(preset)] == [True]
