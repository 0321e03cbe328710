"""Converting and checking all rows of a data set: bad rows are told by number, the first three and the count."""

from tunesmith_api.enums import DataFormat, Task
from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.errors import SHOWN_ROWS, BadConfigError, BadDataError
from tunesmith_trainer.formats import FORMATS, Example, RowError, detect_format
from tunesmith_trainer.tables import Row


def choose_format(rows: list[Row], asked: DataFormat, columns: Columns, field: str) -> DataFormat:
    """The format of the rows: the asked one, or the detected one.

    Raises:
        BadDataError: there are no rows, or no format fits them.
    """
    if not rows:
        raise BadDataError(f"{field} is empty: it has no rows")
    if asked is not DataFormat.AUTO:
        return asked
    found = detect_format(rows, columns)
    if found is None:
        known = "; ".join(f"{name}: {', '.join(row.columns)}" for name, row in FORMATS.items())
        raise BadDataError(
            f"{field}: columns {', '.join(sorted(rows[0]))} fit no format ({known}); name them in spec.dataset.columns"
        )
    return found


def convert_rows(rows: list[Row], format_: DataFormat, columns: Columns, task: Task, field: str) -> list[Example]:
    """Every row as an Example.

    Raises:
        BadDataError: rows that cannot be used: the first three by number, and how many more.
        BadConfigError: the task and the format do not go together.
    """
    if task is Task.CHAT and format_ is DataFormat.TEXT:
        raise BadConfigError(f"{field} has only text, without answers; use spec.task TextGeneration")
    examples: list[Example] = []
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            examples.append(_for_task(FORMATS[format_].convert(row, columns), task))
        except RowError as error:
            problems.append(f"row {number}: {error}")
    if problems:
        raise BadDataError(f"{field} ({format_}): {shown(problems)}")
    return examples


def _for_task(example: Example, task: Task) -> Example:
    if task is Task.TEXT_GENERATION and example.turns and len(example.turns) != 2:
        raise RowError("is a conversation; use spec.task Chat")
    return example


def shown(problems: list[str]) -> str:
    """The first problems, and how many more there are."""
    rest = len(problems) - SHOWN_ROWS
    return "; ".join(problems[:SHOWN_ROWS]) + (f"; and {rest} more rows" if rest > 0 else "")
