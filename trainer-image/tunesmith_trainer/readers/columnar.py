"""Parquet and Arrow (file and stream): batches of rows; numbered classes get the names that the schema carries."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers.raw import RawRow
from tunesmith_trainer.readers.text import is_gzip

_BATCH_ROWS = 1024
_Batches = Callable[[Path], Iterator[Any]]


def read_parquet(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of a Parquet file; a row group is held at a time."""
    return _rows(path, name, "Parquet", _parquet_batches)


def read_arrow_file(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of an Arrow IPC file; a record batch is held at a time."""
    return _rows(path, name, "Arrow", _arrow_file_batches)


def read_arrow_stream(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of an Arrow IPC stream, gzip-compressed or not; a record batch is held at a time."""
    return _rows(path, name, "Arrow", _arrow_stream_batches)


def _parquet_batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq  # noqa: PLC0415 - half of the start-up time of this stage, and only these need it

    with pq.ParquetFile(path, pre_buffer=False) as file:
        yield from file.iter_batches(_BATCH_ROWS)


def _arrow_file_batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415 - as above

    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        for place in range(file.num_record_batches):
            yield file.get_batch(place)


def _arrow_stream_batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415 - as above

    with (
        pa.input_stream(str(path), compression="gzip" if is_gzip(path) else None) as source,
        pa.ipc.open_stream(source) as stream,
    ):
        yield from stream


def _rows(path: Path, name: str, kind: str, batches: _Batches) -> Iterator[RawRow]:
    import pyarrow as pa  # noqa: PLC0415 - as above

    number = 0
    try:
        for batch in batches(path):
            names = _class_names(batch.schema.metadata)
            padded = [field.name for field in batch.schema if _has_members(field.type)]
            for part in range(0, batch.num_rows, _BATCH_ROWS):
                for values in batch.slice(part, _BATCH_ROWS).to_pylist():
                    number += 1
                    said = values | {column: _unpadded(values[column]) for column in padded}
                    yield RawRow(Origin(name, number), _named(said, names))
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        where = f" after row {number}" if number else ""
        raise BadDataError(f"{name} is a broken {kind} file{where}: {error}; copy or write it again") from error


def _has_members(kind: Any) -> bool:
    """Whether a type is one of objects, or has them in it."""
    return str(kind).startswith("struct<") or any(_has_members(kind.field(n).type) for n in range(kind.num_fields))


def _unpadded(value: Any) -> Any:
    """A value without the members that are null: a column's objects all have the members of any one of them."""
    if isinstance(value, dict):
        return {key: _unpadded(one) for key, one in value.items() if one is not None}
    return [_unpadded(one) for one in value] if isinstance(value, list) else value


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Names of numbered classes by column, as the `datasets` library keeps them in the schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    found = {column: _names(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _names(feature: Any) -> list[str]:
    while isinstance(feature, dict) and "feature" in feature:
        feature = feature["feature"]
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    return feature.get("names") or [] if isinstance(feature, dict) else []


def _named(values: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    return values | {column: _name(values[column], known) for column, known in names.items() if column in values}


def _name(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_name(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
