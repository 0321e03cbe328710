"""Gates: conditions on metrics that a model must meet before anything serves it. Pure functions."""

from collections.abc import Callable, Sequence

from tunesmith_api.finetunejob import Gate, GateResult, Scores
from tunesmith_api.metrics import METRICS, score_of
from tunesmith_trainer.errors import GateFailedError


def _bounds(gate: Gate, base: Scores) -> list[tuple[str, float, Callable[[float, float], bool]]]:
    bounds: list[tuple[str, float, Callable[[float, float], bool]]] = []
    if gate.min is not None:
        bounds.append((">= min", gate.min, lambda value, bound: value >= bound))
    if gate.max is not None:
        bounds.append(("<= max", gate.max, lambda value, bound: value <= bound))
    before = score_of(base, gate.metric)
    if gate.max_regression is not None and before is not None:
        if METRICS[gate.metric].lower_is_better:
            bounds.append(
                ("<= base + maxRegression", before + gate.max_regression, lambda value, bound: value <= bound)
            )
        else:
            bounds.append(
                (">= base - maxRegression", before - gate.max_regression, lambda value, bound: value >= bound)
            )
    return bounds


def check_gates(gates: Sequence[Gate], scores: Scores, base: Scores, whose: str) -> list[GateResult]:
    """How each gate comes out on the scores of a model; the message names model, metric, value and bound.

    A metric that was not measured fails its gate: prepare refuses such jobs, so this is a guard.
    """
    return [_check(gate, scores, base, whose) for gate in gates]


def _check(gate: Gate, scores: Scores, base: Scores, whose: str) -> GateResult:
    value = score_of(scores, gate.metric)
    if value is None:
        return GateResult(metric=gate.metric, value=0, passed=False, message=f"{whose} {gate.metric} was not measured")
    bounds = _bounds(gate, base)
    missed = [(words, bound) for words, bound, holds in bounds if not holds(value, bound)]
    listed = [f"{words} {bound:.4g}" for words, bound in missed or [(words, bound) for words, bound, _ in bounds]]
    verdict = "misses" if missed else "meets"
    message = f"{whose} {gate.metric} {value:.4g} {verdict} {', '.join(listed)}"
    return GateResult(metric=gate.metric, value=value, passed=not missed, message=message)


def require_gates(results: Sequence[GateResult]) -> None:
    """Let a model pass.

    Raises:
        GateFailedError: a gate was missed.
    """
    missed = [result.message for result in results if not result.passed]
    if missed:
        raise GateFailedError("; ".join(missed))
