"""Conversations as the chat template writes them, and where in that text the answers stand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter

from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.examples import ASSISTANT, Conversation, Turn
from tunesmith_trainer.tokenizer import render_all

#: Texts of the template that are held at once, beside those of the conversations themselves.
_AT_ONCE = 32


@dataclass(frozen=True)
class AnswerSpan:
    """Characters of a text that the model must learn to say."""

    start: int
    end: int


@dataclass(frozen=True)
class Transcript:
    """One conversation.

    Attributes:
        text: what the template writes, up to the end of the last answer and the token that ends it.
        answers: where the answers that are learnt lie in it, the last one at its end.
        unlearnt: how many were to be learnt too, but the template writes them otherwise once others follow.
    """

    text: str
    answers: tuple[AnswerSpan, ...]
    unlearnt: int = 0

    @property
    def prompt_end(self) -> int:
        """The character that the last answer starts at."""
        return self.answers[-1].start


def write_transcripts(
    tokenizer: PreTrainedTokenizerFast, stop: str, examples: Sequence[Conversation]
) -> Iterator[Transcript]:
    """The transcripts of some conversations, each with every answer that the template leaves as it was given.

    A template that rewrites earlier turns (as those that drop old reasoning do) has only its last answer learnt.

    Args:
        tokenizer: the model's.
        stop: the token that ends an answer.
        examples: the conversations; an assistant's turn is the last of each.

    Raises:
        BadConfigError: the model has no chat template, or the template refuses the turns.
    """
    texts = _render(tokenizer, ((example.turns, example.tools) for example in examples), answer_next=False)
    beginnings = ((example.turns[:place], example.tools) for example in examples for place, _ in _answers(example))
    openings = _render(tokenizer, beginnings, answer_next=True)
    for example, text in zip(examples, texts, strict=True):
        yield _transcript(text, [(next(openings), said) for _, said in _answers(example)], stop)


def _answers(example: Conversation) -> Iterator[tuple[int, str]]:
    """The places of the assistant's turns that are to be learnt, and what they say."""
    turns = enumerate(example.turns)
    return ((place, turn.content) for place, turn in turns if turn.role == ASSISTANT and turn.learnt)


def _render(
    tokenizer: PreTrainedTokenizerFast, asked: Iterable[tuple[tuple[Turn, ...], str]], *, answer_next: bool
) -> Iterator[str]:
    """The template's text for each of some turns with their tools, many in one call."""
    for tools, group in groupby(asked, key=itemgetter(1)):
        turns = (alike for alike, _ in group)
        while chunk := list(islice(turns, _AT_ONCE)):
            yield from render_all(tokenizer, chunk, answer_next=answer_next, tools=tools)


def _transcript(text: str, answers: Sequence[tuple[str, str]], stop: str) -> Transcript:
    """A transcript from the whole conversation's text and, for each answer, the text before it and what it says."""
    *earlier, (opening, said) = answers
    if not opening or not text.startswith(opening) or _end_of_words(text, opening, said) < 0:
        said = _unsaid(opening, said)
        text = opening + said + stop
    if text.find(stop, _end_of_words(text, opening, said)) < 0:
        text += stop
    limits = [len(later) for later, _ in answers[1:]]
    spans = [
        _span(text[:limit], before, words, stop)
        for (before, words), limit in zip(earlier, limits, strict=True)
        if _is_left_as_given(text, before, words)
    ]
    last = _span(text, opening, said, stop)
    return Transcript(text[: last.end], (*spans, last), len(earlier) - len(spans))


def _end_of_words(text: str, opening: str, said: str) -> int:
    """Where an answer's words end, at their first place after the opening; less than zero when they are not there."""
    words = said.strip()
    start = text.find(words, len(opening))
    return start + len(words) if start >= 0 else -1


def _is_left_as_given(text: str, opening: str, said: str) -> bool:
    """Whether an earlier answer follows its opening; elsewhere its words may be those of a later turn."""
    end = _end_of_words(text, opening, said)
    return bool(opening) and text.startswith(opening) and text[len(opening) : max(end, 0)].strip() == said.strip()


def _unsaid(opening: str, said: str) -> str:
    """An answer without its first line where the opening ends with that line, such as `<think>`."""
    first, _, rest = said.lstrip().partition("\n")
    return rest if first and rest and opening.endswith(f"\n{first}\n") else said


def _span(text: str, opening: str, said: str, stop: str) -> AnswerSpan:
    """An answer with the token that ends it, if the text has that."""
    after_answer = _end_of_words(text, opening, said)
    end = text.find(stop, after_answer)
    return AnswerSpan(len(opening), end + len(stop) if end >= 0 else after_answer)
