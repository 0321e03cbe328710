"""Data files: which files of a folder are the data, what kind each is, and the stream of their rows."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.enums import Task
from tunesmith_trainer.errors import BadDataError, InputNotFoundError
from tunesmith_trainer.readers import RawRow
from tunesmith_trainer.readers.columnar import read_arrow_file, read_arrow_stream, read_parquet
from tunesmith_trainer.readers.conll import read_conll
from tunesmith_trainer.readers.delimited import read_csv, read_tsv
from tunesmith_trainer.readers.gettext import read_po
from tunesmith_trainer.readers.json_rows import read_json, read_json_lines
from tunesmith_trainer.readers.lines import read_class_file, read_plain_lines
from tunesmith_trainer.readers.pieces import read_abc, read_svg
from tunesmith_trainer.readers.raw import Reader
from tunesmith_trainer.readers.text import is_gzip, read_head
from tunesmith_trainer.readers.unpacked import unpacked
from tunesmith_trainer.readers.unread import find_unread
from tunesmith_trainer.splits import Split, of_split, tell, tell_texts

__all__ = ["KINDS", "DataFile", "Kind", "Split", "data_files", "read_rows"]

_NOT_ROWS = frozenset({"dataset_infos.json", "dataset_dict.json", "dataset_info.json", "state.json"})


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        suffixes: ends of its names, before `.gz`.
        read: streams its rows.
        magic: first bytes by which it is known whatever its name.
        seeks: whether it is read from place to place, so that a gzip-compressed one is unpacked first.
    """

    suffixes: tuple[str, ...]
    read: Reader
    magic: bytes | None = None
    seeks: bool = False


KINDS: dict[str, Kind] = {
    "Parquet": Kind((".parquet",), read_parquet, magic=b"PAR1", seeks=True),
    "Arrow file": Kind((".arrow", ".feather"), read_arrow_file, magic=b"ARROW1", seeks=True),
    "Arrow stream": Kind((".arrows",), read_arrow_stream, magic=b"\xff\xff\xff\xff"),
    "JSON lines": Kind((".jsonl", ".ndjson"), read_json_lines),
    "JSON": Kind((".json",), read_json),
    "CSV": Kind((".csv",), read_csv),
    "TSV": Kind((".tsv",), read_tsv),
    "CoNLL": Kind((".conll", ".conll2003", ".bio", ".iob", ".iob2"), read_conll),
    "gettext": Kind((".po",), read_po),
    "ABC": Kind((".abc",), read_abc),
    "SVG": Kind((".svg",), read_svg),
    "text": Kind((".txt",), read_plain_lines),
}
#: Kinds without columns.
_PLAIN = frozenset({"ABC", "SVG", "text"})


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        path: where it is.
        name: what its rows' origin calls it.
        label: of a text to classify, the name of its class; empty when it lies beside the classes' folders.
    """

    path: Path
    name: str
    label: str | None = None


def data_files(path: Path, split: Split = Split.TRAIN, task: Task | None = None) -> list[DataFile]:
    """The data files at a path: itself, or those of a folder; of one split where file names tell splits apart.

    Args:
        path: a file or a folder.
        split: the part to read of a folder that has several.
        task: what the rows are for: for classification a file of text is a row, and its folder the class.

    Raises:
        InputNotFoundError: a folder without data files.
    """
    if path.is_file():
        return [DataFile(path, path.name)]
    names = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if file.is_file()]
    found = [name for name in names if _is_data(name)]
    pictures = _pictures(found, task)
    known = [name for name in found if name not in pictures]
    if not known:
        raise InputNotFoundError(f"{path} has no data files ({_readable()}){_hint(names)}")
    texts = [name for name in known if _kind_by_name(name) == "text"] if task is Task.TEXT_CLASSIFICATION else []
    told = {name: tell(name) for name in known} | tell_texts(texts)
    return [DataFile(path / name, name, told[name].label) for name in of_split(told, split)]


def _pictures(names: list[str], task: Task | None) -> set[str]:
    """Drawings that are no data: those beside files with columns, and all where the task learns no drawings."""
    if task in {None, Task.TEXT_GENERATION} and all(_kind_by_name(name) in _PLAIN for name in names):
        return set()
    return {name for name in names if _kind_by_name(name) == "SVG"}


def _readable() -> str:
    suffixes = ", ".join(suffix for kind in KINDS.values() for suffix in kind.suffixes)
    return f"{suffixes}; .gz too"


def _hint(names: Sequence[str]) -> str:
    """What to do with the first file of a folder that could be made one of data."""
    found = ((name, find_unread(name)) for name in names)
    return next((f"; {name} is {kind.kind}: {kind.way_out}" for name, kind in found if kind is not None), "")


def _is_data(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and _kind_by_name(name) is not None and name.rpartition("/")[2] not in _NOT_ROWS


def _kind_by_name(name: str) -> str | None:
    plain = name.lower().removesuffix(".gz")
    return next((kind for kind, row in KINDS.items() if plain.endswith(row.suffixes)), None)


def read_rows(
    path: Path, split: Split = Split.TRAIN, task: Task | None = None, scratch: Path | None = None
) -> Iterator[RawRow]:
    """Every row of a data set, in order; nothing but a buffer of it is held.

    Args:
        path: a file or a folder.
        split: the part to read of a folder that has several.
        task: what the rows are for: classification takes a file of text below a class's folder as one row,
            token classification takes text files as CoNLL.
        scratch: folder for what must be unpacked to be read; the system's when there is none.

    Raises:
        BadDataError: a file is no UTF-8 or cannot be parsed.
        InputNotFoundError: there is no data file.
    """
    return itertools.chain.from_iterable(_read(file, task, scratch) for file in data_files(path, split, task))


def _read(file: DataFile, task: Task | None, scratch: Path | None) -> Iterator[RawRow]:
    kind = _kind_of(file)
    if KINDS[kind].seeks and is_gzip(file.path):
        return _read_unpacked(file, KINDS[kind].read, scratch)
    if kind == "text" and task is Task.TOKEN_CLASSIFICATION:
        return read_conll(file.path, file.name)
    if kind == "text" and file.label is not None:
        return read_class_file(file.path, file.name, file.label)
    return KINDS[kind].read(file.path, file.name)


def _read_unpacked(file: DataFile, read: Reader, scratch: Path | None) -> Iterator[RawRow]:
    with unpacked(file.path, file.name, scratch) as path:
        yield from read(path, file.name)


def _kind_of(file: DataFile) -> str:
    """The kind of a file: by its first bytes, else by its name, else by how its text begins.

    Raises:
        BadDataError: it is of a kind that is not read.
    """
    head = read_head(file.path, file.name, 512)
    unread = find_unread(file.name, head)
    if unread is not None:
        raise BadDataError(f"{file.name} is {unread.kind}, which is not read; {unread.way_out} (read: {_readable()})")
    by_magic = next((kind for kind, row in KINDS.items() if row.magic and head.startswith(row.magic)), None)
    named = _kind_by_name(file.name)
    if by_magic is not None:
        return by_magic
    if named is not None:
        return named
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return "JSON" if start in {b"[", b"{"} else "text"
