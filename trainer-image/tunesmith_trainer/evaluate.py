"""Measuring a model on the evaluation rows: one procedure for the torch model and for the exported one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from transformers import PreTrainedTokenizerFast

from tunesmith_api.enums import Notation
from tunesmith_api.finetunejob import GenerationSpec, Scores
from tunesmith_api.planner import EVALUATION_TOKENS
from tunesmith_trainer.batches import decoding_batches
from tunesmith_trainer.encoded import lengths_of
from tunesmith_trainer.errors import DivergedError
from tunesmith_trainer.notations import opening, parse_rate
from tunesmith_trainer.recipe import Measured
from tunesmith_trainer.scoring import Judge, free_text


@dataclass(frozen=True)
class TokenCounts:
    """Sums over labelled tokens: negative log-likelihood in nats, tokens ranked first, tokens."""

    loss: float = 0.0
    correct: int = 0
    tokens: int = 0

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(self.loss + other.loss, self.correct + other.correct, self.tokens + other.tokens)


class LanguageModel(Protocol):
    """What is measured."""

    def count(self, rows: Sequence[Any]) -> TokenCounts:
        """The sums over the labelled tokens of one batch."""
        ...

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
        """The greedy continuation of each prompt, ending before a stop token or at the limit."""
        ...


@dataclass(frozen=True)
class Evaluator:
    """The evaluation of one job.

    Attributes:
        rows: evaluation rows, with `input_ids`, `prompt_tokens` and `reference`.
        tokenizer: turns answers into text.
        generation: how many rows are decoded and how far.
        stop_ids: tokens that end an answer.
        context: longest sequence that the model takes.
        judge: measures the answers of rows that have a prompt.
    """

    rows: Sequence[Any]
    tokenizer: PreTrainedTokenizerFast
    generation: GenerationSpec
    stop_ids: frozenset[int]
    context: int
    judge: Judge = free_text

    def score(self, model: LanguageModel) -> Measured:
        """All metrics of a model: of likelihood on all rows, of its answers on the first ones.

        Raises:
            DivergedError: its loss is not finite.
        """
        counts = self.count(model)
        mean = counts.loss / max(counts.tokens, 1)
        if not math.isfinite(mean) or mean > math.log(1e300):
            raise DivergedError(f"the loss on the evaluation rows is {mean}")
        likelihood = {"perplexity": math.exp(mean), "token_accuracy": counts.correct / max(counts.tokens, 1)}
        return _with_scores(self.generated(model), likelihood)

    def count(self, model: LanguageModel, limit: int | None = None) -> TokenCounts:
        """Sums over the labelled tokens of the first `limit` rows, or of all."""
        total = TokenCounts()
        for batch in _by_tokens(self.rows[:limit]):
            total += model.count(batch)
        return total

    def generated(self, model: LanguageModel) -> Measured:
        """What greedy answers to the first rows give; nothing for rows without a prompt, notations aside."""
        rows = self.rows[: self.generation.max_samples]
        prompted = [row for row in rows if row.prompt_tokens > 0]
        notation = self.generation.notation
        if prompted:
            answers = self.answers(model, [row.input_ids[: row.prompt_tokens] for row in prompted])
            judged = self.judge(answers, [row.reference for row in prompted])
            return judged if notation is None else _with_scores(judged, {"parse_rate": parse_rate(notation, answers)})
        if notation is None or not rows:
            return Measured(Scores())
        begun = list(islice((row for row in self.rows if not row.continues), self.generation.max_samples))
        return Measured(Scores(parse_rate=parse_rate(notation, self.pieces(model, begun, notation))))

    def pieces(self, model: LanguageModel, rows: Sequence[Any], notation: Notation) -> list[str]:
        """The openings of held-out pieces, each with the greedy continuation."""
        texts = [str(self.tokenizer.decode(row.input_ids, skip_special_tokens=True)) for row in rows]
        openings = [opening(notation, text) for text in texts]
        continuations = self.answers(model, [self.tokenizer(text)["input_ids"] for text in openings])
        return [text + rest for text, rest in zip(openings, continuations, strict=True)]

    def answers(self, model: LanguageModel, prompts: Sequence[list[int]]) -> list[str]:
        """The greedy answer to each prompt; prompts of like length are decoded together."""
        texts: dict[int, str] = {}
        for batch in decoding_batches([len(prompt) for prompt in prompts], self.generation.max_new_tokens):
            texts |= zip(batch, self._decode(model, [prompts[place] for place in batch]), strict=True)
        return [texts[place] for place in range(len(prompts))]

    def _decode(self, model: LanguageModel, prompts: Sequence[list[int]]) -> list[str]:
        room = self.context - max(len(prompt) for prompt in prompts)
        answers = model.generate(prompts, max(1, min(self.generation.max_new_tokens, room)), self.stop_ids)
        return [str(self.tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]


def _with_scores(measured: Measured, more: dict[str, float]) -> Measured:
    return replace(measured, scores=measured.scores.model_copy(update=more))


def _by_tokens(rows: Sequence[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    lengths = lengths_of(rows)
    for place in sorted(range(len(rows)), key=lengths.__getitem__):
        row = rows[place]
        if batch and (len(batch) + 1) * len(row.input_ids) > EVALUATION_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
