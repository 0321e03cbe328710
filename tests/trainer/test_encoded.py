"""Tokenised rows on the disk: they come back as they were, by place, by slice, and by length."""

from dataclasses import dataclass, field

import pytest

from tunesmith_trainer import encoded
from tunesmith_trainer.encoded import lengths_of, read_encoded, write_encoded


@dataclass(frozen=True)
class Row:
    """A row with a column of every type."""

    input_ids: list[int]
    truncated: bool = False
    number: int = 7
    share: float = 0.5
    name: str = "ü"
    names: list[str] = field(default_factory=lambda: ["a", ""])
    shares: list[float] = field(default_factory=lambda: [0.25])


ROWS = [Row(list(range(n)), truncated=n % 2 == 0, number=-n, names=["x"] * n) for n in range(10)]


@pytest.fixture(params=[1, 3, 4096])
def path(request, tmp_path, monkeypatch):
    """A file of ROWS, in batches of several sizes."""
    monkeypatch.setattr(encoded, "_BATCH_ROWS", request.param)
    write_encoded(tmp_path / "data" / "rows.arrow", ROWS, Row)
    return tmp_path / "data" / "rows.arrow"


def test_rows_come_back_as_they_were(path):
    """Every column of every row, from either end; a place outside is an error."""
    rows = read_encoded(path, Row)
    assert list(rows) == ROWS
    assert rows[-1] == ROWS[-1]
    with pytest.raises(IndexError):
        rows[len(ROWS)]


@pytest.mark.parametrize("part", [slice(3), slice(None), slice(2, 8, 3), slice(-2, None), slice(5, 5)])
def test_a_slice_is_a_view(path, part):
    """A slice has the rows that a list's would have, and their lengths, without reading them."""
    rows = read_encoded(path, Row)[part]
    assert list(rows) == ROWS[part]
    assert list(rows.lengths) == [len(row.input_ids) for row in ROWS[part]] == list(lengths_of(ROWS[part]))


def test_no_rows_are_a_file_too(tmp_path):
    """A file without rows has none."""
    write_encoded(tmp_path / "rows.arrow", [], Row)
    rows = read_encoded(tmp_path / "rows.arrow", Row)
    assert (len(rows), list(rows), list(rows.lengths)) == (0, [], [])


def test_a_broken_off_file_is_not_left(tmp_path):
    """The file is written whole or not at all, and the earlier one stays."""
    path = tmp_path / "rows.arrow"
    write_encoded(path, ROWS[:2], Row)
    with pytest.raises(AttributeError):
        write_encoded(path, [ROWS[0], "no row"], Row)
    assert list(read_encoded(path, Row)) == ROWS[:2]
    assert list(tmp_path.iterdir()) == [path]
