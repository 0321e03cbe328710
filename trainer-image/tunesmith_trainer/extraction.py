"""Encoders learn to answer by pointing: one distribution over a window's tokens for the start, one for the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForQuestionAnswering

from tunesmith_api.finetunejob import Scores
from tunesmith_trainer.encoder_model import Floats
from tunesmith_trainer.encoder_recipe import EncoderRecipe, Head, encoder_recipe
from tunesmith_trainer.extraction_rows import WindowRow
from tunesmith_trainer.metrics_text import squad_exact_match, squad_f1
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipe import Measured
from tunesmith_trainer.stages import Run

#: Longest answer in tokens, and starts and ends that are tried: as in the SQuAD scripts of BERT's authors.
_LONGEST, _BEST = 30, 20

_Windows = list[tuple[WindowRow, list[Floats]]]
#: PEFT's model for question answering drops `token_type_ids`, so that an adapter would learn without telling question
#: from passage and be merged into a model that does: a generic PEFT model it is.
_HEAD = Head(AutoModelForQuestionAnswering, "", ("start_logits", "end_logits"), per_token=True)


@dataclass(frozen=True)
class Extraction:
    """Extractive question answering.

    Attributes:
        unanswerable: whether a question may have no answer, as in SQuAD v2; it has none when the first token scores
            above every answer.
    """

    unanswerable: bool
    head: Head = _HEAD

    def options(self) -> dict[str, Any]:
        """The head has two outputs, whatever the task."""
        return {}

    def targets(self, rows: Sequence[WindowRow], _longest: int) -> torch.Tensor:
        """First and last token of the answers, shape (rows, 2)."""
        return torch.tensor([row.answer for row in rows])

    def loss(self, outputs: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of both ends."""
        starts = functional.cross_entropy(outputs[0], labels[:, 0], reduction="sum")
        return starts + functional.cross_entropy(outputs[1], labels[:, 1], reduction="sum")

    def logits(self, outputs: Sequence[Floats]) -> list[Floats]:
        """One distribution over the tokens for each end."""
        return list(outputs)

    def measure(self, rows: Sequence[WindowRow], found: Sequence[list[Floats]]) -> Measured:
        """Exact match and F1 over the questions, as SQuAD's official evaluation has them."""
        questions = list(_by_question(rows, found))
        answers = [self._answer(windows) for windows in questions]
        references = [windows[0][0].references for windows in questions]
        return Measured(Scores(exact_match=squad_exact_match(answers, references), f1=squad_f1(answers, references)))

    def _answer(self, windows: _Windows) -> str:
        """The best answer over all windows; empty when having none scores higher (Devlin et al. 2019, section 4.3)."""
        nothing = min(float(outputs[0][0] + outputs[1][0]) for _, outputs in windows)
        score, start, end = max(best_answer(row, *outputs) for row, outputs in windows)
        if score == -np.inf or (self.unanswerable and nothing > score):
            return ""
        return windows[0][0].context[start:end]


def best_answer(row: WindowRow, starts: Floats, ends: Floats) -> tuple[float, int, int]:
    """Score and characters of a window's best answer; minus infinity when no two of the best ends go together."""
    inside = np.asarray(row.starts) >= 0
    first = _best(np.where(inside, starts, -np.inf))
    last = _best(np.where(inside, ends, -np.inf))
    spans = [
        (float(starts[begin] + ends[end]), row.starts[begin], row.ends[end])
        for begin in first
        for end in last
        if inside[begin] and inside[end] and begin <= end < begin + _LONGEST
    ]
    return max(spans, default=(-np.inf, 0, 0))


def _best(scores: Floats) -> list[int]:
    best: list[int] = np.argsort(scores)[::-1][:_BEST].tolist()
    return best


def _by_question(rows: Sequence[WindowRow], found: Sequence[list[Floats]]) -> Iterator[_Windows]:
    windows: _Windows = []
    for row, outputs in zip(rows, found, strict=True):
        if row.opens and windows:
            yield windows
            windows = []
        windows.append((row, outputs))
    if windows:
        yield windows


def make_recipe(run: Run, prepared: Prepared) -> EncoderRecipe:
    """The recipe of a job on its prepared rows."""
    recipe = encoder_recipe(run, prepared, WindowRow, Extraction(unanswerable=False))
    unanswerable = any(row.opens and not row.references for row in recipe.evaluation)
    return replace(recipe, task=Extraction(unanswerable))
