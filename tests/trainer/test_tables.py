"""Reading data files: by content and by name, and what is wrong with a file."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith_trainer.errors import BadDataError, InputNotFoundError
from tunesmith_trainer.tables import data_files, read_rows

ROWS = [{"prompt": "a, b", "completion": "ü"}, {"prompt": "c", "completion": "d"}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CASES = {
    "rows.jsonl": JSONL,
    "rows.json": json.dumps(ROWS).encode(),
    "wrapped.json": json.dumps({"data": ROWS}).encode(),
    "rows.csv": 'prompt,completion\n"a, b",ü\nc,d\n'.encode(),
    "rows.jsonl.gz": gzip.compress(JSONL),
    "rows": JSONL,
    "list": json.dumps(ROWS).encode(),
    "bom.jsonl": b"\xef\xbb\xbf" + JSONL,
}


@pytest.mark.parametrize("name", CASES)
def test_every_file_type_gives_the_same_rows(tmp_path, name):
    """JSONL, JSON and CSV, compressed or without a telling name, read alike."""
    (tmp_path / name).write_bytes(CASES[name])
    assert read_rows(tmp_path / name) == ROWS


def test_parquet_is_known_by_its_content(tmp_path):
    """A Parquet file needs no telling name."""
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "part-0")
    assert read_rows(tmp_path / "part-0") == ROWS


def test_text_files_give_a_row_per_line(tmp_path):
    """Empty lines are no rows."""
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert read_rows(tmp_path / "a.txt") == [{"text": "one"}, {"text": "two"}]


def test_a_folder_gives_the_files_of_its_training_split(tmp_path):
    """Files of other splits and files that are no data are left out."""
    for name in ("train-1.jsonl", "train-0.jsonl", "test-0.jsonl", "README.md"):
        (tmp_path / name).write_bytes(JSONL)
    assert [file.name for file in data_files(tmp_path)] == ["train-0.jsonl", "train-1.jsonl"]


def test_a_folder_without_data_is_not_found(tmp_path):
    """An empty folder is an input that is absent, not an empty data set."""
    with pytest.raises(InputNotFoundError, match="has no data files"):
        read_rows(tmp_path)


BROKEN = [
    ("a.jsonl", b'{"a": 1}\n\xff\xfe\n', "not UTF-8: byte 0xff at offset 9, row 2"),
    ("a.jsonl", b'{"a": 1}\n{"a"\n', "row 2 is no JSON"),
    ("a.jsonl", b"[1]\n", "row 1 is no JSON object"),
    ("a.json", b"{", "is no JSON"),
    ("a.json", b"3", "is no list of objects"),
    ("a.csv", b"a,b\n1,2,3\n", "row 1 has more fields than the header"),
    ("a.gz", b"\x1f\x8bxx", "broken gzip"),
    ("a", b"PAR1xx", "broken Parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_says_where(tmp_path, name, content, message):
    """The message names the file, and the row or the byte."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadDataError, match=message):
        read_rows(tmp_path / name)
