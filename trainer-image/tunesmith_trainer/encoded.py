"""Tokenised rows on the disk: one Parquet file per split."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith_trainer.encode import EncodedRow

_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("prompt_tokens", pa.int32()),
        ("reference", pa.string()),
        ("truncated", pa.bool_()),
    ]
)


def write_encoded(path: Path, rows: Sequence[EncodedRow]) -> None:
    """Write rows whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [getattr(row, name) for row in rows] for name in _SCHEMA.names}
    neighbour = path.with_name(f".{path.name}.tmp")
    pq.write_table(pa.table(columns, schema=_SCHEMA), neighbour)
    neighbour.replace(path)


def read_encoded(path: Path) -> list[EncodedRow]:
    """The rows of a split, in order."""
    return [EncodedRow(**row) for row in pq.read_table(path, schema=_SCHEMA).to_pylist()]
