"""Reading a row's columns: each way in which a value can be wrong is a sentence that names the column."""

import json
from typing import Any

from tunesmith_trainer.readers import Row

_SHOWN_CHARACTERS = 40


class RowError(Exception):
    """Raised when one row cannot be used; the message says why, the caller adds the row's number."""


def value_of(row: Row, column: str) -> Any:
    """The value of a column that is there and not null.

    Raises:
        RowError: it is not.
    """
    if column not in row:
        raise RowError(f"has no column {column!r}")
    value = row[column]
    if value is None:
        raise RowError(f"{column} is null")
    return value


def text_of(row: Row, column: str) -> str:
    """A text that is not empty.

    Raises:
        RowError: the column holds none.
    """
    return checked_text(value_of(row, column), column)


def checked_text(value: object, where: str) -> str:
    """The value itself, when it is text and not empty.

    Raises:
        RowError: it is not.
    """
    if value is None:
        raise RowError(f"{where} is null")
    if not isinstance(value, str):
        raise RowError(f"{where} is {type(value).__name__}, not text: {shown(value)}")
    if not value.strip():
        raise RowError(f"{where} is empty")
    return encodable(value, where)


def encodable(text: str, where: str) -> str:
    """The text itself, when it is Unicode: JSON can write half of a surrogate pair, which no tokenizer takes.

    Raises:
        RowError: it is not.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"{where} has {text[error.start]!r} at character {error.start}, half of a surrogate pair; write the whole"
            " character or leave it out"
        ) from error
    return text


def list_of(row: Row, column: str) -> list[Any]:
    """A list, empty or not, or the text of one in JSON.

    Raises:
        RowError: the column holds none.
    """
    value = unpacked(value_of(row, column))
    if not isinstance(value, list):
        raise RowError(f"{column} is {type(value).__name__}, not a list: {shown(value)}; write a JSON list")
    return value


def unpacked(value: Any) -> Any:
    """What a text holds that is a JSON list or object, as cells of CSV and TSV files have it; else the value itself."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON, or more digits or brackets than Python takes
        return value


def present(row: Row, renamed: str | None, *defaults: str) -> str:
    """The column's name: as the job has it, else the first usual one that the row has, else the most usual one."""
    return renamed or next((name for name in defaults if name in row), defaults[0])


def shown(value: object) -> str:
    """A value as a message shows it: quoted, and cut when it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
