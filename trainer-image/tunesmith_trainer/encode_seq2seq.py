"""Tokenising for encoder-decoder models: the source that is read, and the target that is written."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.examples import Example
from tunesmith_trainer.instructions import Instruction, ask
from tunesmith_trainer.tokenizer import ids_of


@dataclass(frozen=True)
class Seq2SeqRow:
    """One tokenised row.

    Attributes:
        input_ids: tokens of the source, the last one ends it; at most the sequence length.
        labels: tokens of the target, the last one ends it; at most the sequence length.
        reference: what the task's metrics compare an answer with.
        truncated: whether the end of either was cut off.
    """

    input_ids: list[int]
    labels: list[int]
    reference: str
    truncated: bool = False

    @property
    def prompt_tokens(self) -> int:
        """The whole source is the prompt."""
        return len(self.input_ids)


@dataclass(frozen=True)
class Seq2SeqEncoder:
    """Tokenises the examples of one task for one model.

    Attributes:
        tokenizer: the model's for sources.
        target_tokenizer: the one for targets, most often the same.
        instruction: what the model is asked.
        limit: longest source and longest target in tokens.
        needs_end: a cut target still ends, so that a row is learnt from.
    """

    tokenizer: PreTrainedTokenizerFast
    target_tokenizer: PreTrainedTokenizerFast
    instruction: Instruction
    limit: int
    needs_end: bool = False

    @property
    def stop(self) -> str:
        """The token that ends an answer."""
        return str(self.tokenizer.eos_token)

    def encode(self, examples: Sequence[Example]) -> list[tuple[Seq2SeqRow, ...]]:
        """The row of each example, each side cut to the limit; both sides keep the token that ends them."""
        asked = [ask(self.instruction, example) for example in examples]
        sources = _ended(self.tokenizer, [one.prompt for one in asked])
        targets = _ended(self.target_tokenizer, [one.answer for one in asked])
        return [
            (self._row(source, target, one.reference),)
            for one, source, target in zip(asked, sources, targets, strict=True)
        ]

    def _row(self, source: list[int], target: list[int], reference: str) -> Seq2SeqRow:
        cut = max(len(source), len(target)) > self.limit
        return Seq2SeqRow(self._cut(source), self._cut(target), reference, truncated=cut)

    def _cut(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= self.limit else [*ids[: self.limit - 1], ids[-1]]


def _ended(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    end = tokenizer.eos_token_id
    return [ids if ids[-1:] == [end] else [*ids, end] for ids in ids_of(tokenizer, texts)]
