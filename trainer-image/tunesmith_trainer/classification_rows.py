"""Tokenising texts to classify: the whole text with the model's special tokens, cut at the limit. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.examples import Labeled
from tunesmith_trainer.tokenizer import ids_of


@dataclass(frozen=True)
class LabeledRow:
    """One tokenised text.

    Attributes:
        input_ids: tokens, at most the sequence length.
        classes: places of its classes among the labels; exactly one unless a text may have any number.
        truncated: whether the end was cut off.
    """

    input_ids: list[int]
    classes: list[int]
    truncated: bool = False


@dataclass(frozen=True)
class TextEncoder:
    """Tokenises texts with their classes.

    Attributes:
        tokenizer: the model's.
        limit: longest row in tokens.
        labels: names of the classes.
    """

    tokenizer: PreTrainedTokenizerFast
    limit: int
    labels: tuple[str, ...]
    stop: str = ""
    needs_end: bool = False

    def encode(self, examples: Sequence[Labeled]) -> list[tuple[LabeledRow, ...]]:
        """The one row of each text; special tokens stay when the end is cut off."""
        ids = ids_of(self.tokenizer, [example.text for example in examples])
        long = [place for place, whole in enumerate(ids) if len(whole) > self.limit]
        for place, cut in zip(long, self._cut([examples[place].text for place in long]), strict=True):
            ids[place] = cut
        truncated = set(long)
        return [
            (LabeledRow(ids[place], self._classes(example), place in truncated),)
            for place, example in enumerate(examples)
        ]

    def _cut(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        found: list[list[int]] = self.tokenizer(texts, truncation=True, max_length=self.limit)["input_ids"]
        return found

    def _classes(self, example: Labeled) -> list[int]:
        return [self.labels.index(label) for label in example.labels]
