"""How close the exported model is to the merged torch model: logits, distributions, greedy tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import Parity
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.errors import GateFailedError

Floats = npt.NDArray[np.float32]

#: Sequences that are compared, their longest length, and greedy tokens per sequence.
_ROWS, _TOKENS, _NEW_TOKENS = 8, 128, 32
#: fp32 runs the same arithmetic in another order: 9e-6 measured over five architectures.
LOGIT_BOUND = 1e-4
#: Mean KL divergence in nats beyond which a quantised model is broken, not merely coarse. Measured on a trained model
#: of 4 M weights: int8 0.00005, mixed int4 0.0007, int4 in blocks of 128 0.0045; smaller models quantise worse.
KL_BOUNDS: dict[ExportPrecision, float] = {
    ExportPrecision.QUALITY: 0.05,
    ExportPrecision.BALANCED: 0.25,
    ExportPrecision.FAST: 0.5,
}


class Comparable(Protocol):
    """A model that can be compared."""

    def logits(self, ids: list[int]) -> Floats:
        """Logits of shape (tokens, vocabulary) for one sequence."""
        ...

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
        """The greedy continuation of each prompt."""
        ...


@dataclass(frozen=True)
class Reference:
    """What the torch model says, kept so that it need not stay in memory.

    Attributes:
        sequences: token ids.
        logits: for each, logits of shape (tokens, vocabulary).
        prompts: what is continued.
        answers: greedy continuations, to the stop token or to the limit.
    """

    sequences: list[list[int]]
    logits: list[Floats]
    prompts: list[list[int]]
    answers: list[list[int]]


def take_reference(model: Comparable, rows: Sequence[EncodedRow], context: int) -> Reference:
    """What a model says on the first rows; answers run to the limit, so that tokens after the stop are compared too."""
    sequences = [row.input_ids[:_TOKENS] for row in rows[:_ROWS]]
    new = max(1, min(_NEW_TOKENS, context - _TOKENS))
    prompts = [
        row.input_ids[: min(row.prompt_tokens or len(row.input_ids) // 2, context - new) or 1] for row in rows[:_ROWS]
    ]
    answers = [model.generate([prompt], new, frozenset({_NO_TOKEN}))[0] for prompt in prompts]
    return Reference(sequences, [model.logits(ids) for ids in sequences], prompts, answers)


#: A stop token that no vocabulary has: generation runs to its limit.
_NO_TOKEN = 2**31 - 1


def compare(model: Comparable, reference: Reference) -> Parity:
    """The differences of a model to a reference.

    Raises:
        GateFailedError: its logits are not numbers.
    """
    differences, divergences = [], []
    for ids, wanted in zip(reference.sequences, reference.logits, strict=True):
        found = model.logits(ids)
        differences.append(float(np.abs(found - wanted).max()))
        divergences.append(divergence(wanted, found))
    limit = max(len(answer) for answer in reference.answers)
    answers = model.generate(reference.prompts, limit, frozenset({_NO_TOKEN}))
    same = [
        a == b
        for mine, theirs in zip(answers, reference.answers, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    ]
    return parity_of(differences, sum(same) / len(same), divergences)


def parity_of(differences: Sequence[float], agreement: float, divergences: Sequence[npt.NDArray[np.float64]]) -> Parity:
    """What some comparisons say together; a divergence may be a little below 0 by rounding.

    Raises:
        GateFailedError: one of them is not a number, which Python's own `max` may pass over.
    """
    difference, nats = float(np.max(differences)), float(np.maximum(0.0, np.mean(np.concatenate(divergences))))
    if not np.isfinite([difference, nats]).all():
        raise GateFailedError(
            f"export parity: max_logit_difference is {difference} and kl_divergence is {nats}: not every output of the"
            " exported model is a number; nothing is published"
        )
    return Parity(max_logit_difference=difference, greedy_agreement=agreement, kl_divergence=nats)


def divergence(wanted: Floats, found: Floats) -> npt.NDArray[np.float64]:
    """KL(wanted || found) per position, in nats."""
    p, q = _log_softmax(wanted), _log_softmax(found)
    nats: npt.NDArray[np.float64] = (np.exp(p) * (p - q)).sum(axis=-1)
    return nats


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def require_parity(parity: Parity, precision: ExportPrecision) -> None:
    """Let an exported model pass.

    Raises:
        GateFailedError: export parity: the fp32 logits or the quantised distributions are too far off or not numbers.
    """
    if precision is ExportPrecision.EXACT:
        _require("max_logit_difference", parity.max_logit_difference, LOGIT_BOUND)
    else:
        _require("kl_divergence", parity.kl_divergence or 0.0, KL_BOUNDS[precision])


def _require(name: str, value: float, bound: float) -> None:
    if not value <= bound:
        raise GateFailedError(
            f"export parity: {name} {value:.3g} to the torch model is above {bound:g}; nothing is published"
        )
