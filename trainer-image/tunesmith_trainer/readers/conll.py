"""CoNLL: a token per line with its columns, the tag in the last one; a blank line ends a sentence."""

from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import read_lines

#: A line that parts documents (CoNLL-2003), and what comments begin with (CoNLL-U, MultiCoNER).
_DOCUMENT, _COMMENTS = "-DOCSTART-", ("# id ", "# sent_id", "# text", "# newdoc", "# newpar", "# global.columns")


def read_conll(path: Path, name: str) -> Iterator[RawRow]:
    """A row of `tokens` and `tags` for each sentence, with the number of its first line."""
    columns = 0
    for sentence in _sentences(path, name):
        line, fields = sentence[0]
        columns = columns or len(fields)
        yield _row(sentence, columns, Origin(name, line))


def _sentences(path: Path, name: str) -> Iterator[list[tuple[int, list[str]]]]:
    """Lines of each sentence: number and columns."""
    sentence: list[tuple[int, list[str]]] = []
    for number, line in enumerate(read_lines(path, name), start=1):
        text = line.strip()
        if not text or text.startswith(_DOCUMENT):
            if sentence:
                yield sentence
            sentence = []
        elif sentence or not text.startswith(_COMMENTS):
            sentence.append((number, text.split("\t") if "\t" in text else text.split()))
    if sentence:
        yield sentence


def _row(sentence: list[tuple[int, list[str]]], columns: int, origin: Origin) -> RawRow:
    if columns < 2:
        return RawRow(origin, problem=f"line {sentence[0][0]} has one column; a token and its tag are two")
    for number, fields in sentence:
        if len(fields) != columns:
            return RawRow(origin, problem=f"line {number} has {len(fields)} columns, the first line has {columns}")
    return RawRow(
        origin, {"tokens": [fields[0] for _, fields in sentence], "tags": [fields[-1] for _, fields in sentence]}
    )
