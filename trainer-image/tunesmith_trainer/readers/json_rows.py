"""JSON: an object per line, a list of objects, or a list inside an object; read without holding the list.

SQuAD's nested layout gives a row for each question, numbered in order.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow, Row
from tunesmith_trainer.readers.text import read_head, read_lines, read_text

_BLANKS = " \t\r\n"
#: A literal or an escape that is cut off is told by its start: `-Infinity`, a pair of surrogates.
_LONGEST_LITERAL = 16
#: A number may go on after a point, or after an exponent and its sign.
_NUMBER_TAIL = 2


def read_json_lines(path: Path, name: str) -> Iterator[RawRow]:
    """A row for each line that is not empty, with the line's number."""
    for number, line in enumerate(read_lines(path, name), start=1):
        if not line.isspace():
            yield _line(line, Origin(name, number))


def _line(line: str, origin: Origin) -> RawRow:
    try:
        value = json.loads(line.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        return RawRow(origin, problem=f"is no JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:  # more digits, or more brackets, than Python takes
        return RawRow(origin, problem=f"is no JSON that can be read: {error}")
    return _object(value, origin)


def _object(value: object, origin: Origin) -> RawRow:
    if isinstance(value, dict):
        return RawRow(origin, value)
    return RawRow(origin, problem=f"is no JSON object: {str(value)[:60]!r}")


def read_json(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of a JSON document; a file that has an object per line is read so whatever its name.

    Raises:
        BadDataError: it cannot be parsed, or holds no objects.
    """
    if _has_object_per_line(read_head(path, name)):
        yield from read_json_lines(path, name)
        return
    number = 0
    for value in _elements(_Scanner(name, read_text(path, name))):
        for row in _flatten(value):
            number += 1
            yield _object(row, Origin(name, number))


def _has_object_per_line(head: bytes) -> bool:
    first, _, rest = head.decode("utf-8-sig", errors="replace").lstrip().partition("\n")
    if not first.startswith("{") or not rest.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _elements(scanner: "_Scanner") -> Iterator[object]:
    """The elements of a list; of an object, those of its one list of objects, or the object itself."""
    opening = scanner.peek()
    if opening == "[":
        scanner.enter_list()
        yield from scanner.elements()
    elif opening == "{":
        yield from _members(scanner)
    else:
        raise BadDataError(f"{scanner.name} is no list of objects; write [{{...}}, ...] or an object per line")
    scanner.expect_end()


def _members(scanner: "_Scanner") -> Iterator[object]:
    kept: Row = {}
    streamed: str | None = None
    for key in scanner.members():
        if scanner.peek() != "[":
            kept[key] = scanner.value()
        elif scanner.enter_list() != "{":
            kept[key] = list(scanner.elements())
        elif streamed is None:
            streamed = key
            yield from scanner.elements()
        else:
            raise BadDataError(
                f"{scanner.name} has two lists of objects, {streamed!r} and {key!r}; write each to a file of its own"
            )
    if streamed is None and [] not in kept.values():
        yield kept


def _flatten(value: object) -> Iterator[object]:
    """An article of SQuAD's nested layout as a row per question; anything else as it is."""
    paragraphs = value.get("paragraphs") if isinstance(value, dict) else None
    if not isinstance(paragraphs, list):
        yield value
        return
    for paragraph in paragraphs:
        found = paragraph if isinstance(paragraph, dict) else {}
        questions = found.get("qas")
        if not isinstance(questions, list):
            yield {"context": found.get("context"), "question": None, "answers": None}
            continue
        for question in questions:
            yield {"context": found.get("context"), **question} if isinstance(question, dict) else question


class _Scanner:
    """A JSON text of which only the value that is being read is held."""

    def __init__(self, name: str, chunks: Iterator[str]) -> None:
        self.name = name
        self._chunks = chunks
        self._text = ""
        self._at = 0
        self._decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        # At least doubling keeps a value that spans many chunks from being copied and parsed too often.
        wanted, parts = len(self._text) - self._at, [self._text[self._at :], chunk]
        while wanted > 0 and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            wanted -= len(chunk)
        self._text, self._at = "".join(parts), 0
        return True

    def peek(self) -> str:
        """The next character that is not blank, or nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, expected: str) -> str:
        found = self.peek()
        if found == "" or found not in expected:
            wanted = " or ".join(expected)
            raise BadDataError(f"{self.name} is no JSON: {found or 'its end'!r} where {wanted} should be")
        self._at += 1
        return found

    def value(self) -> Any:
        """The value that starts here."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if self._may_go_on(error) and self._more():
                    continue
                raise BadDataError(f"{self.name} is no JSON: {error}; one object per line is .jsonl") from error
            whole = not isinstance(value, int | float) or len(self._text) - end > _NUMBER_TAIL
            if whole or not self._more():
                self._at = end
                return value

    def _may_go_on(self, error: Exception) -> bool:
        """Whether the text only ends too early: a mistake far from its end is one, however much follows."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or len(self._text) - error.pos < _LONGEST_LITERAL

    def members(self) -> Iterator[str]:
        """The keys of the object that starts here; the caller reads each value."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        while True:
            if self.peek() != '"':
                self._take('"')
            key = self.value()
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def enter_list(self) -> str:
        """Step into the list that starts here: the first character of its first element, or its end."""
        self._take("[")
        return self.peek()

    def elements(self) -> Iterator[object]:
        """The elements of the list that was entered."""
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def expect_end(self) -> None:
        """Refuse anything but blanks after the document."""
        if self.peek():
            raise BadDataError(f"{self.name} is no JSON: there is text after its end; one object per line is .jsonl")
