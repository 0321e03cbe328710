"""CSV with quotes (RFC 4180), and TSV without any, as parallel corpora have it; the first line names the columns."""

import csv
from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.fields import shown
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import read_lines

#: Longest field; the library's own limit of 128 KiB is less than a document.
_FIELD_CHARACTERS = 1 << 26
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_csv(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of a CSV file.

    Raises:
        BadDataError: its header cannot be used.
    """
    return _rows(_csv_records(path, name), name, "quote values that hold commas")


def read_tsv(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of a TSV file; quotes are characters as any other.

    Raises:
        BadDataError: its header cannot be used.
    """
    return _rows(_tsv_records(path, name), name, "write one tab between two columns")


def _csv_records(path: Path, name: str) -> Iterator[RawRow]:
    """The fields of each record; a broken one ends the file, since its end is unknown."""
    csv.field_size_limit(_FIELD_CHARACTERS)  # the library keeps it for the process
    records = csv.reader(_separated(read_lines(path, name), name, ","), strict=True)
    while True:
        origin = Origin(name, records.line_num + 1)
        try:
            fields = next(records, None)
        except csv.Error as error:
            yield RawRow(origin, problem=f"is no CSV: {error}; close the quotes")
            return
        if fields is None:
            return
        yield RawRow(origin, {"fields": fields})


def _tsv_records(path: Path, name: str) -> Iterator[RawRow]:
    for number, line in enumerate(_separated(read_lines(path, name), name, "\t"), start=1):
        yield RawRow(Origin(name, number), {"fields": line.rstrip("\r\n").split("\t")})


def _separated(lines: Iterator[str], name: str, separator: str) -> Iterator[str]:
    """The lines, unless the header has another kind's separators and none of this one's."""
    header = ""
    for line in lines:
        if not header:
            header = line.strip()
            _refuse_separators(header, name, separator)
        yield line


def _refuse_separators(header: str, name: str, separator: str) -> None:
    others = [other for other in _SEPARATORS if other != separator and other in header]
    if separator not in header and others:
        raise BadDataError(
            f"{name}: the header {shown(header)} has {_SEPARATORS[others[0]]} and no {_SEPARATORS[separator]};"
            " separate the columns by commas in a .csv file, by tabs in a .tsv file"
        )


def _rows(records: Iterator[RawRow], name: str, way_out: str) -> Iterator[RawRow]:
    """The rows below the header, blank lines aside, each with the number of the line that it begins at."""
    found = (record for record in records if record.problem or any(record.values["fields"]))
    header = _header(next(found, None), name)
    for record in found:
        yield _row(record, header, way_out)


def _header(record: RawRow | None, name: str) -> list[str]:
    """The names of the columns; none of an empty file. Any number may be empty, as spreadsheets leave them."""
    if record is None:
        return []
    if record.problem:
        raise BadDataError(f"{name}: the header {record.problem}")
    header: list[str] = record.values["fields"]
    repeated = next((column for column in header if column and header.count(column) > 1), None)
    if repeated is not None:
        raise BadDataError(f"{name} has more than one column {repeated!r} in its header; give each a name of its own")
    return header


def _row(record: RawRow, header: list[str], way_out: str) -> RawRow:
    if record.problem:
        return record
    fields = record.values["fields"]
    if len(fields) == len(header):
        return RawRow(record.origin, dict(zip(header, fields, strict=True)))
    compared = "more" if len(fields) > len(header) else "fewer"
    return RawRow(
        record.origin,
        problem=f"has {compared} fields than the header ({len(fields)}, not {len(header)}); {way_out}",
    )
