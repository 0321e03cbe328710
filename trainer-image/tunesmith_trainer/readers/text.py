"""Bytes to text: gzip taken off by content, UTF-8 checked, a chunk at a time."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.errors import BadDataError

CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


def read_head(path: Path, name: str, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, uncompressed."""
    head = b""
    for chunk in read_chunks(path, name, size):
        head += chunk
        if len(head) >= size:
            break
    return head[:size]


def is_gzip(path: Path) -> bool:
    """Whether a file is gzip-compressed, whatever its name."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def read_chunks(path: Path, name: str, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The bytes of a file, uncompressed, so many at a time.

    Raises:
        BadDataError: it is a broken gzip file.
    """
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            while chunk := file.read(size):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadDataError(f"{name} is a broken gzip file: {error}; copy it again") from error


def read_text(path: Path, name: str) -> Iterator[str]:
    """The text of a file in chunks, without a byte-order mark.

    Raises:
        BadDataError: it is not UTF-8, or a broken gzip file.
    """
    base, lines, pending = 0, 1, b""
    for chunk in read_chunks(path, name):
        data = pending + chunk
        text, used = _decode(name, data, base, lines, final=False)
        yield text.removeprefix("\ufeff") if base == 0 else text
        base, lines, pending = base + used, lines + text.count("\n"), data[used:]
    _decode(name, pending, base, lines, final=True)


def _decode(name: str, data: bytes, base: int, lines: int, *, final: bool) -> tuple[str, int]:
    try:
        return codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        line = lines + data[: error.start].count(b"\n")
        raise BadDataError(
            f"{name} is not UTF-8: byte 0x{data[error.start]:02x} at offset {base + error.start}, line {line};"
            " save it as UTF-8"
        ) from error


def read_lines(path: Path, name: str) -> Iterator[str]:
    """The lines of a file with their ends; only a line feed ends a line."""
    pending = ""
    for chunk in read_text(path, name):
        lines = (pending + chunk).split("\n")
        pending = lines.pop()
        for line in lines:
            yield f"{line}\n"
    if pending:
        yield pending
