"""Gzip taken off a whole file, for kinds that are not read from front to back; the file lies while it is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.readers.text import read_chunks

#: The most that a file may unpack to: a gzip bomb grows a thousandfold.
_MOST_BYTES = 16 << 30


@contextmanager
def unpacked(path: Path, name: str, scratch: Path | None) -> Iterator[Path]:
    """The plain form of a gzip-compressed file, in a folder for such files or in the system's.

    Raises:
        BadDataError: it is broken, or larger than a file may be.
        OSError: the disk is full.
    """
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        plain = Path(folder) / "plain"
        _unpack(path, name, plain)
        yield plain


def _unpack(path: Path, name: str, target: Path) -> None:
    with target.open("wb") as file:
        for chunk in read_chunks(path, name):
            if file.tell() + len(chunk) > _MOST_BYTES:
                raise BadDataError(f"{name} unpacks to more than {_MOST_BYTES} bytes; write it without gzip")
            file.write(chunk)
