"""Which rows are alike: the same answer however small the share that is held."""

import random

import pytest

from tunesmith_trainer import fingerprints
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.fingerprints import FingerprintWriter, repeats, shared


def write(path, contents):
    """Fingerprints of some contents, in two files by turns."""
    with FingerprintWriter(path) as writer:
        for number, content in enumerate(contents):
            writer.add(str(content).encode(), Origin("ab"[number % 2], number // 2 + 1))
    return list(writer.files)


@pytest.mark.parametrize("rows_at_once", [3, 50, 1 << 22])
def test_rows_that_are_alike_are_found(tmp_path, monkeypatch, rows_at_once):
    """Repeats and shared rows are those that sets of the contents give, whatever is held at once."""
    monkeypatch.setattr(fingerprints, "_ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(fingerprints, "_BUFFERED_ROWS", 7)
    draw = random.Random(1)
    train, evaluation = ([draw.randrange(60) for _ in range(count)] for count in (100, 40))
    files = write(tmp_path / "train", train)
    write(tmp_path / "evaluation", evaluation)
    repeated = [place for place, content in enumerate(train) if content in train[:place]]
    found = repeats(tmp_path / "train", files)
    assert found.count == len(repeated)
    assert found.rows(with_files=True).startswith(f"{'ab'[repeated[0] % 2]} row {repeated[0] // 2 + 1}, ")
    assert shared(tmp_path / "evaluation", tmp_path / "train", files).count == len(set(train) & set(evaluation))


def test_no_rows_are_not_alike(tmp_path):
    """Files without rows are compared too."""
    for name in ("a", "b"):
        write(tmp_path / name, [])
    assert repeats(tmp_path / "a", []).count == shared(tmp_path / "a", tmp_path / "b", []).count == 0
