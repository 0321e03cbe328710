"""Data formats: one row of `FORMATS` per format, which says how to recognise it and how to convert a row.

Every format becomes an `Example` of its kind.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunesmith_api.enums import DataFormat
from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.conversations import alpaca, messages, plain_text, prompt_completion, share_gpt
from tunesmith_trainer.examples import Example
from tunesmith_trainer.fields import RowError, unpacked
from tunesmith_trainer.labeling import labeled_text, token_labels
from tunesmith_trainer.pairs import names_languages, parallel_text
from tunesmith_trainer.questions import squad
from tunesmith_trainer.readers import Row

__all__ = ["FORMATS", "Format", "RowError", "detect_format"]


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        layouts: sets of columns that a row of this format has, by default names and any one of the sets; Auto looks
            for them.
        renames: the field of `Columns` that gives a default name another one: of every column that is read.
        convert: makes an Example of a row; raises RowError.
    """

    layouts: tuple[tuple[str, ...], ...]
    renames: dict[str, str]
    convert: Callable[[Row, Columns], Example]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the most usual layout."""
        return self.layouts[0]

    def named(self, layout: tuple[str, ...], columns: Columns) -> set[str]:
        """The columns of a layout as the job has them."""
        return {getattr(columns, self.renames.get(name, ""), None) or name for name in layout}


_BESIDE_TURNS = {"system": "system", "tools": "tools"}
FORMATS: dict[DataFormat, Format] = {
    DataFormat.MESSAGES: Format((("messages",),), {"messages": "messages"} | _BESIDE_TURNS, messages),
    DataFormat.SHARE_GPT: Format((("conversations",),), {"conversations": "messages"} | _BESIDE_TURNS, share_gpt),
    DataFormat.ALPACA: Format(
        (("instruction", "output"),),
        {"instruction": "prompt", "input": "input", "output": "completion"} | _BESIDE_TURNS,
        alpaca,
    ),
    DataFormat.PROMPT_COMPLETION: Format(
        (("prompt", "completion"),), {"prompt": "prompt", "completion": "completion"} | _BESIDE_TURNS, prompt_completion
    ),
    DataFormat.SQUAD: Format(
        (("context", "question", "answers"), ("context", "question", "is_impossible")),
        {"context": "context", "question": "question", "answers": "answers", "is_impossible": "impossible"},
        squad,
    ),
    DataFormat.TOKEN_LABELS: Format(
        (("tokens", "tags"), ("tokens", "ner_tags"), ("text", "spans"), ("text", "entities"), ("text", "tags")),
        {"tokens": "tokens", "text": "text"} | dict.fromkeys(("tags", "ner_tags", "spans", "entities"), "tags"),
        token_labels,
    ),
    DataFormat.PARALLEL_TEXT: Format(
        (("source", "target"), ("translation",)),
        {"source": "source", "target": "target", "translation": "translation"},
        parallel_text,
    ),
    DataFormat.LABELED_TEXT: Format(
        (("text", "label"), ("text", "labels")), {"text": "text", "label": "label", "labels": "label"}, labeled_text
    ),
    DataFormat.TEXT: Format((("text",),), {"text": "text"}, plain_text),
}


def detect_format(
    rows: Sequence[Row], columns: Columns, formats: Iterable[DataFormat] = tuple(FORMATS)
) -> DataFormat | None:
    """The first of some formats whose columns any of the rows has; None when there is none."""
    for format_ in FORMATS:
        if format_ in formats and any(_fits(format_, row, columns) for row in rows):
            return format_
    return None


def _fits(format_: DataFormat, row: Row, columns: Columns) -> bool:
    if format_ is DataFormat.PARALLEL_TEXT and names_languages(row, columns):
        return True
    found = FORMATS[format_]
    layouts = [found.named(layout, columns) for layout in found.layouts]
    return any(layout <= set(row) for layout in layouts) and _keyed(format_, row, layouts[0])


def _keyed(format_: DataFormat, row: Row, names: set[str]) -> bool:
    """Whether messages are keyed as the format has it, since `columns.messages` names the column of either."""
    if format_ not in {DataFormat.MESSAGES, DataFormat.SHARE_GPT}:
        return True
    value = unpacked(row[next(iter(names))])
    key = "from" if format_ is DataFormat.SHARE_GPT else "role"
    return not (isinstance(value, list) and value and isinstance(value[0], dict)) or key in value[0]
