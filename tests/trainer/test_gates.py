"""Gates: every bound, both directions."""

import pytest

from tunesmith_api.finetunejob import Gate, Scores
from tunesmith_trainer.errors import GateFailedError
from tunesmith_trainer.gates import check_gates, require_gates

BASE = Scores(perplexity=10, token_accuracy=0.5, exact_match=0.2)
SCORES = Scores(perplexity=11, token_accuracy=0.6, exact_match=0.1)
CASES = [
    ({"metric": "token_accuracy", "min": 0.6}, True, "token_accuracy 0.6 meets >= min 0.6"),
    ({"metric": "token_accuracy", "min": 0.7}, False, "token_accuracy 0.6 misses >= min 0.7"),
    ({"metric": "perplexity", "max": 11}, True, "perplexity 11 meets <= max 11"),
    ({"metric": "perplexity", "max": 5}, False, "perplexity 11 misses <= max 5"),
    ({"metric": "exact_match", "maxRegression": 0.05}, False, "exact_match 0.1 misses >= base - maxRegression 0.15"),
    ({"metric": "exact_match", "maxRegression": 0.2}, True, "exact_match 0.1 meets >= base - maxRegression 0"),
    ({"metric": "perplexity", "maxRegression": 0.5}, False, "perplexity 11 misses <= base + maxRegression 10.5"),
    ({"metric": "perplexity", "maxRegression": 2}, True, "perplexity 11 meets <= base + maxRegression 12"),
    ({"metric": "token_accuracy", "min": 0.1, "max": 0.2}, False, "token_accuracy 0.6 misses <= max 0.2"),
]


@pytest.mark.parametrize(("gate", "passed", "message"), CASES)
def test_a_gate_names_model_metric_value_and_bound(gate, passed, message):
    """Minimum, maximum and regression, for metrics that should rise and for those that should fall."""
    result = check_gates([Gate.model_validate(gate)], SCORES, BASE, "tuned")[0]
    assert (result.passed, result.message) == (passed, f"tuned {message}")


def test_a_metric_that_was_not_measured_fails_its_gate():
    """Nothing passes by not being measured."""
    assert not check_gates([Gate(metric="exact_match", min=0)], Scores(perplexity=1), BASE, "tuned")[0].passed


def test_missed_gates_end_the_stage_by_name():
    """All missed gates are told, those that passed are not."""
    results = check_gates([Gate.model_validate(gate) for gate, _, _ in CASES[:2]], SCORES, BASE, "tuned")
    with pytest.raises(GateFailedError, match=r"^tuned token_accuracy 0.6 misses >= min 0.7$"):
        require_gates(results)
