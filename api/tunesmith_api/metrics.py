"""The table of metrics: how people call each, how its value reads, and which way is better."""

from dataclasses import dataclass

from tunesmith_api.enums import Metric
from tunesmith_api.finetunejob import Scores

_SHARE = "{:.1%}"


@dataclass(frozen=True)
class MetricTraits:
    """What a metric's name does not tell.

    Attributes:
        label: what people call it.
        pattern: format of a value that people read.
        best: the best value there is, the end of a plot's axis; None when the metric has no upper end.
        lower_is_better: whether a lower value is the better one.
        generated: whether it is measured on greedy answers, of which `generation.maxSamples` 0 makes none.
    """

    label: str
    pattern: str = _SHARE
    best: float | None = 1
    lower_is_better: bool = False
    generated: bool = True


#: Each metric, in the order in which tables and plots show them: what matters most to a user of the task comes first.
METRICS: dict[Metric, MetricTraits] = {
    Metric.EXACT_MATCH: MetricTraits("exact match"),
    Metric.F1: MetricTraits("answer F1"),
    Metric.ACCURACY: MetricTraits("accuracy"),
    Metric.MACRO_F1: MetricTraits("macro F1"),
    Metric.ENTITY_F1: MetricTraits("entity F1"),
    Metric.ENTITY_PRECISION: MetricTraits("entity precision"),
    Metric.ENTITY_RECALL: MetricTraits("entity recall"),
    Metric.BLEU: MetricTraits("BLEU", "{:.1f}", best=100),
    Metric.CHRF: MetricTraits("chrF", "{:.1f}", best=100),
    Metric.PARSE_RATE: MetricTraits("parse rate"),
    Metric.ROUGE_L: MetricTraits("ROUGE-L"),
    Metric.TOKEN_ACCURACY: MetricTraits("token accuracy", generated=False),
    Metric.PERPLEXITY: MetricTraits("perplexity", "{:,.3f}", best=None, lower_is_better=True, generated=False),
}


def score_of(scores: Scores, metric: Metric) -> float | None:
    """The value of a metric, or None when it was not measured."""
    value: float | None = getattr(scores, metric.value)
    return value


def measured(*models: Scores | None) -> list[Metric]:
    """The metrics that any of some models has, in the order of the table."""
    return [metric for metric in METRICS if any(score_of(one, metric) is not None for one in models if one is not None)]
