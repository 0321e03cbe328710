"""The table of metrics."""

import pytest

from tunesmith_api.enums import Metric
from tunesmith_api.finetunejob import Scores
from tunesmith_api.metrics import METRICS, measured, score_of


def test_every_metric_has_its_row_and_its_field() -> None:
    """Enum, table and Scores list the same metrics, so that none can be gated on but not shown."""
    assert set(METRICS) == set(Metric)
    assert {metric.value for metric in Metric} == set(Scores.model_fields)


def test_labels_tell_metrics_apart() -> None:
    """No two metrics have the same name in a table."""
    assert len({traits.label for traits in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [(Metric.EXACT_MATCH, 0.905, "90.5%"), (Metric.BLEU, 41.25, "41.2"), (Metric.PERPLEXITY, 1234.5, "1,234.500")],
)
def test_values_read_in_their_own_unit(metric: Metric, value: float, text: str) -> None:
    """Shares are percentages, BLEU is out of 100, perplexity is a plain number."""
    assert METRICS[metric].pattern.format(value) == text


def test_measured_metrics_keep_the_order_of_the_table() -> None:
    """A metric counts when any of the models has it; a value of 0 was measured."""
    tuned = Scores(perplexity=2, bleu=0.0)
    assert measured(Scores(perplexity=3), tuned, None) == [Metric.BLEU, Metric.PERPLEXITY]
    assert score_of(tuned, Metric.CHRF) is None
