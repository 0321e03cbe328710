"""Tokenising examples: token ids, labels on what the model must learn to say, and where its answer begins."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import Any

from transformers import PreTrainedTokenizerFast

from tunesmith_api.enums import Task
from tunesmith_trainer.examples import Conversation, PlainText
from tunesmith_trainer.prompt_tokens import Tokens, prompt_lengths, tokenize
from tunesmith_trainer.tokenizer import end_of_turn, ids_of
from tunesmith_trainer.transcripts import AnswerSpan, Transcript, write_transcripts

#: Label of a token that is not learnt (the value that torch's cross-entropy ignores).
IGNORED = -100


@dataclass(frozen=True)
class EncodedRow:
    """One tokenised row.

    Attributes:
        input_ids: tokens, at most the sequence length.
        labels: the same tokens where the model must learn to say them, IGNORED elsewhere; same length.
        prompt_tokens: tokens before the last answer; 0 when the row has no prompt.
        reference: the last answer's text (as the template writes it, when it is more than text), or what the task's
            metrics compare it with.
        truncated: whether the end was cut off.
        unlearnt: how many earlier answers are not learnt, since the template writes them otherwise once others follow.
        continues: whether it goes on where another row's text ends.
    """

    input_ids: list[int]
    labels: list[int]
    prompt_tokens: int
    reference: str
    truncated: bool = False
    unlearnt: int = 0
    continues: bool = False


@dataclass(frozen=True)
class Encoder:
    """Tokenises examples of one task for one model.

    Attributes:
        tokenizer: the model's.
        task: Chat goes through the chat template; TextGeneration joins prompt and completion as they are, and takes the
            template for conversations that are more.
        limit: longest row in tokens.
        stop: the token that ends an answer.
        needs_end: an answer that does not end teaches to go on for ever.
    """

    tokenizer: PreTrainedTokenizerFast
    task: Task
    limit: int
    stop: str
    needs_end: bool = True

    def encode(self, examples: Sequence[Conversation | PlainText]) -> list[tuple[EncodedRow, ...]]:
        """The tokens of each example: plain text in as many rows as it takes, an answer cut to the limit.

        None of an example whose prompt leaves no room for an answer.
        """
        return [
            self._windows(row) if isinstance(example, PlainText) else self._cut(row)
            for example, row in zip(examples, self._rows(examples), strict=True)
        ]

    def _windows(self, row: EncodedRow) -> tuple[EncodedRow, ...]:
        """A text in rows that each begin with the last token of the one before, so that every token is learnt once."""
        return tuple(
            replace(
                row,
                input_ids=row.input_ids[start : start + self.limit],
                labels=[IGNORED, *row.labels[start + 1 : start + self.limit]],
                continues=start > 0,
            )
            for start in range(0, len(row.input_ids) - 1, self.limit - 1)
        )

    def _cut(self, row: EncodedRow) -> tuple[EncodedRow, ...]:
        if len(row.input_ids) <= self.limit:
            return (row,)
        cut = row.labels[: self.limit]
        if row.prompt_tokens >= self.limit or all(label == IGNORED for label in cut):
            return ()
        return (replace(row, input_ids=row.input_ids[: self.limit], labels=cut, truncated=True),)

    def _rows(self, examples: Sequence[Conversation | PlainText]) -> Iterator[EncodedRow]:
        for encode, alike in groupby(examples, self._way):
            yield from encode(list(alike))

    def _way(self, example: Conversation | PlainText) -> Callable[[list[Any]], Iterator[EncodedRow]]:
        """What tokenises an example together with its neighbours of the same kind."""
        if isinstance(example, PlainText):
            return self._texts
        return self._pairs if self.task is Task.TEXT_GENERATION and example.is_pair else self._chats

    def _texts(self, examples: Sequence[PlainText]) -> Iterator[EncodedRow]:
        """Plain text is learnt whole but for its first token, which nothing predicts."""
        for found in ids_of(self.tokenizer, [example.text for example in examples]):
            ids = [*found, self.tokenizer.eos_token_id]
            yield EncodedRow(ids, [IGNORED, *ids[1:]], 0, "")

    def _pairs(self, examples: Sequence[Conversation]) -> Iterator[EncodedRow]:
        answers = [example.turns[1].content for example in examples]
        heads = ids_of(self.tokenizer, [example.turns[0].content for example in examples])
        tails = ids_of(self.tokenizer, answers, add_special_tokens=False)
        for head, found, answer in zip(heads, tails, answers, strict=True):
            tail = [*found, self.tokenizer.eos_token_id]
            yield EncodedRow([*head, *tail], [IGNORED] * len(head) + tail, len(head), answer)

    def _chats(self, examples: Sequence[Conversation]) -> Iterator[EncodedRow]:
        """Every answer is learnt, up to the token that ends it; prompts are tokenised as the server will see them."""
        transcripts = list(write_transcripts(self.tokenizer, self.stop, examples))
        whole = tokenize(self.tokenizer, [transcript.text for transcript in transcripts])
        lengths = prompt_lengths(self.tokenizer, transcripts, whole)
        for example, transcript, tokens, length in zip(examples, transcripts, whole, lengths, strict=True):
            last = example.turns[-1]
            if length is None:
                row = self._apart(transcript, last.content)
            else:
                row = EncodedRow(tokens.ids, label(tokens, transcript.answers), length, last.content)
            reference = self._written(row) if last.tool_calls or last.reasoning else row.reference
            yield replace(row, reference=reference, unlearnt=transcript.unlearnt)

    def _written(self, row: EncodedRow) -> str:
        """The text of a row's last answer, as the evaluation reads what a model generates."""
        ends = {self.tokenizer.convert_tokens_to_ids(self.stop), self.tokenizer.eos_token_id}
        answer = takewhile(lambda token: token not in ends, row.input_ids[row.prompt_tokens :])
        return str(self.tokenizer.decode(list(answer), skip_special_tokens=True))

    def _apart(self, transcript: Transcript, said: str) -> EncodedRow:
        """A row whose prompt and last answer are tokenised apart, so that the prompt is as it will be served."""
        end = transcript.prompt_end
        head, tail = tokenize(self.tokenizer, [transcript.text[:end], transcript.text[end:]])
        last = AnswerSpan(0, len(transcript.text) - end)
        labels = label(head, transcript.answers) + label(tail, [last])
        return EncodedRow(head.ids + tail.ids, labels, len(head.ids), said)


def label(tokens: Tokens, answers: Iterable[AnswerSpan]) -> list[int]:
    """The tokens that start in an answer; IGNORED in the place of the others."""
    labels = [IGNORED] * len(tokens.ids)
    for answer in answers:
        first, last = tokens.first_from(answer.start), tokens.first_from(answer.end)
        labels[first:last] = tokens.ids[first:last]
    return labels


def make_encoder(tokenizer: PreTrainedTokenizerFast, task: Task, limit: int) -> Encoder:
    """The encoder of a task; the stop token is the chat template's end of turn, or the tokenizer's eos.

    Raises:
        BadConfigError: Chat with a model that has no usable chat template.
    """
    chats = task is Task.CHAT or tokenizer.chat_template
    return Encoder(tokenizer, task, limit, end_of_turn(tokenizer) if chats else str(tokenizer.eos_token))
