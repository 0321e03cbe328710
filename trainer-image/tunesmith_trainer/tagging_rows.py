"""Tokenising texts whose words have tags: the first piece of a word carries its tag. Free of torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.examples import TokenLabeled

#: Place of a word that no token of the row begins.
UNSEEN = -1
#: The tag of a word that names nothing.
OUTSIDE = "O"


@dataclass(frozen=True)
class TaggedRow:
    """One tokenised text.

    Attributes:
        input_ids: tokens, at most the sequence length.
        places: for each word, the place of its first token; UNSEEN when it was cut off.
        tags: for each word, the place of its tag among the labels.
        truncated: whether the end was cut off.
    """

    input_ids: list[int]
    places: list[int]
    tags: list[int]
    truncated: bool = False


@dataclass(frozen=True)
class WordEncoder:
    """Tokenises texts with their words' tags.

    Attributes:
        tokenizer: the model's.
        limit: longest row in tokens.
        labels: the tags.
    """

    tokenizer: PreTrainedTokenizerFast
    limit: int
    labels: tuple[str, ...]
    stop: str = ""
    needs_end: bool = False

    def encode(self, examples: Sequence[TokenLabeled]) -> list[tuple[TaggedRow, ...]]:
        """The one row of each text; none of one that has no words."""
        texts = [example.text for example in examples if example.words]
        found = iter(self._tokens(texts))
        return [(self._row(example, *next(found)),) if example.words else () for example in examples]

    def _tokens(self, texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """Tokens of each text, and the characters of each."""
        if texts:
            found = self.tokenizer(texts, truncation=True, max_length=self.limit, return_offsets_mapping=True)
            yield from zip(found["input_ids"], found["offset_mapping"], strict=True)

    def _row(self, example: TokenLabeled, ids: list[int], offsets: list[tuple[int, int]]) -> TaggedRow:
        places = list(first_tokens(example.words, offsets))
        tags = [self.labels.index(tag) for tag in example.tags]
        cut = len(ids) == self.limit and _reach(offsets) < example.words[-1][1]
        return TaggedRow(ids, places, tags, truncated=cut)


def tags_of(kinds: Sequence[str]) -> tuple[str, ...]:
    """The tags of some kinds of entities, in the order of the head's outputs: O, then B- and I- of each kind."""
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))


def first_tokens(words: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> Iterator[int]:
    """The place of the first token of each word, a token counting for one word only; UNSEEN where there is none.

    Args:
        words: start and end of each word in the text, in order.
        offsets: start and end of each token; special tokens are empty.
    """
    place = 0
    for start, end in words:
        while place < len(offsets) and not offsets[place][1] > max(start, offsets[place][0]):
            place += 1
        begins = place < len(offsets) and offsets[place][0] < end
        yield place if begins else UNSEEN
        place += begins


def _reach(offsets: Sequence[tuple[int, int]]) -> int:
    """The character that the tokens reach."""
    return max((end for _, end in offsets), default=0)
