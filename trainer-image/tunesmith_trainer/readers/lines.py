"""Plain text: a row per line, or a row per file where the folder's name is the label."""

from collections.abc import Iterator
from pathlib import Path, PurePath

from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import read_lines, read_text


def read_plain_lines(path: Path, name: str) -> Iterator[RawRow]:
    """A row for each line that is not empty."""
    number = 0
    for line in read_lines(path, name):
        if not line.isspace():
            number += 1
            yield RawRow(Origin(name, number), {"text": line.rstrip("\r\n")})


def read_class_file(path: Path, name: str) -> Iterator[RawRow]:
    """One row: the whole file as the text, and the name of its folder as the label."""
    yield RawRow(Origin(name, 1), {"text": "".join(read_text(path, name)), "label": PurePath(name).parent.name})
