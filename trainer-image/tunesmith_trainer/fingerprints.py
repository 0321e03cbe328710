"""Which rows are alike: a file of sixteen bytes per row, compared a share of the values at a time.

Two different rows fall together by chance in one of 2^64 pairs: 10 million rows have such a pair with a probability of
3 in a million, and the result is a warning.
"""

import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.errors import SHOWN_ROWS
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.tally import Tally

#: Of shape (rows, 2): the fingerprint, and where the row lies.
Prints = NDArray[np.uint64]
_ROW_BITS = 40

#: Rows whose fingerprints are held at once, about; 16 bytes each, and as much again to sort them.
_ROWS_AT_ONCE = 1 << 22
_BUFFERED_ROWS = 1 << 14


class FingerprintWriter:
    """Writes the fingerprint and the origin of each row, in order.

    Attributes:
        files: names of the files that the rows came from, by the number that stands for each.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._neighbour = path.with_name(f".{path.name}.tmp")
        self._file = self._neighbour.open("wb")
        self._buffer = array.array("Q")
        self.files: dict[str, int] = {}

    def add(self, content: bytes, origin: Origin) -> None:
        """Append the fingerprint of one row's content."""
        self._buffer.append(int.from_bytes(blake2b(content, digest_size=8).digest(), "little"))
        self._buffer.append(self.files.setdefault(origin.file, len(self.files)) << _ROW_BITS | origin.row)
        if len(self._buffer) >= 2 * _BUFFERED_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._buffer.tofile(self._file)
        self._buffer = array.array("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._file.close()
        if kind is None:
            self._neighbour.replace(self._path)
        else:
            self._neighbour.unlink(missing_ok=True)


def _read(path: Path) -> Prints:
    found = np.memmap(path, np.uint64, mode="r") if path.stat().st_size else np.empty(0, np.uint64)
    return found.reshape(-1, 2)


def _shares(*files: Prints) -> Iterator[tuple[NDArray[np.bool_], ...]]:
    """For each share of the values: the rows of each file that have one of them."""
    count = max(1, -(-sum(len(prints) for prints in files) // _ROWS_AT_ONCE))
    for share in range(count):
        yield tuple(_mask(prints, share, count) for prints in files)


def _mask(prints: Prints, share: int, count: int) -> NDArray[np.bool_]:
    mask = np.empty(len(prints), np.bool_)
    for start in range(0, len(prints), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        mask[part] = prints[part, 0] % count == share
    return mask


def repeats(path: Path, files: Sequence[str]) -> Tally:
    """The rows that repeat an earlier one."""
    prints = _read(path)
    found = []
    for (mask,) in _shares(prints):
        places = np.flatnonzero(mask)
        _, first = np.unique(prints[places, 0], return_index=True)
        found.append(np.delete(places, first))
    return _tally(prints, np.concatenate(found), files)


def shared(path: Path, other: Path, files: Sequence[str]) -> Tally:
    """The distinct rows of the first path that the other one has too."""
    mine, theirs = _read(path), _read(other)
    found = []
    for mask, other_mask in _shares(mine, theirs):
        places = np.flatnonzero(mask)
        values, first = np.unique(mine[places, 0], return_index=True)
        found.append(places[first[np.isin(values, theirs[other_mask, 0])]])
    return _tally(mine, np.concatenate(found), files)


def _tally(prints: Prints, places: NDArray[np.int64], files: Sequence[str]) -> Tally:
    places.sort()
    found = Tally(len(places))
    for packed in prints[places[:SHOWN_ROWS], 1].tolist():
        found.first.append((Origin(files[packed >> _ROW_BITS], packed & (1 << _ROW_BITS) - 1), ""))
    return found
