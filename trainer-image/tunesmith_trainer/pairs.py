"""The format ParallelText: a text and its translation."""

from typing import Any

from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.examples import Pair
from tunesmith_trainer.fields import RowError, checked_text, shown, text_of, unpacked
from tunesmith_trainer.readers import Row

_SOURCE, _TARGET = "source", "target"


def parallel_text(row: Row, columns: Columns) -> Pair:
    """Two columns, or two languages of the column `translation`, which columns.source and columns.target name."""
    source, target = columns.source or _SOURCE, columns.target or _TARGET
    if names_languages(row, columns):
        source, target = _SOURCE, _TARGET
    column = translation_of(columns)
    if column not in row or source in row:
        return Pair(text_of(row, source), text_of(row, target), columns.source or "", columns.target or "")
    texts = _texts(row[column], column, columns)
    return Pair(
        checked_text(texts.get(source), f"{column}.{source}"),
        checked_text(texts.get(target), f"{column}.{target}"),
        source,
        target,
    )


def translation_of(columns: Columns) -> str:
    """The column of an object with a text per language, which the hub calls `translation`."""
    return columns.translation or "translation"


def names_languages(row: Row, columns: Columns) -> bool:
    """Whether columns.source and columns.target name the languages of the columns `source` and `target` of a row."""
    named = [name for name in (columns.source, columns.target) if name is not None]
    plain = _SOURCE in row and _TARGET in row and translation_of(columns) not in row
    return plain and bool(named) and not any(name in row for name in named)


def _texts(cell: Any, column: str, columns: Columns) -> dict[str, Any]:
    value = unpacked(cell)
    if not isinstance(value, dict):
        raise RowError(f"{column} is {shown(value)}, not an object with a text for each language")
    if columns.source is None or columns.target is None:
        known = ", ".join(sorted(value))
        raise RowError(f"{column} has {known}; name the direction in columns.source and columns.target")
    return value
