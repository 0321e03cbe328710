"""A row as a file has it, before any format is known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_trainer.examples import Origin

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row, or why there is none.

    Attributes:
        origin: where it lies.
        values: its columns.
        problem: why it cannot be read; the other rows of the file can.
        skipped: why it is left out without being wrong, such as an untranslated catalogue entry.
    """

    origin: Origin
    values: Row = field(default_factory=dict)
    problem: str = ""
    skipped: str = ""


#: Reads a file, named as its rows' origin has it.
Reader = Callable[[Path, str], Iterator[RawRow]]
