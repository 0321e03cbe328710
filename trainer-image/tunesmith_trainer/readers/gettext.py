"""Gettext catalogues (.po): a row of `source` and `target` per translated message; a catalogue is read whole."""

from collections.abc import Iterator
from pathlib import Path

import polib

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import read_text


def read_po(path: Path, name: str) -> Iterator[RawRow]:
    """The messages of a catalogue, each with the number of the line that its entry begins at.

    Fuzzy and untranslated ones are skipped, obsolete ones are no messages any more.

    Raises:
        BadDataError: it cannot be parsed.
    """
    text = "".join(read_text(path, name))
    try:
        catalogue = polib.pofile(text) if "msgid" in text else polib.POFile()
    except (OSError, ValueError) as error:
        raise BadDataError(f"{name} is no gettext catalogue: {error}; check it with msgfmt --check") from error
    first = 1 + text[: len(text) - len(text.lstrip())].count("\n")
    for entry in catalogue:
        if not entry.obsolete:
            yield from _rows(entry, Origin(name, entry.linenum or first))  # the parser numbers the first one 0


def _rows(entry: polib.POEntry, origin: Origin) -> Iterator[RawRow]:
    """A message, or its singular with the first form and its plural with the last one.

    The forms between them are of numbers that English has no form for: they would translate the same text otherwise.
    """
    if entry.fuzzy:
        yield RawRow(origin, skipped="fuzzy entries")
        return
    if not entry.msgid_plural:
        yield _row(entry.msgid, entry.msgstr, origin)
        return
    forms = [entry.msgstr_plural[key] for key in sorted(entry.msgstr_plural)] or [""]
    yield _row(entry.msgid, forms[0], origin)
    for _ in forms[1:-1]:
        yield RawRow(origin, skipped="plural forms between the first and the last")
    yield _row(entry.msgid_plural, forms[-1], origin)


def _row(source: str, target: str, origin: Origin) -> RawRow:
    if not target.strip():
        return RawRow(origin, skipped="untranslated entries")
    return RawRow(origin, {"source": source, "target": target})
