"""Kinds of files that hold data and are not read: told by their first bytes or their names, with the way out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Unread:
    """A kind of file.

    Attributes:
        kind: what it is.
        suffixes: ends of its names.
        way_out: how to make it one that is read.
        magic: bytes by which it is known whatever its name.
        offset: where those stand.
    """

    kind: str
    suffixes: tuple[str, ...]
    way_out: str
    magic: bytes
    offset: int = 0


_UNPACK, _SAVE = "unpack it, or compress it with gzip", "save it as CSV (.csv) in UTF-8"
#: A spreadsheet is a ZIP archive, so names are looked at first.
UNREAD = (
    Unread("an Excel file", (".xlsx", ".xlsm"), _SAVE, b"PK\x03\x04"),
    Unread("an OpenDocument spreadsheet", (".ods",), _SAVE, b"PK\x03\x04"),
    Unread("a ZIP archive", (".zip",), "unpack it; a spreadsheet is saved as CSV (.csv)", b"PK\x03\x04"),
    Unread("an Excel file", (".xls",), _SAVE, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    Unread("compressed with zstd", (".zst",), _UNPACK, b"\x28\xb5\x2f\xfd"),
    Unread("compressed with bzip2", (".bz2",), _UNPACK, b"BZh91AY"),
    Unread("compressed with xz", (".xz",), _UNPACK, b"\xfd7zXZ\x00"),
    Unread("a 7z archive", (".7z",), "unpack it", b"7z\xbc\xaf\x27\x1c"),
    Unread("a tar archive", (".tar", ".tgz"), "unpack it", b"ustar", offset=257),
    Unread("a SQLite database", (".sqlite", ".db"), "write the rows as JSON lines (.jsonl)", b"SQLite format 3\x00"),
)


def find_unread(name: str, head: bytes | None = None) -> Unread | None:
    """The kind of a file by its name and its first bytes, or by its name alone; None for one that may be read."""
    if head is not None:
        alike = [row for row in UNREAD if head[row.offset :].startswith(row.magic)]
        named = [row for row in alike if name.lower().endswith(row.suffixes)]
        return next(iter(named or reversed(alike)), None)
    return next((row for row in UNREAD if name.lower().removesuffix(".gz").endswith(row.suffixes)), None)
