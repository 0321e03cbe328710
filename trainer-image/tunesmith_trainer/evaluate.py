"""Measuring a model on the evaluation rows: one procedure for the torch model and for the exported one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from tunesmith_api.finetunejob import GenerationSpec, Scores
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.errors import DivergedError

#: Tokens, padding included, of one evaluation batch: bounds the memory of its logits.
_BATCH_TOKENS = 2048
#: Rows that are decoded together.
_BATCH_ROWS = 64


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

    def count(self, rows: Sequence[EncodedRow]) -> TokenCounts:
        """The sums over the labelled tokens of one batch."""
        ...

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
        """The greedy continuation of each prompt, ending before a stop token or at the limit."""
        ...


@dataclass(frozen=True)
class Evaluator:
    """The evaluation of one job.

    Attributes:
        rows: evaluation rows.
        tokenizer: turns answers into text.
        generation: how many rows are decoded and how far.
        stop_ids: tokens that end an answer.
        context: longest sequence that the model takes.
    """

    rows: Sequence[EncodedRow]
    tokenizer: PreTrainedTokenizerFast
    generation: GenerationSpec
    stop_ids: frozenset[int]
    context: int

    def score(self, model: LanguageModel) -> Scores:
        """All metrics of a model.

        Raises:
            DivergedError: its loss is not finite.
        """
        counts = self.count(model)
        mean = counts.loss / max(counts.tokens, 1)
        if not math.isfinite(mean) or mean > math.log(1e300):
            raise DivergedError(f"the loss on the evaluation rows is {mean}")
        return Scores(
            perplexity=math.exp(mean),
            token_accuracy=counts.correct / max(counts.tokens, 1),
            exact_match=self.exact_match(model),
        )

    def count(self, model: LanguageModel, limit: int | None = None) -> TokenCounts:
        """Sums over the labelled tokens of the first `limit` rows, or of all."""
        total = TokenCounts()
        for batch in _by_tokens(self.rows[:limit]):
            total += model.count(batch)
        return total

    def exact_match(self, model: LanguageModel) -> float | None:
        """Share of the first rows whose greedy answer is the reference; None when there are no rows with a prompt."""
        rows = [row for row in self.rows[: self.generation.max_samples] if row.prompt_tokens > 0]
        if not rows:
            return None
        ordered = sorted(rows, key=lambda row: row.prompt_tokens)
        batches = [ordered[start : start + _BATCH_ROWS] for start in range(0, len(ordered), _BATCH_ROWS)]
        return sum(self._matches(model, batch) for batch in batches) / len(rows)

    def _matches(self, model: LanguageModel, rows: Sequence[EncodedRow]) -> int:
        prompts = [row.input_ids[: row.prompt_tokens] for row in rows]
        room = self.context - max(len(prompt) for prompt in prompts)
        answers = model.generate(prompts, max(1, min(self.generation.max_new_tokens, room)), self.stop_ids)
        texts = [str(self.tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]
        return sum(text.strip() == row.reference.strip() for text, row in zip(texts, rows, strict=True))


def _by_tokens(rows: Sequence[EncodedRow]) -> Iterator[list[EncodedRow]]:
    batch: list[EncodedRow] = []
    for row in sorted(rows, key=lambda row: len(row.input_ids)):
        if batch and (len(batch) + 1) * len(row.input_ids) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
