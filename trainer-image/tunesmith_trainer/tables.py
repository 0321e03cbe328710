"""Reading data files into rows: JSONL, JSON, CSV, Parquet and text, gzip-compressed or not."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunesmith_trainer.errors import BadDataError, InputNotFoundError

Row = dict[str, Any]

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_NOT_ROWS = frozenset({"dataset_infos.json", "dataset_dict.json", "state.json"})


def data_files(path: Path) -> list[Path]:
    """The data files at a path: itself, or those of a folder; of the training split where file names tell splits apart.

    Raises:
        InputNotFoundError: a folder without data files.
    """
    if path.is_file():
        return [path]
    known = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_data(file, path)]
    if not known:
        raise InputNotFoundError(f"{path} has no data files (jsonl, json, csv, parquet, txt)")
    train = [file for file in known if "train" in file.relative_to(path).as_posix().lower()]
    return train or known


def _is_data(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and _kind_by_name(file) is not None and file.name not in _NOT_ROWS


def _kind_by_name(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    kinds = {
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "json",
        ".csv": "csv",
        ".parquet": "parquet",
        ".txt": "txt",
    }
    return next((kind for suffix, kind in kinds.items() if name.endswith(suffix)), None)


def read_rows(path: Path) -> list[Row]:
    """Every row of a data set, in order.

    Raises:
        BadDataError: a file is no UTF-8, cannot be parsed, or a row is no object.
        InputNotFoundError: there is no data file.
    """
    return [row for file in data_files(path) for row in _read_file(file)]


def _read_file(path: Path) -> list[Row]:
    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise BadDataError(f"{path.name} is a broken gzip file: {error}") from error
    if content.startswith(_PARQUET_MAGIC):
        return _parquet(path.name, content)
    text = _decode(path.name, content)
    return list(_PARSERS[_kind_by_name(path) or _kind_by_content(text)](path.name, text))


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise BadDataError(
            f"{name} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}, row {row};"
            " save it as UTF-8"
        ) from error


def _kind_by_content(text: str) -> str:
    start = text.lstrip()[:1]
    if start == "[":
        return "json"
    return "jsonl" if start == "{" else "txt"


def _object(name: str, number: int, value: object) -> Row:
    if not isinstance(value, dict):
        raise BadDataError(f"{name} row {number} is no JSON object: {str(value)[:60]!r}")
    return value


def _jsonl(name: str, text: str) -> Iterator[Row]:
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise BadDataError(f"{name} row {number} is no JSON: {error}") from error
        yield _object(name, number, value)


def _json(name: str, text: str) -> Iterator[Row]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadDataError(f"{name} is no JSON: {error}; one object per line is .jsonl") from error
    if isinstance(value, dict):
        value = next((inner for inner in value.values() if isinstance(inner, list)), [value])
    if not isinstance(value, list):
        raise BadDataError(f"{name} is no list of objects")
    for number, row in enumerate(value, start=1):
        yield _object(name, number, row)


def _csv(name: str, text: str) -> Iterator[Row]:
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=1):
        if None in row:
            raise BadDataError(f"{name} row {number} has more fields than the header; quote values that hold commas")
        yield row


def _txt(_name: str, text: str) -> Iterator[Row]:
    for line in text.split("\n"):
        if line.strip():
            yield {"text": line}


def _parquet(name: str, content: bytes) -> list[Row]:
    import pyarrow as pa  # noqa: PLC0415 - half of the start-up time of this stage, and only Parquet needs it
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    try:
        rows: list[Row] = pq.read_table(pa.BufferReader(content)).to_pylist()
    except pa.ArrowInvalid as error:
        raise BadDataError(f"{name} is a broken Parquet file: {error}") from error
    return rows


_PARSERS: dict[str, Callable[[str, str], Iterator[Row]]] = {"jsonl": _jsonl, "json": _json, "csv": _csv, "txt": _txt}
