"""Encoder-decoder models as the evaluation sees them: one greedy loop for the torch and for the exported model."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.encode_seq2seq import Seq2SeqRow
from tunesmith_trainer.evaluate import TokenCounts
from tunesmith_trainer.onnx_model import log_sum_exp

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
IGNORED = -100


class Seq2SeqSteps(Protocol):
    """One model, as arrays.

    Attributes:
        start: the token that begins every target.
        longest: most tokens of a target.
        never: tokens that no target has, such as the padding whose logit Marian's models leave at 0.
    """

    start: int
    longest: int
    never: list[int]

    def encode(self, ids: Integers, mask: Integers) -> Any:
        """The encoder's states of shape (rows, tokens, width), in the model's own kind of array."""
        ...

    def decode(self, ids: Integers, states: Any, mask: Integers, past: Any) -> tuple[Floats, Any]:
        """Logits of shape (rows, tokens, vocabulary) of the next target tokens, and the cache behind them."""
        ...


def pad(rows: Sequence[Sequence[int]], fill: int = 0) -> tuple[Integers, Integers]:
    """Rows of one length, and the mask of what was there; both of shape (rows, longest row)."""
    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest), fill, dtype=np.int64)
    mask = np.zeros_like(padded)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return padded, mask


def shift(labels: Integers, start: int) -> Integers:
    """What the decoder reads to predict the labels: the start token, then the labels but the last."""
    read = np.full_like(labels, start)
    read[:, 1:] = np.where(labels[:, :-1] == IGNORED, 0, labels[:, :-1])
    return read


class Seq2SeqView:
    """A model as the evaluation sees it."""

    def __init__(self, steps: Seq2SeqSteps) -> None:
        self._steps = steps

    def count(self, rows: Sequence[Seq2SeqRow]) -> TokenCounts:
        """The sums over the target tokens of one batch."""
        labels, _ = pad([row.labels for row in rows], IGNORED)
        logits = self._logits(rows, labels)
        wanted = labels != IGNORED
        scores, tokens = logits[wanted], labels[wanted]
        losses = log_sum_exp(scores) - scores[np.arange(len(tokens)), tokens]
        return TokenCounts(float(losses.sum()), int((scores.argmax(-1) == tokens).sum()), len(tokens))

    def logits(self, row: Seq2SeqRow) -> Floats:
        """Logits of shape (target tokens, vocabulary)."""
        found: Floats = self._logits([row], np.asarray([row.labels], dtype=np.int64))[0]
        return found

    def states(self, row: Seq2SeqRow) -> Floats:
        """The encoder's states of shape (source tokens, width)."""
        ids, mask = pad([row.input_ids])
        return np.asarray(self._steps.encode(ids, mask)[0], dtype=np.float32)

    def _logits(self, rows: Sequence[Seq2SeqRow], labels: Integers) -> Floats:
        ids, mask = pad([row.input_ids for row in rows])
        return self._steps.decode(shift(labels, self._steps.start), self._steps.encode(ids, mask), mask, None)[0]

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
        """The greedy target of each source, ending before a stop token or at the limit."""
        ids, mask = pad(prompts)
        states, past = self._steps.encode(ids, mask), None
        following = np.full(len(prompts), self._steps.start)
        answers: list[list[int]] = [[] for _ in prompts]
        active = np.ones(len(prompts), dtype=bool)
        for _ in range(min(max_new_tokens, self._steps.longest)):
            logits, past = self._steps.decode(following[:, None].astype(np.int64), states, mask, past)
            scores = logits[:, -1].copy()
            scores[:, self._steps.never] = -np.inf
            following = scores.argmax(-1)
            active &= ~np.isin(following, list(stop_ids))
            if not active.any():
                break
            for row in np.flatnonzero(active):
                answers[row].append(int(following[row]))
        return answers
