"""The exported model on plain ONNX Runtime, as the evaluation and the comparison see it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.encode import IGNORED, EncodedRow
from tunesmith_trainer.evaluate import TokenCounts
from tunesmith_trainer.onnx_session import open_session
from tunesmith_trainer.workspace import read_json

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Cache = dict[str, Floats]


class OnnxModel:
    """A decoder that the model builder made: `input_ids`, `attention_mask`, past and present keys and values.

    Rows of a batch are padded on the right; grouped-query attention takes each row's length from its attention mask.

    Raises:
        RuntimeError: ONNX Runtime fell back to another execution provider.
    """

    def __init__(self, folder: Path) -> None:
        self._session = open_session(folder / "model.onnx")
        decoder = (read_json(folder / "genai_config.json") or {})["model"]["decoder"]
        self._heads, self._width = int(decoder["num_key_value_heads"]), int(decoder["head_size"])
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]

    def logits(self, ids: list[int]) -> Floats:
        """Logits of shape (tokens, vocabulary) for one sequence."""
        batch = np.asarray([ids], dtype=np.int64)
        logits: Floats = self._run(batch, np.ones_like(batch), self._empty(1), 0)[0][0]
        return logits

    def count(self, rows: Sequence[EncodedRow]) -> TokenCounts:
        """The sums over the labelled tokens of one batch."""
        ids, lengths = _pad([row.input_ids for row in rows])
        labels, _ = _pad([row.labels for row in rows], IGNORED)
        logits, _cache = self._run(ids, _mask(lengths, ids.shape[1]), self._empty(len(rows)), 0)
        targets = labels[:, 1:]
        wanted = targets != IGNORED
        scores, tokens = logits[:, :-1][wanted], targets[wanted]
        losses = log_sum_exp(scores) - scores[np.arange(len(tokens)), tokens]
        return TokenCounts(float(losses.sum()), int((scores.argmax(-1) == tokens).sum()), len(tokens))

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
        """The greedy continuation of each prompt, ending before a stop token or at the limit."""
        ids, lengths = _pad(list(prompts))
        logits, cache = self._run(ids, _mask(lengths, ids.shape[1]), self._empty(len(prompts)), 0)
        following = logits[np.arange(len(prompts)), lengths - 1].argmax(-1)
        answers: list[list[int]] = [[] for _ in prompts]
        active = np.ones(len(prompts), dtype=bool)
        for _ in range(max_new_tokens):
            active &= ~np.isin(following, list(stop_ids))
            for row in np.flatnonzero(active):
                answers[row].append(int(following[row]))
            if not active.any() or len(answers[int(np.flatnonzero(active)[0])]) == max_new_tokens:
                break
            lengths = lengths + 1
            logits, cache = self._run(
                following[:, None].astype(np.int64), _mask(lengths, int(lengths.max())), cache, int(lengths.max()) - 1
            )
            following = logits[:, -1].argmax(-1)
        return answers

    def _empty(self, rows: int) -> Cache:
        shape = (rows, self._heads, 0, self._width)
        return {name: np.zeros(shape, np.float32) for name in self._inputs if name.startswith("past_key_values")}

    def _run(self, ids: Integers, mask: Integers, cache: Cache, start: int) -> tuple[Floats, Cache]:
        feeds: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, **cache}
        if "position_ids" in self._inputs:
            feeds["position_ids"] = np.broadcast_to(np.arange(start, start + ids.shape[1]), ids.shape)
        values = dict(zip(self._outputs, self._session.run(None, feeds), strict=True))
        past = {name.replace("present", "past_key_values"): value for name, value in values.items() if name != "logits"}
        return values["logits"], past


#: Rows of logits that are in double precision at the same time.
_ROWS_AT_ONCE = 64


def log_sum_exp(scores: Floats) -> npt.NDArray[np.float64]:
    """log(sum(exp(scores))) over the last axis, in double precision, without overflow.

    A few rows at a time: the logits of a whole batch in double precision would be most of the evaluation's memory.
    """
    flat = scores.reshape(-1, scores.shape[-1])
    top = flat.max(axis=-1).astype(np.float64)
    total = np.empty_like(top)
    for start in range(0, len(flat), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        total[rows] = np.log(np.exp(flat[rows] - top[rows, None]).sum(axis=-1)) + top[rows]
    shaped: npt.NDArray[np.float64] = total.reshape(scores.shape[:-1])
    return shaped


def _pad(rows: Sequence[Sequence[int]], fill: int = 0) -> tuple[Integers, Integers]:
    lengths = np.asarray([len(row) for row in rows], dtype=np.int64)
    padded = np.full((len(rows), int(lengths.max())), fill, dtype=np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded, lengths


def _mask(lengths: Integers, width: int) -> Integers:
    return (np.arange(width) < lengths[:, None]).astype(np.int64)
