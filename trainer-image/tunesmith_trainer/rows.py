"""A data set as a stream of examples: the format is chosen by the first rows, then each row is converted by itself."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tunesmith_api.enums import DataFormat, Task
from tunesmith_api.finetunejob import Columns
from tunesmith_api.tasks import foreign_columns, format_problem, formats_of
from tunesmith_trainer.errors import BadConfigError, BadDataError
from tunesmith_trainer.examples import Conversation, Example, Origin
from tunesmith_trainer.fields import RowError
from tunesmith_trainer.formats import FORMATS, detect_format
from tunesmith_trainer.pairs import names_languages, translation_of
from tunesmith_trainer.readers import RawRow, Row
from tunesmith_trainer.tables import Split, read_rows

#: Rows that the format is told by.
_FIRST_ROWS = 10
#: Looks at an example; raises RowError when the model at hand cannot learn it.
Check = Callable[[Example], None]


def accept(_example: Example) -> None:
    """The check of a model that can learn every example of its task."""


@dataclass(frozen=True)
class Request:
    """What to read and what for.

    Attributes:
        field: the spec's field, for messages.
        path: a file or a folder.
        split: the part of a folder with several.
        task: what the rows are for.
        asked: their format, or Auto.
        columns: column names that differ from the format's own.
        check: refuses examples that the model cannot learn.
        scratch: folder for what must be unpacked to be read; the system's when there is none.
        controls: finds control tokens of the model's tokenizer in a text; None where there are none to find.
    """

    field: str
    path: Path
    split: Split
    task: Task
    asked: DataFormat = DataFormat.AUTO
    columns: Columns = Columns()  # noqa: RUF009 - frozen
    check: Check = accept
    scratch: Path | None = None
    controls: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is no example, and why; `skipped` when it is left out without being wrong."""

    origin: Origin
    reason: str
    skipped: bool = False


@dataclass(frozen=True)
class DataSet:
    """Rows of a known format."""

    request: Request
    format: DataFormat

    def examples(self) -> Iterator[Example | Refused]:
        """Every row in order, converted or refused; only the row at hand is held."""
        request = self.request
        for raw in read_rows(request.path, request.split, request.task, request.scratch):
            yield self._convert(raw)

    def _convert(self, raw: RawRow) -> Example | Refused:
        if raw.problem or raw.skipped:
            return Refused(raw.origin, raw.problem or raw.skipped, skipped=bool(raw.skipped))
        try:
            example = FORMATS[self.format].convert(raw.values, self.request.columns)
            _check_task(example, self.request.task)
            self.request.check(example)
            return replace(example, origin=raw.origin)
        except RowError as error:
            return Refused(raw.origin, str(error))


def _check_task(example: Example, task: Task) -> None:
    if task is Task.QUESTION_ANSWERING and isinstance(example, Conversation) and not example.is_pair:
        raise RowError("is more than a prompt and its completion; use spec.task Chat")


def open_data(request: Request) -> DataSet:
    """The data set that a request names, in the asked format or in the one that its first rows show.

    Raises:
        BadDataError: there are no rows, or no format fits them.
        BadConfigError: the format is not for the task.
    """
    found = read_rows(request.path, request.split, request.task, request.scratch)
    readable = (raw for raw in found if not raw.skipped)
    first = list(islice(readable, _FIRST_ROWS))
    if not first:
        raise BadDataError(f"{request.field} is empty: it has no rows")
    rows = [raw.values for raw in first if not raw.problem]
    return DataSet(request, choose_format(rows, request) if rows else _unreadable(request))


def _unreadable(request: Request) -> DataFormat:
    """A format in which to refuse rows none of which can be read."""
    return request.asked if request.asked is not DataFormat.AUTO else formats_of(request.task)[0]


def choose_format(rows: Sequence[Row], request: Request) -> DataFormat:
    """The asked format, or the first of the task's that fits any of some rows.

    Raises:
        BadDataError: no format fits them, or they have not the columns that the job names.
        BadConfigError: only a format of another task does, or the job names columns that the format has not.
    """
    found: DataFormat | None = request.asked
    if found is DataFormat.AUTO:
        found = detect_format(rows, request.columns, formats_of(request.task))
    if found is not None:
        foreign = foreign_columns(request.columns, found)
        if foreign:
            raise BadConfigError("; ".join(foreign))
        _require_columns(rows, request)
        return found
    other = detect_format(rows, request.columns)
    if other is not None:
        raise BadConfigError(f"{request.field}: {format_problem(request.task, other)}")
    _require_columns(rows, request)
    known = "; ".join(f"{name}: {', '.join(FORMATS[name].columns)}" for name in formats_of(request.task))
    raise BadDataError(
        f"{request.field}: columns {', '.join(sorted(rows[0]))} fit no format ({known});"
        " name them in spec.dataset.columns"
    )


def _require_columns(rows: Sequence[Row], request: Request) -> None:
    """Refuse names of columns that none of some rows has."""
    known = {column for row in rows for column in row} | _languages(rows, request.columns)
    for field, name in request.columns.wire().items():
        if name not in known:
            has = ", ".join(sorted(known))
            raise BadDataError(
                f"{request.field}: spec.dataset.columns.{field}: no row has a column {name!r}; they have: {has}"
            )


def _languages(rows: Sequence[Row], columns: Columns) -> set[str]:
    """Names that are no columns: languages within the column `translation`, or of the columns `source` and `target`."""
    column = translation_of(columns)
    texts = [row[column] for row in rows if isinstance(row.get(column), dict)]
    found = {language for text in texts for language in text}
    if any(names_languages(row, columns) for row in rows):
        found |= {name for name in (columns.source, columns.target) if name is not None}
    return found
