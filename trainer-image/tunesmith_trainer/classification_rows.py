"""Tokenising texts to classify: the whole text with the model's special tokens, cut at the limit. Free of torch."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.examples import Labeled


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

    def encode(self, example: Labeled) -> tuple[LabeledRow, ...]:
        """The one row of a text; special tokens stay when the end is cut off."""
        ids = list(self.tokenizer(example.text)["input_ids"])
        classes = [self.labels.index(label) for label in example.labels]
        if len(ids) <= self.limit:
            return (LabeledRow(ids, classes),)
        cut = self.tokenizer(example.text, truncation=True, max_length=self.limit)["input_ids"]
        return (LabeledRow(list(cut), classes, truncated=True),)
