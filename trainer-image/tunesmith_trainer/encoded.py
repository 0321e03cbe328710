"""Tokenised rows on the disk: one Arrow file per split, written as they come and read where they lie.

A column for each field of the recipe's row. The file is mapped into memory: a row costs memory while it is used.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, get_type_hints, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith_trainer.recipe import TokenRow

RowT = TypeVar("RowT", bound=TokenRow)

#: Columns by the annotation of a field.
_TYPES: dict[Any, pa.DataType] = {
    int: pa.int32(),
    float: pa.float32(),
    str: pa.string(),
    bool: pa.bool_(),
    list[int]: pa.list_(pa.int32()),
    list[float]: pa.list_(pa.float32()),
    list[str]: pa.list_(pa.string()),
}
#: A batch is written when it has so many rows, or so many tokens.
_BATCH_ROWS, _BATCH_TOKENS = 4096, 1 << 18


def schema_of(row: type[Any]) -> pa.Schema:
    """The columns of a dataclass of rows."""
    hints = get_type_hints(row)
    return pa.schema([(field.name, _TYPES[hints[field.name]]) for field in fields(row)])


class RowWriter(Generic[RowT]):
    """Writes rows of one dataclass, a batch at a time; the file appears when all is written, or not at all."""

    def __init__(self, path: Path, row: type[RowT]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._neighbour = path.with_name(f".{path.name}.tmp")
        self._schema = schema_of(row)
        self._file = pa.ipc.new_file(str(self._neighbour), self._schema)
        self._rows: list[RowT] = []
        self._tokens = 0

    def add(self, row: RowT) -> None:
        """Append a row."""
        self._rows.append(row)
        self._tokens += len(row.input_ids)
        if len(self._rows) >= _BATCH_ROWS or self._tokens >= _BATCH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        columns = [_column([getattr(row, one.name) for row in self._rows], one.type) for one in self._schema]
        self._file.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows, self._tokens = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._rows:
            self._flush()
        self._file.close()
        if kind is None:
            self._neighbour.replace(self._path)
        else:
            self._neighbour.unlink(missing_ok=True)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values as Arrow has them; lists of whole numbers by way of Python's arrays, which is several times as fast."""
    if kind != _TYPES[list[int]]:
        return pa.array(values, kind)
    flat, ends = array("i"), array("i", [0])
    for value in values:
        flat.extend(array("i", value))
        ends.append(len(flat))
    return pa.ListArray.from_arrays(*(_numbers(one) for one in (ends, flat)))


def _numbers(values: "array[int]") -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def write_encoded(path: Path, rows: Iterable[RowT], row: type[RowT]) -> None:
    """Write rows of a dataclass, whole or not at all."""
    with RowWriter(path, row) as writer:
        for one in rows:
            writer.add(one)


class MappedRows(Sequence[RowT]):
    """The rows of a file, made when they are asked for; a slice is a view."""

    def __init__(self, table: pa.Table, row: type[RowT], places: range | None = None) -> None:
        self._table = table
        self._row = row
        self._places = range(table.num_rows) if places is None else places
        self._columns = [table.column(name).chunks for name in table.column_names]
        sizes = [len(chunk) for chunk in self._columns[0]]
        self._starts = list(accumulate(sizes, initial=0))[:-1]

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each row, without reading them."""
        lengths = pc.list_value_length(self._table.column("input_ids")).to_numpy()
        found: Sequence[int] = lengths[np.asarray(self._places, dtype=np.int64)]
        return found

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> RowT: ...

    @overload
    def __getitem__(self, place: slice) -> "MappedRows[RowT]": ...

    def __getitem__(self, place: int | slice) -> "RowT | MappedRows[RowT]":
        if isinstance(place, slice):
            return MappedRows(self._table, self._row, self._places[place])
        at = self._places[place]
        chunk = bisect_right(self._starts, at) - 1
        return self._row(*(_value(column[chunk][at - self._starts[chunk]]) for column in self._columns))


def _value(scalar: Any) -> Any:
    """A scalar as Python has it; numbers of a list by way of numpy, which is several times as fast."""
    if isinstance(scalar, pa.ListScalar) and scalar.is_valid and not pa.types.is_string(scalar.type.value_type):
        return scalar.values.to_numpy().tolist()
    return scalar.as_py()


def read_encoded(path: Path, row: type[RowT]) -> MappedRows[RowT]:
    """The rows of a split, in order."""
    with pa.memory_map(str(path)) as source:
        return MappedRows(pa.ipc.open_file(source).read_all(), row)


def lengths_of(rows: Sequence[Any]) -> Sequence[int]:
    """Tokens of each of some rows, mapped or not."""
    return rows.lengths if isinstance(rows, MappedRows) else [len(row.input_ids) for row in rows]
