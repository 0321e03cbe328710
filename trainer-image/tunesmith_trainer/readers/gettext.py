"""Gettext catalogues (.po): a row of `source` and `target` per translated message; a catalogue is read whole."""

from collections.abc import Iterator
from pathlib import Path

import polib

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import read_text


def read_po(path: Path, name: str) -> Iterator[RawRow]:
    """The messages of a catalogue; fuzzy and untranslated ones are skipped, obsolete ones are no messages any more.

    Raises:
        BadDataError: it cannot be parsed.
    """
    text = "".join(read_text(path, name))
    try:
        catalogue = polib.pofile(text) if "msgid" in text else polib.POFile()
    except (OSError, ValueError) as error:
        raise BadDataError(f"{name} is no gettext catalogue: {error}; check it with msgfmt --check") from error
    number = 0
    for entry in catalogue:
        if entry.obsolete:
            continue
        for source, target in _forms(entry):
            number += 1
            yield _row(entry, source, target, Origin(name, number))


def _forms(entry: polib.POEntry) -> Iterator[tuple[str, str]]:
    """A message, or its singular with the first form and its plural with the last one."""
    if not entry.msgid_plural:
        yield entry.msgid, entry.msgstr
        return
    forms = [entry.msgstr_plural[key] for key in sorted(entry.msgstr_plural)] or [""]
    yield entry.msgid, forms[0]
    yield entry.msgid_plural, forms[-1]


def _row(entry: polib.POEntry, source: str, target: str, origin: Origin) -> RawRow:
    if entry.fuzzy:
        return RawRow(origin, skipped="fuzzy entries")
    if not target.strip():
        return RawRow(origin, skipped="untranslated entries")
    return RawRow(origin, {"source": source, "target": target})
