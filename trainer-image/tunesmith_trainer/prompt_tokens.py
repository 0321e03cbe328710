"""How many of a conversation's tokens are its prompt's: those that the prompt alone has, as the server will see it."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.tokenizer import ids_of
from tunesmith_trainer.transcripts import Transcript


@dataclass(frozen=True)
class Tokens:
    """A tokenised text, without any token that the tokenizer adds to a text.

    Where tokens lie is asked of the tokenizer's own result: to copy all offsets takes as long as a third of tokenising.

    Attributes:
        ids: the tokens.
        encoding: the tokenizer's result.
    """

    ids: list[int]
    encoding: Encoding

    def span(self, place: int) -> tuple[int, int]:
        """The characters of a token, the end excluded."""
        span = self.encoding.token_to_chars(place)
        assert span is not None
        return span

    def first_from(self, character: int) -> int:
        """The place of the first token that starts at a character or after it; the count of all when there is none.

        Tokens start in the order of the text: normalisers keep the order of what they change, and models only cut.
        """
        place = self.encoding.char_to_token(character)
        if place is None:  # no token has the character: it is a blank that the tokenizer drops, or the text's end
            return bisect_left(self.encoding.offsets, (character, 0))
        while place < len(self.ids) and self.span(place)[0] < character:
            place += 1
        while place and self.span(place - 1)[0] >= character:
            place -= 1
        return place


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Tokens]:
    """The tokens of each of some texts, in one call."""
    if not texts:
        return []
    found = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
    return [Tokens(ids, encoding) for ids, encoding in zip(found["input_ids"], found.encodings, strict=True)]


def prompt_lengths(
    tokenizer: PreTrainedTokenizerFast, transcripts: Sequence[Transcript], whole: Sequence[Tokens]
) -> list[int | None]:
    """How many tokens the prompt of each transcript has; None where a token crosses its end.

    A tokenizer cuts a text at its special tokens before anything else, and tokenises what lies between each by itself:
    up to the last of them, the prompt alone has the tokens that the whole text has. Only what follows it is tokenised
    again, which is the same few characters for every row of most templates.

    Args:
        tokenizer: the model's.
        transcripts: the conversations.
        whole: their tokens.
    """
    cutting = cutting_tokens(tokenizer)
    anchors = [_anchor(one, tokens, cutting) for one, tokens in zip(transcripts, whole, strict=True)]
    ends = [
        one.text[tokens.span(anchor)[0] if anchor else 0 : one.prompt_end]
        for one, tokens, anchor in zip(transcripts, whole, anchors, strict=True)
    ]
    distinct = list(dict.fromkeys(ends))
    known = dict(zip(distinct, ids_of(tokenizer, distinct, add_special_tokens=False), strict=True))
    return [
        anchor + len(known[end]) if tokens.ids[anchor : anchor + len(known[end])] == known[end] else None
        for tokens, anchor, end in zip(whole, anchors, ends, strict=True)
    ]


def cutting_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """The tokens that a text is surely cut at wherever they stand in it, with their texts.

    Not those that are looked for in the normalised text, and not those whose neighbours matter.
    """
    if tokenizer.split_special_tokens:
        return {}
    return {
        token: added.content
        for token, added in tokenizer.added_tokens_decoder.items()
        if not added.normalized and not added.single_word and added.content == added.content.strip() != ""
    }


def _anchor(transcript: Transcript, tokens: Tokens, cutting: Mapping[int, str]) -> int:
    """The place of the last cutting token that ends before the answer; 0 when there is none.

    That the text has it is checked: a tokenizer also gives `<unk>` for what it does not know.
    """
    end = transcript.prompt_end
    for place in range(tokens.first_from(end) - 1, 0, -1):
        content = cutting.get(tokens.ids[place])
        if content is None:
            continue
        start, stop = tokens.span(place)
        if stop <= end and transcript.text[start:stop].strip() == content:
            return place
    return 0
