"""Memory stays bounded: eight times the data need no more than what one batch of them does.

Measured by what Python, numpy and Arrow have allocated at once, which is the same in every run; resident memory is not.
"""

import gzip
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith_api import Stage
from tunesmith_api.enums import Task
from tunesmith_trainer import encoded, fingerprints, parts
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.readers import columnar, text
from tunesmith_trainer.tables import Split, read_rows

SMALL, LARGE = 500, 4000
#: What both sizes may differ by: a batch is not filled alike. Holding the rows of LARGE costs more than ten times that.
SLACK_BYTES = 200_000


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch):
    """Buffers that are small beside the data of this module."""
    monkeypatch.setattr(text.read_chunks, "__defaults__", (1 << 14,))
    monkeypatch.setattr(columnar, "_BATCH_ROWS", 50)
    monkeypatch.setattr(parts, "_BATCH_ROWS", 10)
    monkeypatch.setattr(encoded, "_BATCH_ROWS", 20)
    monkeypatch.setattr(fingerprints, "_ROWS_AT_ONCE", 100)
    monkeypatch.setattr(fingerprints, "_BUFFERED_ROWS", 20)


def peak_bytes(work):
    """The most that was allocated at once while something ran."""
    arrow = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(arrow)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + arrow.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def rows(count):
    """Rows of about half a kilobyte, each another."""
    return ({"prompt": f"number {n} " * 20, "completion": f"answer {n} " * 20} for n in range(count))


def write_json(path, count):
    """A list of objects."""
    path.write_text(json.dumps(list(rows(count))))


def write_squad(path, count):
    """Paragraphs with five questions each."""
    asked = [{"question": "what?" * 20, "answers": []}] * 5
    articles = [{"paragraphs": [{"context": f"{n} " * 50, "qas": asked}]} for n in range(count // 5)]
    path.write_text(json.dumps({"data": articles}))


def write_lines(path, count):
    """An object per line."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows(count)))


def write_delimited(separator):
    """A line per row."""
    return lambda path, count: path.write_text(
        "".join(f"{separator.join(row)}\n" for row in [("prompt", "completion"), *(r.values() for r in rows(count))])
    )


def write_conll(path, count):
    """A sentence of 30 tokens per row."""
    path.write_text("".join("".join(f"token{n} NN O\n" for _ in range(30)) + "\n" for n in range(count)))


def write_parquet(path, count):
    """Row groups of a hundred rows, as a writer of a large file would make them of more."""
    pq.write_table(pa.Table.from_pylist(list(rows(count))), path, row_group_size=100)


def write_parquet_gzip(path, count):
    """The same, compressed once more."""
    plain = path.with_suffix("")
    write_parquet(plain, count)
    path.write_bytes(gzip.compress(plain.read_bytes()))


def write_arrow(new):
    """Record batches of a hundred rows, in one of Arrow's two layouts."""

    def write(path, count):
        table = pa.Table.from_pylist(list(rows(count)))
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=100)

    return write


def write_tunes(path, count):
    """A book of short tunes."""
    path.write_text("".join(f"X:{n}\nT:a\nK:C\n{'CDEF|' * 60}\n\n" for n in range(count)))


WRITERS = {
    "a.json": write_json,
    "squad.json": write_squad,
    "a.jsonl": write_lines,
    "a.csv": write_delimited(","),
    "a.tsv": write_delimited("\t"),
    "a.txt": write_lines,
    "a.conll": write_conll,
    "a.parquet": write_parquet,
    "a.parquet.gz": write_parquet_gzip,
    "a.arrow": write_arrow(pa.ipc.new_file),
    "a.arrows": write_arrow(pa.ipc.new_stream),
    "a.abc": write_tunes,
}


@pytest.mark.parametrize("name", WRITERS)
def test_reading_holds_a_buffer_only(tmp_path, name):
    """The peak of reading a file does not grow with the file."""
    peaks = []
    for count in (SMALL, LARGE):
        WRITERS[name](tmp_path / name, count)
        read = []
        peaks.append(peak_bytes(lambda found=read: found.append(sum(1 for _ in read_rows(tmp_path / name)))))
        assert read == [count]
    assert peaks[1] < peaks[0] + SLACK_BYTES, peaks


def test_the_measure_sees_rows_that_are_held(tmp_path):
    """The test above would fail if a reader held its rows: a list of them is far beyond the slack."""
    write_lines(tmp_path / "a.jsonl", LARGE)
    request = (tmp_path / "a.jsonl", Split.TRAIN, Task.CHAT)
    assert peak_bytes(lambda: list(read_rows(*request))) > 10 * SLACK_BYTES


def test_preparing_and_reading_back_hold_a_batch_only(tmp_path, make_job, run_here):
    """The whole stage, and a pass over the rows that training maps, have the same peak for eight times the rows."""
    peaks = []
    for count in (SMALL // 5, LARGE // 5):
        data = tmp_path / f"{count}.jsonl"
        write_lines(data, count)
        dataset = {"train": {"uri": f"file://{data}"}, "evaluation": {"uri": None, "fraction": 0.5}}
        config = make_job(tmp_path / str(count), dataset=dataset, training={"maxSequenceLength": 512})
        ended = []

        def work(config=config, ended=ended, folder=tmp_path / str(count)):
            ended.append(run_here(Stage.PREPARE, config))
            ended.append(sum(len(row.input_ids) for row in read_encoded(folder / "data" / "train.arrow", EncodedRow)))

        if not peaks:
            work()  # what the libraries keep from their first use is no part of it
            (tmp_path / str(count) / "prepared.json").unlink()
            (tmp_path / str(count) / "data" / "train.json").unlink()
            ended.clear()
        peaks.append(peak_bytes(work))
        dataset = ended[0].outcome.dataset
        assert (dataset.examples, dataset.tokens) == (count // 2, ended[1]), ended[0].message
    assert peaks[1] < peaks[0] + SLACK_BYTES, peaks
