"""The format ParallelText: a text and its translation."""

from typing import Any

from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.examples import Pair
from tunesmith_trainer.fields import RowError, checked_text, shown, text_of
from tunesmith_trainer.readers import Row

#: The hub's column of an object with a text per language.
TRANSLATION = "translation"


def parallel_text(row: Row, columns: Columns) -> Pair:
    """Two columns, or two languages of the column `translation`, which columns.source and columns.target name."""
    source, target = columns.source or "source", columns.target or "target"
    if TRANSLATION not in row or source in row:
        return Pair(text_of(row, source), text_of(row, target), columns.source or "", columns.target or "")
    texts = _texts(row[TRANSLATION], columns)
    return Pair(
        checked_text(texts.get(source), f"{TRANSLATION}.{source}"),
        checked_text(texts.get(target), f"{TRANSLATION}.{target}"),
        source,
        target,
    )


def _texts(value: Any, columns: Columns) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError(f"{TRANSLATION} is {shown(value)}, not an object with a text for each language")
    if columns.source is None or columns.target is None:
        known = ", ".join(sorted(value))
        raise RowError(f"{TRANSLATION} has {known}; name the direction in columns.source and columns.target")
    return value
