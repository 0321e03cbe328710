"""Tokenising questions about passages: windows over a long passage that overlap, and where the answer stands.

Free of torch. As the authors of BERT do for SQuAD (Devlin et al. 2019, section 4.2): a window without the answer points
at its first token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.examples import Answer, Question
from tunesmith_trainer.tokenizer import ids_of

#: Tokens that neighbouring windows share, at most: longer than almost every answer.
STRIDE = 128
#: The least room for the passage beside the question, in tokens.
_ROOM = 8


@dataclass(frozen=True)
class WindowRow:
    """One window over a passage, with its question.

    Attributes:
        input_ids: tokens of the question, then of the window, at most the sequence length.
        segments: 0 for the question's tokens, 1 for the window's.
        answer: first and last token of the answer; 0 and 0 when the window does not hold it.
        starts: for each token the character of the passage that it starts at; -1 outside of the passage.
        ends: the character after each token; -1 outside of the passage.
        opens: whether it is the first window of its question; the others follow it.
        context: the passage, with the first window only.
        references: texts of the answers, with the first window only.
        truncated: never; a long passage has several windows.
    """

    input_ids: list[int]
    segments: list[int]
    answer: list[int]
    starts: list[int]
    ends: list[int]
    opens: bool
    context: str
    references: list[str]
    truncated: bool = False


@dataclass(frozen=True)
class QuestionEncoder:
    """Tokenises questions.

    Attributes:
        tokenizer: the model's.
        limit: longest row in tokens.
    """

    tokenizer: PreTrainedTokenizerFast
    limit: int
    stop: str = ""
    needs_end: bool = False

    def encode(self, examples: Sequence[Question]) -> list[tuple[WindowRow, ...]]:
        """The windows of each question; none of one that leaves no room for the passage."""
        questions = ids_of(self.tokenizer, [example.question for example in examples])
        rooms = [self.limit - len(question) for question in questions]
        rows: list[tuple[WindowRow, ...]] = [()] * len(examples)
        fitting = [place for place, room in enumerate(rooms) if room >= _ROOM]
        for stride in dict.fromkeys(_stride(rooms[place]) for place in fitting):
            places = [place for place in fitting if _stride(rooms[place]) == stride]
            windows = self._windows([examples[place] for place in places], stride)
            for place, group in zip(places, windows, strict=True):
                rows[place] = group
        return rows

    def _windows(self, examples: list[Question], stride: int) -> Iterator[tuple[WindowRow, ...]]:
        """The windows of each question, of which neighbours share so many tokens."""
        found = self.tokenizer(
            [example.question for example in examples],
            [example.context for example in examples],
            truncation="only_second",
            max_length=self.limit,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        for number, places in groupby(range(len(found["input_ids"])), found["overflow_to_sample_mapping"].__getitem__):
            first, *others = places
            example = examples[number]
            opening = self._window(found, first, example, opens=True)
            yield (opening, *(self._window(found, place, example, opens=False) for place in others))

    def _window(self, found: Any, place: int, example: Question, *, opens: bool) -> WindowRow:
        spans = [
            span if sequence == 1 else (-1, -1)
            for span, sequence in zip(found["offset_mapping"][place], found.sequence_ids(place), strict=True)
        ]
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        return WindowRow(
            input_ids=found["input_ids"][place],
            segments=found["token_type_ids"][place],
            answer=locate(example.answers, starts, ends),
            starts=starts,
            ends=ends,
            opens=opens,
            context=example.context if opens else "",
            references=[answer.text for answer in example.answers] if opens else [],
        )


def _stride(room: int) -> int:
    return min(STRIDE, room // 2)


def locate(answers: Sequence[Answer], starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """First and last token of the first answer that a window holds whole; 0 and 0 when there is none."""
    places = [place for place, start in enumerate(starts) if start >= 0]
    for answer in answers:
        begin, end = answer.start, answer.start + len(answer.text)
        covering = [place for place in places if ends[place] > begin and starts[place] < end]
        if covering and starts[covering[0]] <= begin and ends[covering[-1]] >= end:
            return [covering[0], covering[-1]]
    return [0, 0]
