"""Speed and memory of reading data: each kind of file read and checked, then the whole prepare stage.

`python bench/data.py --megabytes 64` writes prompts and completions of that size (as JSON lines), an eighth of it too,
and prints megabytes per processor second and the peak of resident memory of each process. A bounded peak is the
same for both sizes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "models" / "tiny-phi3"
WORDS = ("turn", "lamp", "kitchen", "on", "off", "dim", "warm", "to", "fifty", "percent", "play", "music", "upstairs")
ROWS_AT_ONCE = 1000
#: The start of a process differs by about as much from one to the next.
SHORTEST_SECONDS = 0.1

CHECKING = """
import sys
from pathlib import Path
from tunesmith_api.enums import Task
from tunesmith_trainer.rows import Request, open_data
from tunesmith_trainer.survey import survey
from tunesmith_trainer.tables import Split
import pyarrow.parquet
if sys.argv[1] != "-":
    survey(open_data(Request("bench", Path(sys.argv[1]), Split.TRAIN, Task.CHAT)))
"""


def rows(count: int) -> Iterator[dict[str, str]]:
    """Rows of some 400 bytes, each another."""
    draw = random.Random(0)
    for number in range(count):
        words = draw.choices(WORDS, k=56)
        yield {"prompt": f"{number} {' '.join(words[:40])}", "completion": " ".join(words[40:])}


def batches(count: int) -> Iterator[list[dict[str, str]]]:
    """The same rows, a thousand at a time."""
    source = rows(count)
    while batch := [row for _, row in zip(range(ROWS_AT_ONCE), source, strict=False)]:
        yield batch


def write_text(path: Path, count: int, line: Callable[[dict[str, str]], str], ends: tuple[str, str, str]) -> None:
    """Write a line per row between a beginning and an end."""
    with path.open("w") as file:
        file.write(ends[0])
        for number, row in enumerate(rows(count)):
            file.write((ends[1] if number else "") + line(row))
        file.write(ends[2])


def write_parquet(path: Path, count: int) -> None:
    """Row groups of a thousand rows."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for batch in batches(count):
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))


def write_arrow(path: Path, count: int) -> None:
    """Record batches of a thousand rows."""
    with pa.ipc.new_stream(str(path), SCHEMA) as writer:
        for batch in batches(count):
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))


SCHEMA = pa.schema([("prompt", pa.string()), ("completion", pa.string())])
WRITERS: dict[str, Callable[[Path, int], None]] = {
    "jsonl": lambda path, count: write_text(path, count, json.dumps, ("", "\n", "\n")),
    "json": lambda path, count: write_text(path, count, json.dumps, ("[", ",\n", "]")),
    "csv": lambda path, count: write_text(
        path, count, lambda r: ",".join(r.values()), ("prompt,completion\n", "\n", "")
    ),
    "tsv": lambda path, count: write_text(
        path, count, lambda r: "\t".join(r.values()), ("prompt\tcompletion\n", "\n", "")
    ),
    "parquet": write_parquet,
    "arrow": write_arrow,
}


@dataclass(frozen=True)
class Measured:
    """One process: processor seconds, which a busy machine does not stretch, and the most resident memory it had."""

    cpu_seconds: float
    peak_bytes: int


def run(command: list[str]) -> Measured:
    """Run a process to its end; it must succeed."""
    environment = os.environ | {"TUNESMITH_MODELS": str(MODEL.parent)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Measured(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def check(data: Path | None) -> Measured:
    """The first pass: read, convert and check every row."""
    return run([sys.executable, "-c", CHECKING, str(data or "-")])


def prepare(data: Path, folder: Path) -> Measured:
    """The whole stage: digest, check, tokenise, write."""
    spec = {
        "model": {"uri": f"file://{MODEL}"},
        "task": "Chat",
        "dataset": {"train": {"uri": f"file://{data}"}, "evaluation": {"fraction": 0.1}},
        "technique": {"type": "LoRA"},
        "training": {"maxSequenceLength": 512},
    }
    config = folder / f"{data.name}.job.json"
    workspace = folder / f"{data.name}.workspace"
    config.write_text(json.dumps({"name": "bench", "workspace": str(workspace), "inputs": {}, "spec": spec}))
    return run([sys.executable, "-m", "tunesmith_trainer", "prepare", "--config", str(config)])


def line(what: str, sizes: list[float], found: list[Measured], start: Measured) -> str:
    """A line of the table: speed at the larger size without the start, and both peaks."""
    seconds = found[-1].cpu_seconds - start.cpu_seconds
    speed = f"{sizes[-1] / seconds:,.1f}" if seconds > SHORTEST_SECONDS else "too short to tell"
    peaks = [f"{one.peak_bytes / 1e6:,.0f}" for one in found]
    return f"| {what} | {speed} | {' | '.join(peaks)} |"


def main() -> None:
    """Write the data, run each process, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=64, help="size of the data as JSON lines")
    parser.add_argument("--no-prepare", action="store_true", help="leave out the slow part, tokenising")
    asked = parser.parse_args()
    sizes = [asked.megabytes / 8, asked.megabytes]
    row_bytes = sum(len(json.dumps(row)) + 1 for row in rows(ROWS_AT_ONCE)) / ROWS_AT_ONCE
    counts = [max(20, int(size * 1e6 / row_bytes)) for size in sizes]
    print(f"| | MB per CPU second | peak MB for {sizes[0]:g} MB | for {sizes[1]:g} MB |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start = check(None)
        print(f"| start, {start.cpu_seconds:.1f} CPU seconds | | {start.peak_bytes / 1e6:,.0f} | |", flush=True)
        for kind, write in WRITERS.items():
            found = []
            for count in counts:
                data = folder / f"{count}.{kind}"
                write(data, count)
                found.append(check(data))
                if kind != "jsonl":
                    data.unlink()
            print(line(f"read and check {kind}", sizes, found, start), flush=True)
        if not asked.no_prepare:
            stage = [prepare(folder / f"{count}.jsonl", folder) for count in counts]
            print(line("prepare jsonl: digest, check, tokenise, write", sizes, stage, start))


if __name__ == "__main__":
    main()
