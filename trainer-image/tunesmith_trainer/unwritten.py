"""Rows that are more than a prompt and its completion, held against the chat template that is to write them.

A template writes what it knows and leaves the rest out without a word, so that a model would learn silence for a call.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerFast

from tunesmith_api.enums import Task
from tunesmith_trainer.errors import BadConfigError
from tunesmith_trainer.examples import SYSTEM, TOOL, Conversation, Example, Turn
from tunesmith_trainer.fields import RowError
from tunesmith_trainer.tokenizer import render

_SYSTEM_TEXT, _REASONING = "a system text", "reasoning_content"
_LAST = "in its last answer"
_WAYS_OUT = {
    _SYSTEM_TEXT: "use a model whose template knows system texts, or begin the first user's text with it",
    _REASONING: "use a model whose template knows reasoning, or leave it out",
    f"{_REASONING} {_LAST}": "use a model whose template lets the answer begin with it, or leave it out",
}
_WAY_OUT = "use a model whose template knows tools, or leave such rows out"


@dataclass(frozen=True)
class TemplateCheck:
    """Refuses conversations that the model's chat template would not write whole.

    Attributes:
        tokenizer: the model's.
        task: Chat, whose encoder refuses a model without a template, or TextGeneration, which needs one for some rows.
    """

    tokenizer: PreTrainedTokenizerFast
    task: Task

    def __call__(self, example: Example) -> None:
        """Check one example.

        Raises:
            RowError: it cannot be learnt whole; the message says what of it and the way out.
        """
        if not isinstance(example, Conversation) or example.is_pair:
            return
        if self.tokenizer.chat_template:
            self._refuse_unwritten(example)
        elif self.task is Task.TEXT_GENERATION:
            raise RowError(
                "is more than a prompt and its completion, which takes a chat template, and spec.model has none;"
                " use a model with one, or leave such rows out"
            )

    def _refuse_unwritten(self, example: Conversation) -> None:
        try:
            left_out = unwritten(self.tokenizer, example)
        except BadConfigError as error:
            what = " and ".join(_beside(example))
            raise RowError(f"has {what}, but {error}; {_WAYS_OUT.get(what, _WAY_OUT)}") from error
        if left_out:
            way_out = _WAYS_OUT.get(left_out, _WAY_OUT)
            raise RowError(f"has {left_out}, which the chat template of spec.model leaves out; {way_out}")


def unwritten(tokenizer: PreTrainedTokenizerFast, example: Conversation) -> str:
    """What a conversation has beside texts and its template leaves out; empty when it writes all.

    Something is left out when the text is the same without it, or with another one. Calls and reasoning of the last
    answer are lost as well when the text does not begin as the prompt does: what is learnt is then put together from
    the prompt and the answer's own text.

    Raises:
        BadConfigError: the template refuses the turns, which are more than texts of user and assistant.
    """
    beside = _beside(example)
    if not beside:
        return ""
    whole = _text(tokenizer, example)
    for name in beside:
        if not _differs(tokenizer, _OTHERWISE[name](example), whole):
            return name
    last = example.turns[-1]
    more = "tool_calls" if last.tool_calls else _REASONING
    opening = render(tokenizer, example.turns[:-1], answer_next=True, tools=example.tools)
    lost = (last.tool_calls or last.reasoning) and not whole.startswith(opening)
    return f"{more} {_LAST}" if lost else ""


def _beside(example: Conversation) -> list[str]:
    """What a conversation has beside the texts of user and assistant."""
    return [name for name, otherwise in _OTHERWISE.items() if otherwise(example) != example]


def _text(tokenizer: PreTrainedTokenizerFast, example: Conversation) -> str:
    return render(tokenizer, example.turns, answer_next=False, tools=example.tools)


def _differs(tokenizer: PreTrainedTokenizerFast, less: Conversation, whole: str) -> bool:
    try:
        return _text(tokenizer, less) != whole
    except BadConfigError:  # a template that refuses the turns without it reads it
        return True


def _each(change: Callable[[Turn], Turn]) -> Callable[[Conversation], Conversation]:
    return lambda example: replace(example, turns=tuple(change(turn) for turn in example.turns))


def _other_system(turn: Turn) -> Turn:
    """Another system text, not none: for none, templates may write a text of their own, which may be the row's."""
    return replace(turn, content=f"{turn.content}.") if turn.role == SYSTEM else turn


#: What conversations may have beside texts of user and assistant, and how one looks without it, or with another one.
_OTHERWISE: dict[str, Callable[[Conversation], Conversation]] = {
    _SYSTEM_TEXT: _each(_other_system),
    "tools": lambda example: replace(example, tools=""),
    "tool_calls": _each(lambda turn: replace(turn, tool_calls="")),
    _REASONING: _each(lambda turn: replace(turn, reasoning="")),
    "results of tools": _each(lambda turn: replace(turn, content="") if turn.role == TOOL else turn),
}
