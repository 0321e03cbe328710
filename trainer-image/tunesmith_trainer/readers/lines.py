"""Plain text: a row per line, or a row per file where the folder's name is the label."""

from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import read_lines, read_text


def read_plain_lines(path: Path, name: str) -> Iterator[RawRow]:
    """A row for each line that is not empty, with the line's number."""
    for number, line in enumerate(read_lines(path, name), start=1):
        if not line.isspace():
            yield RawRow(Origin(name, number), {"text": line.rstrip("\r\n")})


def read_class_file(path: Path, name: str, label: str) -> Iterator[RawRow]:
    """One row: the whole file as the text with the label of its folder; skipped when it lies in no class's folder."""
    if not label:
        yield RawRow(Origin(name, 1), skipped="texts beside the folders of the classes")
        return
    yield RawRow(Origin(name, 1), {"text": "".join(read_text(path, name)), "label": label})
