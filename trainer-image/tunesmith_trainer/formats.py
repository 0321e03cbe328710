"""Data formats: one row of `FORMATS` per format, which says how to recognise it and how to convert a row.

Every format becomes an `Example`: turns of a conversation whose last one is the answer, or plain text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunesmith_api.enums import DataFormat
from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.tables import Row

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


class RowError(Exception):
    """Raised when one row cannot be used; the message says why, the caller adds the row's number."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """A converted row: turns (the last is the assistant's), or text when there are none."""

    turns: tuple[Turn, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        columns: columns that a row of this format has, by default names; Auto looks for them.
        convert: makes an Example of a row; raises RowError.
    """

    columns: tuple[str, ...]
    convert: Callable[[Row, Columns], Example]


def _text(row: Row, column: str) -> str:
    if column not in row:
        raise RowError(f"has no column {column!r}")
    value = row[column]
    if value is None:
        raise RowError(f"{column} is null")
    if not isinstance(value, str):
        raise RowError(f"{column} is {type(value).__name__}, not text")
    if not value.strip():
        raise RowError(f"{column} is empty")
    return value


def _turns(value: Any, column: str, role_key: str = "role", content_key: str = "content") -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise RowError(f"{column} is {'null' if value is None else 'no list of messages'}")
    return tuple(_turn(entry, column, place, role_key, content_key) for place, entry in enumerate(value))


def _turn(entry: Any, column: str, place: int, role_key: str, content_key: str) -> Turn:
    where = f"{column}[{place}]"
    if not isinstance(entry, dict):
        raise RowError(f"{where} is no object")
    role, content = entry.get(role_key), entry.get(content_key)
    if not isinstance(role, str):
        raise RowError(f"{where}.{role_key} is missing")
    if content is None:
        raise RowError(f"{where}.{content_key} is null")
    if not isinstance(content, str) or not content.strip():
        raise RowError(
            f"{where}.{content_key} is {'empty' if content in ('', []) or isinstance(content, str) else 'no text'}"
        )
    return Turn(role, content)


def check_turns(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The same turns, when their order is: system or none, then user and assistant in turn, assistant last.

    Raises:
        RowError: it is not.
    """
    body = turns[1:] if turns[0].role == SYSTEM else turns
    expected = [USER if place % 2 == 0 else ASSISTANT for place in range(len(body))]
    roles = [turn.role for turn in body]
    if roles != expected:
        raise RowError(f"roles are {', '.join(turn.role for turn in turns)}; they must be user, assistant in turn")
    if not body or body[-1].role != ASSISTANT:
        raise RowError("has no answer: the last message must be the assistant's")
    return turns


def _messages(row: Row, columns: Columns) -> Example:
    column = columns.messages or "messages"
    if column not in row:
        raise RowError(f"has no column {column!r}")
    return Example(check_turns(_turns(row[column], column)))


def _prompt_completion(row: Row, columns: Columns) -> Example:
    prompt, completion = columns.prompt or "prompt", columns.completion or "completion"
    if isinstance(row.get(prompt), list):
        return Example(check_turns(_turns(row[prompt], prompt) + _turns(row.get(completion), completion)))
    return Example((Turn(USER, _text(row, prompt)), Turn(ASSISTANT, _text(row, completion))))


def _alpaca(row: Row, columns: Columns) -> Example:
    prompt = _text(row, columns.prompt or "instruction")
    context = row.get("input")
    if isinstance(context, str) and context.strip():
        prompt = f"{prompt}\n\n{context}"
    turns = (Turn(USER, prompt), Turn(ASSISTANT, _text(row, columns.completion or "output")))
    system = row.get("system")
    return Example((Turn(SYSTEM, system), *turns) if isinstance(system, str) and system.strip() else turns)


_SHARE_GPT_ROLES = {"human": USER, "user": USER, "gpt": ASSISTANT, "assistant": ASSISTANT, "system": SYSTEM}


def _share_gpt(row: Row, columns: Columns) -> Example:
    column = columns.messages or "conversations"
    if column not in row:
        raise RowError(f"has no column {column!r}")
    turns = _turns(row[column], column, "from", "value")
    unknown = sorted({turn.role for turn in turns} - set(_SHARE_GPT_ROLES))
    if unknown:
        raise RowError(f"{column} has roles {', '.join(unknown)}; use human, gpt or system")
    return Example(check_turns(tuple(Turn(_SHARE_GPT_ROLES[turn.role], turn.content) for turn in turns)))


def _plain_text(row: Row, columns: Columns) -> Example:
    return Example(text=_text(row, columns.text or "text"))


FORMATS: dict[DataFormat, Format] = {
    DataFormat.MESSAGES: Format(("messages",), _messages),
    DataFormat.SHARE_GPT: Format(("conversations",), _share_gpt),
    DataFormat.ALPACA: Format(("instruction", "output"), _alpaca),
    DataFormat.PROMPT_COMPLETION: Format(("prompt", "completion"), _prompt_completion),
    DataFormat.TEXT: Format(("text",), _plain_text),
}


def _named(format_: DataFormat, columns: Columns) -> set[str]:
    defaults = FORMATS[format_].columns
    renamed = {
        "messages": columns.messages,
        "conversations": columns.messages,
        "prompt": columns.prompt,
        "instruction": columns.prompt,
        "completion": columns.completion,
        "output": columns.completion,
        "text": columns.text,
    }
    return {renamed.get(name) or name for name in defaults}


def detect_format(rows: list[Row], columns: Columns) -> DataFormat | None:
    """The first format of the table whose columns the first rows have; None when there is none."""
    for format_ in FORMATS:
        if any(_named(format_, columns) <= set(row) and _fits(format_, row, columns) for row in rows[:10]):
            return format_
    return None


def _fits(format_: DataFormat, row: Row, columns: Columns) -> bool:
    """Whether messages are keyed as the format has it, since `columns.messages` names the column of either."""
    if format_ not in {DataFormat.MESSAGES, DataFormat.SHARE_GPT}:
        return True
    value = row[_named(format_, columns).pop()]
    key = "from" if format_ is DataFormat.SHARE_GPT else "role"
    return not (isinstance(value, list) and value and isinstance(value[0], dict)) or key in value[0]
