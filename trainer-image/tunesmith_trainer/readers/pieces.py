"""Texts in a notation: tune books (ABC) and drawings (SVG), a piece per row."""

from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import read_lines, read_text

#: The first field of a tune (ABC standard 2.1, section 2.2).
_TUNE = "X:"


def read_abc(path: Path, name: str) -> Iterator[RawRow]:
    """A row for each tune of a book, with the number of its first line; what stands between tunes is no tune's.

    Raises:
        BadDataError: it has no tune.
    """
    number = 0
    for number, lines in _tunes(path, name):
        yield RawRow(Origin(name, number), {"text": "\n".join(lines)})
    if not number:
        raise BadDataError(f"{name} has no tune; each begins with a line {_TUNE} and its number")


def _tunes(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """First line and lines of each tune, which a blank line or the next tune ends."""
    start = 0
    tune: list[str] = []
    for number, line in enumerate(read_lines(path, name), start=1):
        begins = line.startswith(_TUNE)
        if tune and (begins or line.isspace()):
            yield start, tune
            tune = []
        if begins:
            start = number
        if begins or tune:
            tune.append(line.rstrip("\r\n"))
    if tune:
        yield start, tune


def read_svg(path: Path, name: str) -> Iterator[RawRow]:
    """One row: the whole drawing."""
    yield RawRow(Origin(name, 1), {"text": "".join(read_text(path, name)).strip()})
