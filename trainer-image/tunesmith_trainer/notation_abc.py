"""A strict parser of ABC, the notation of folk tunes: one tune with its header, notes, durations and bars.

Grammar: the ABC standard 2.1 (https://abcnotation.com/wiki/abc:standard:v2.1), sections 3, 4 and 6. Laxer habits of
older tune books (text between tunes, fields in any order) are errors here: a model's tune must play everywhere.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction


def _length_of(prefix: str) -> str:
    """The pattern of a length; its groups have a prefix, since no two groups of one pattern may have the same name."""
    return rf"(?:(?P<{prefix}times>\d{{1,3}})?(?P<{prefix}halves>/+)?(?P<{prefix}by>\d{{1,3}})?)"


_PITCH = r"(?:\^\^|\^/|\^|__|_/|_|=)?[A-Ga-g][,']*"
_NOTE = _PITCH + r"\d{0,3}/*\d{0,3}"

#: Kinds of symbols of a music line, in the order in which they are tried.
_SYMBOLS: dict[str, str] = {
    "field": r"\[(?P<name>[A-Za-z]):(?P<value>[^\]]*)\]",
    "bar": r"\.?(?::*\|[|\]:]*|::+|\[\|)(?:\[?\d{1,3}(?:[,-]\d{1,3})*)?|\[\d{1,3}(?:[,-]\d{1,3})*",
    "chord": rf"\[(?P<first>{_NOTE})-?(?:{_NOTE}-?)*\]" + _length_of("chord_"),
    "note": _PITCH + _length_of("note_"),
    "rest": r"[zx]" + _length_of("rest_"),
    "pause": r"[ZX]\d{0,3}",
    "grace": rf"\{{/?(?:[()]|\[(?:{_NOTE})+\]|{_NOTE}|\s)+\}}",
    "tuplet": r"\((?P<notes>[2-9])(?::(?P<time>\d{0,3}))?(?::(?P<count>\d{0,3}))?",
    "broken": r"(?P<dots>>{1,3}|<{1,3})",
    "annotation": r'"[^"]*"',
    "decoration": r"![^!\s]+!|[.~H-Wh-w]",
    "mark": r"\.?\(|\)|-|y\d{0,3}|&|`|\$|\\$|\s+",
}
_SYMBOL = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _SYMBOLS.items()), re.ASCII)
_FIELD = re.compile(r"(?P<name>[A-Za-z+]):\s*(?P<value>.*)")
_HEADER_FIELDS = frozenset("ABCDFGHIKLMmNOPQRrSsTUVWXZ")
#: Notes are letters too: `E:|` is music.
_BODY_FIELDS = frozenset("IKLMmNPQRrsTUVWw+")
_MODES = frozenset({"", "maj", "min", "mix", "dor", "phr", "lyd", "loc", "ion", "aeo", "exp"})
_TONIC = re.compile(r"(?:HP|Hp|none|[A-G][#b]?(?P<mode>[A-Za-z]*))")
#: What may follow the key: its mode, accidentals, a clef by name, a setting such as clef=bass.
_KEY_WORD = re.compile(r"[\^_=]{1,2}[A-Ga-g]|(?:treble|alto|tenor|bass|perc|none)\d?(?:[+-]8)?|[a-z]+=\S+")
_METER = re.compile(r"C\||C|none|\(?(?P<beats>\d{1,3}(?:\+\d{1,3})*)\)?/(?P<unit>\d{1,3})", re.ASCII)
_UNIT = re.compile(r"1(?:/(?P<by>1|2|4|8|16|32|64|128|256|512))?")
#: Notes in the time of so many, by the number of a tuplet's notes in a simple meter (section 4.13).
_TUPLET_TIME = {2: 3, 3: 2, 4: 3, 5: 2, 6: 2, 7: 2, 8: 3, 9: 2}
_TUPLET_TIME_COMPOUND = {**_TUPLET_TIME, 5: 3, 7: 3, 9: 3}


class AbcError(ValueError):
    """Raised when a text is no tune; names the line and what is wrong there."""


@dataclass(frozen=True)
class Tune:
    """A parsed tune.

    Attributes:
        fields: header fields by letter, the last of each.
        meter: length of a whole bar in whole notes; None for a free meter.
        bars: length of each bar in whole notes, pick-ups and repeats as they are written.
        notes: notes, chords counted once, grace notes and rests aside.
    """

    fields: dict[str, str]
    meter: Fraction | None
    bars: tuple[Fraction, ...]
    notes: int


@dataclass
class _Bars:
    """The bars so far, and what changes the length of the notes to come."""

    unit: Fraction
    compound: bool
    done: list[Fraction] = field(default_factory=list)
    open: list[Fraction] = field(default_factory=list)
    overlaid: Fraction = Fraction(0)
    notes: int = 0
    lines: int = 0
    next_factor: Fraction = Fraction(1)
    tuplet: tuple[Fraction, int] = (Fraction(1), 0)

    def sound(self, length: Fraction, *, is_note: bool) -> None:
        factor, left = self.tuplet
        self.tuplet = (factor, left - 1) if left > 1 else (Fraction(1), 0)
        self.open.append(length * self.unit * factor * self.next_factor)
        self.next_factor = Fraction(1)
        self.notes += is_note

    def overlay(self) -> None:
        self.overlaid, self.open = max(self.overlaid, sum(self.open, Fraction(0))), []

    def end(self) -> None:
        """A bar line."""
        self.lines += bool(self.open)
        self.close()

    def close(self) -> None:
        length = max(self.overlaid, sum(self.open, Fraction(0)))
        if length:
            self.done.append(length)
        self.open, self.overlaid = [], Fraction(0)


def parse_abc(text: str) -> Tune:
    """The tune of a text.

    Raises:
        AbcError: it is none: a header field is absent, misplaced or malformed, a symbol is unknown, or there is no
            note, or no bar line behind one.
    """
    lines = list(_lines(text))
    start = next((place for place, (_, line) in enumerate(lines) if line.startswith("K:")), None)
    if start is None:
        raise AbcError("no K: field ends the header")
    fields = _header(lines[: start + 1])
    meter, compound = _meter(fields.get("M", "none"))
    default = Fraction(1, 16) if meter is not None and meter < Fraction(3, 4) else Fraction(1, 8)
    bars = _Bars(_unit(fields["L"]) if "L" in fields else default, compound)
    for number, line in lines[start + 1 :]:
        _body_line(number, line, bars)
    bars.close()
    if not bars.notes or not bars.lines:
        raise AbcError("the tune has no note" if not bars.notes else "no bar line ends a bar")
    return Tune(fields, meter, tuple(bars.done), bars.notes)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are neither comment nor directive, with their numbers."""
    for number, line in enumerate(text.strip().split("\n"), start=1):
        if text.strip() and not line.strip():
            raise AbcError(f"line {number}: a blank line ends the tune, but text follows")
        content = re.split(r"(?<!\\)%", line, maxsplit=1)[0].strip()
        if content:
            yield number, content


def _header(lines: list[tuple[int, str]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for number, line in lines:
        found = _FIELD.fullmatch(line)
        if found is None or found["name"] not in _HEADER_FIELDS:
            raise AbcError(f"line {number}: {line[:40]!r} is no header field")
        if not fields and found["name"] != "X":
            raise AbcError(f"line {number}: the first field is {found['name']}:, not X:")
        _check_field(number, found["name"], found["value"])
        fields[found["name"]] = found["value"].strip()
    if "T" not in fields:
        raise AbcError("no T: field gives a title")
    return fields


def _check_field(number: int, name: str, value: str) -> None:
    value = value.strip()
    problem = {
        "X": not (value.isascii() and value.isdigit()),
        "M": _METER.fullmatch(value) is None,
        "L": _UNIT.fullmatch(value) is None,
        "K": not _is_key(value),
    }.get(name, False)
    if problem:
        raise AbcError(f"line {number}: {name}:{value[:40]} is malformed")


def _is_key(value: str) -> bool:
    words = value.split()
    tonic = _TONIC.fullmatch(words[0]) if words else None
    rest = words[1:] if tonic is not None else words
    if tonic is not None and not _is_mode(tonic["mode"] or ""):
        return False
    if tonic is not None and rest and _is_mode(rest[0]):
        rest = rest[1:]
    return bool(words) and all(_KEY_WORD.fullmatch(word) for word in rest)


def _is_mode(word: str) -> bool:
    """Modes count by their first three letters, in any case (section 3.1.14)."""
    return word == "m" or word.lower()[:3] in _MODES


def _meter(value: str) -> tuple[Fraction | None, bool]:
    """Length of a whole bar, and whether the meter is compound (6/8, 9/8, 12/8)."""
    found = _METER.fullmatch(value)
    if found is None or value == "none":
        return None, False
    if found["beats"] is None:
        return Fraction(1), False
    beats = sum(int(part) for part in found["beats"].split("+"))
    unit = int(found["unit"])
    if not beats or not unit:
        raise AbcError(f"M:{value} is malformed")
    return Fraction(beats, unit), beats % 3 == 0 and beats > 3


def _unit(value: str) -> Fraction:
    found = _UNIT.fullmatch(value)
    return Fraction(1, int(found["by"] or 1)) if found else Fraction(1, 8)


def _body_line(number: int, line: str, bars: _Bars) -> None:
    found = _FIELD.fullmatch(line)
    if found is not None and found["name"] in _BODY_FIELDS:
        _body_field(number, found["name"], found["value"], bars)
        return
    place = 0
    while place < len(line):
        symbol = _SYMBOL.match(line, place)
        if symbol is None:
            raise AbcError(f"line {number}, column {place + 1}: {line[place : place + 10]!r} is no music")
        _symbol(number, symbol, bars)
        place = symbol.end()


def _body_field(number: int, name: str, value: str, bars: _Bars) -> None:
    _check_field(number, name, value)
    if name == "L":
        bars.unit = _unit(value.strip())
    if name == "M":
        bars.compound = _meter(value.strip())[1]
    if name == "V":
        bars.close()


def _symbol(number: int, symbol: re.Match[str], bars: _Bars) -> None:
    kind = next(kind for kind in _SYMBOLS if symbol[kind] is not None)
    if kind in ("note", "chord", "rest"):
        length = _length(number, symbol, f"{kind}_")
        inner = re.fullmatch(_PITCH + _length_of(""), symbol["first"], re.ASCII) if kind == "chord" else None
        bars.sound(length * (_length(number, inner, "") if inner else 1), is_note=kind != "rest")
    elif kind == "bar":
        bars.end()
    elif kind == "field":
        _body_field(number, symbol["name"], symbol["value"], bars)
    elif kind == "tuplet":
        bars.tuplet = _tuplet(symbol, compound=bars.compound)
    elif kind == "broken":
        _break(number, symbol["dots"], bars)
    elif symbol[0] == "&":
        bars.overlay()


def _length(number: int, symbol: re.Match[str], prefix: str) -> Fraction:
    """The factor behind a note: 3, /2, 3/2, // for a quarter."""
    times, halves, by = (symbol[f"{prefix}{part}"] for part in ("times", "halves", "by"))
    below = int(by) if by else 2 ** len(halves or "")
    if not below or times == "0" or (by and len(halves or "") != 1):
        raise AbcError(f"line {number}: {symbol[0]!r} has no length")
    return Fraction(int(times or 1), below)


def _tuplet(symbol: re.Match[str], *, compound: bool) -> tuple[Fraction, int]:
    notes = int(symbol["notes"])
    time = int(symbol["time"] or (_TUPLET_TIME_COMPOUND if compound else _TUPLET_TIME)[notes])
    return Fraction(time, notes), int(symbol["count"] or notes)


def _break(number: int, dots: str, bars: _Bars) -> None:
    """`a>b`: the first note is dotted, the second halved; `<` the other way."""
    if not bars.open:
        raise AbcError(f"line {number}: {dots!r} follows no note")
    short = Fraction(1, 2 ** len(dots))
    before, after = (2 - short, short) if dots[0] == ">" else (short, 2 - short)
    bars.open[-1] *= before
    bars.next_factor = after
