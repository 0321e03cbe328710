"""Tokenising examples: token ids, labels on what the model must learn to say, and where its answer begins."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tunesmith_api.enums import Task
from tunesmith_trainer.examples import ASSISTANT, Conversation, PlainText
from tunesmith_trainer.tokenizer import end_of_turn, render

#: Label of a token that is not learnt (the value that torch's cross-entropy ignores).
IGNORED = -100


@dataclass(frozen=True)
class EncodedRow:
    """One tokenised row.

    Attributes:
        input_ids: tokens, at most the sequence length.
        labels: the same tokens where the model must learn to say them, IGNORED elsewhere; same length.
        prompt_tokens: tokens before the last answer; 0 when the row has no prompt.
        reference: the last answer's text, or what the task's metrics compare it with.
        truncated: whether the end was cut off.
    """

    input_ids: list[int]
    labels: list[int]
    prompt_tokens: int
    reference: str
    truncated: bool = False


@dataclass(frozen=True)
class _Span:
    """Characters of a text that the model must learn to say."""

    start: int
    end: int


@dataclass(frozen=True)
class Encoder:
    """Tokenises examples of one task for one model.

    Attributes:
        tokenizer: the model's.
        task: Chat goes through the chat template; TextGeneration joins prompt and completion as they are.
        limit: longest row in tokens.
        stop: the token that ends an answer.
        needs_end: an answer that does not end teaches to go on for ever.
    """

    tokenizer: PreTrainedTokenizerFast
    task: Task
    limit: int
    stop: str
    needs_end: bool = True

    def encode(self, example: Conversation | PlainText) -> tuple[EncodedRow, ...]:
        """The tokens of an example, cut to the limit; none when its prompt leaves no room for an answer."""
        row = self._row(example)
        if len(row.input_ids) <= self.limit:
            return (row,)
        cut = row.labels[: self.limit]
        if row.prompt_tokens >= self.limit or all(label == IGNORED for label in cut):
            return ()
        return (EncodedRow(row.input_ids[: self.limit], cut, row.prompt_tokens, row.reference, truncated=True),)

    def _row(self, example: Conversation | PlainText) -> EncodedRow:
        if isinstance(example, PlainText):
            return self._text(example)
        return self._pair(example) if self.task is Task.TEXT_GENERATION else self._chat(example)

    def _text(self, example: PlainText) -> EncodedRow:
        """Plain text is learnt whole but for its first token, which nothing predicts."""
        ids = [*self.tokenizer(example.text)["input_ids"], self.tokenizer.eos_token_id]
        return EncodedRow(ids, [IGNORED, *ids[1:]], 0, "")

    def _pair(self, example: Conversation) -> EncodedRow:
        prompt, answer = (turn.content for turn in example.turns)
        head = self.tokenizer(prompt)["input_ids"]
        tail = [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        return EncodedRow([*head, *tail], [IGNORED] * len(head) + tail, len(head), answer)

    def _chat(self, example: Conversation) -> EncodedRow:
        """Every answer is learnt, up to the token that ends it; prompts are tokenised as the server will see them."""
        spans, text = self._spans(example)
        last = spans[-1]
        head = self._tokens(text[: last.start])[0]
        ids, starts = self._tokens(text[: last.end])
        if ids[: len(head)] != head:  # a token crosses the boundary: keep the prompt as it will be served
            tail, offsets = self._tokens(text[last.start : last.end])
            ids = head + tail
            starts = self._tokens(text[: last.start])[1] + [last.start + offset for offset in offsets]
        labels = [
            token if any(span.start <= start < span.end for span in spans) else IGNORED
            for token, start in zip(ids, starts, strict=True)
        ]
        return EncodedRow(ids, labels, len(head), example.turns[-1].content)

    def _tokens(self, text: str) -> tuple[list[int], list[int]]:
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(found["input_ids"]), [start for start, _ in found["offset_mapping"]]

    def _spans(self, example: Conversation) -> tuple[list[_Span], str]:
        """Where the answers lie in the conversation's text.

        A template that rewrites earlier turns (as those that drop old reasoning do) has only its last answer learnt.
        """
        turns = example.turns
        text = render(self.tokenizer, turns, answer_next=False, tools=example.tools)
        spans = []
        for place, turn in enumerate(turns):
            opening = (
                render(self.tokenizer, turns[:place], answer_next=True, tools=example.tools)
                if turn.role == ASSISTANT
                else ""
            )
            if not opening or not text.startswith(opening):
                continue
            after_answer = text.find(turn.content.strip(), len(opening)) + len(turn.content.strip())
            stop = text.find(self.stop, after_answer)
            spans.append(_Span(len(opening), stop + len(self.stop) if stop >= 0 else len(text)))
        if spans and spans[-1].end == len(text) and not text.endswith(self.stop):
            text += self.stop
            spans[-1] = _Span(spans[-1].start, len(text))
        if not spans:
            opening = render(self.tokenizer, turns[:-1], answer_next=True, tools=example.tools)
            text = opening + turns[-1].content + self.stop
            spans = [_Span(len(opening), len(text))]
        return spans, text


def make_encoder(tokenizer: PreTrainedTokenizerFast, task: Task, limit: int) -> Encoder:
    """The encoder of a task; the stop token is the chat template's end of turn, or the tokenizer's eos.

    Raises:
        BadConfigError: Chat with a model that has no usable chat template.
    """
    stop = end_of_turn(tokenizer) if task is Task.CHAT else str(tokenizer.eos_token)
    return Encoder(tokenizer, task, limit, stop)
