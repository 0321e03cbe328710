"""What of an evaluation nobody would look at, as a gate that could only fail: told before anything is spent. Pure."""

from tunesmith_api.enums import DataFormat, Metric, ModelKind
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.metrics import METRICS
from tunesmith_api.tasks import TASKS


def unmeasured_gates(
    spec: FineTuneJobSpec, kind: ModelKind | None = None, format_: DataFormat | None = None
) -> list[str]:
    """The gates of a job that name what is not measured, a sentence each.

    Args:
        spec: the job's.
        kind: the base model's kind; where it is not known, a gate passes that any kind of model measures.
        format_: layout of the rows, where it was detected; the job's unless said otherwise.
    """
    layout = spec.dataset.format if format_ is None else format_
    gated = dict.fromkeys(gate.metric for gate in spec.evaluation.gates)
    reasons = ((metric, _why_unmeasured(metric, spec, kind, layout)) for metric in gated)
    return [f"spec.evaluation.gates: {metric} is not measured: {why}" for metric, why in reasons if why]


def evaluation_problems(
    spec: FineTuneJobSpec, kind: ModelKind | None = None, format_: DataFormat | None = None
) -> list[str]:
    """What of a job's evaluation would never be looked at, a sentence each; arguments as of `unmeasured_gates`."""
    found = unmeasured_gates(spec, kind, format_)
    notation = spec.evaluation.generation.notation
    kinds = _measured(spec, kind)
    if notation is not None and kinds and not any(Metric.PARSE_RATE in metrics for metrics in kinds.values()):
        found.append(
            f"spec.evaluation.generation.notation: {notation} is not looked for: {_whose(spec, kind)} writes no"
            " notation; leave it out, or use task TextGeneration"
        )
    return found


def _measured(spec: FineTuneJobSpec, kind: ModelKind | None) -> dict[ModelKind, tuple[Metric, ...]]:
    """The metrics of the job's task by kind of model, as far as the kind may be the base model's."""
    return {known: row.metrics for known, row in TASKS[spec.task].items() if kind in {None, known}}


def _whose(spec: FineTuneJobSpec, kind: ModelKind | None) -> str:
    return f"task {spec.task}" if kind is None else f"task {spec.task} of {kind} models"


def _why_unmeasured(metric: Metric, spec: FineTuneJobSpec, kind: ModelKind | None, layout: DataFormat) -> str:
    kinds = _measured(spec, kind)
    able = [known for known, metrics in kinds.items() if metric in metrics]
    if kinds and not able:
        return (
            f"{_whose(spec, kind)} has {', '.join(dict.fromkeys(one for metrics in kinds.values() for one in metrics))}"
        )
    # An encoder answers every row by its outputs; the others are asked to write, row by row.
    return "" if ModelKind.ENCODER in able or not METRICS[metric].generated else _why_unwritten(metric, spec, layout)


def _why_unwritten(metric: Metric, spec: FineTuneJobSpec, layout: DataFormat) -> str:
    """Why no answers are written that a metric could be measured on; empty when they are."""
    if spec.evaluation.generation.max_samples == 0:
        return "generation.maxSamples is 0; set it to 1 or more, or leave the gate out"
    if metric is Metric.PARSE_RATE:
        return "" if spec.evaluation.generation.notation else "generation.notation is absent; set it to ABC or SVG"
    if layout is DataFormat.TEXT:
        return "rows of format Text have no answer to compare; gate on perplexity or token_accuracy"
    return ""
