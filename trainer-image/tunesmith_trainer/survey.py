"""The first pass over a data set: every row is converted and checked before any is tokenised; only counts are held."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tunesmith_api.enums import DataFormat
from tunesmith_trainer.controls import find_control
from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Example, Labeled, TokenLabeled
from tunesmith_trainer.meter import Meter
from tunesmith_trainer.rows import DataSet, Refused
from tunesmith_trainer.tables import data_files
from tunesmith_trainer.tally import Tally

#: More classes than this are no classes: names of a catalogue, or free text.
MOST_CLASSES = 10_000
_LEAST_CLASSES = 2
_SHOWN_CLASSES = 5
_ONE, _SEVERAL = "one label", "a list of labels"


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Attributes:
        examples: rows that can be used.
        labels: names of its classes or kinds of entities, sorted.
        multiple: whether a text may have any number of classes.
        warnings: what a person may want to know.
    """

    examples: int
    labels: tuple[str, ...] = ()
    multiple: bool = False
    warnings: tuple[str, ...] = ()


@dataclass
class _Found:
    """What one pass gathers."""

    examples: int = 0
    refused: Tally = field(default_factory=Tally)
    skipped: dict[str, Tally] = field(default_factory=dict)
    labels: dict[str, Tally] = field(default_factory=dict)
    #: Rows with a control token of the model's in their texts.
    controls: Tally = field(default_factory=Tally)
    #: The rows of each way to give classes: one or a list, IOB names or plain ones.
    ways: dict[str, Tally] = field(default_factory=dict)


def labels_of(example: Example) -> Iterable[str]:
    """The classes of an example, or the kinds of its entities."""
    if isinstance(example, Labeled):
        return example.labels
    return {tag[2:] for tag in example.tags if tag != "O"} if isinstance(example, TokenLabeled) else ()


def _way(example: Example) -> str:
    if isinstance(example, Labeled):
        return _SEVERAL if example.multiple else _ONE
    if isinstance(example, TokenLabeled) and any(tag != "O" for tag in example.tags):
        return "plain tag names" if example.plain else "tags B-name and I-name"
    return ""


def several_files(data: DataSet) -> bool:
    """Whether a row's number needs its file's name."""
    request = data.request
    return len(data_files(request.path, request.split, request.task)) > 1


def survey(data: DataSet, train: Survey | None = None) -> Survey:
    """Check every row.

    Args:
        data: what to check.
        train: what the training rows hold, where these are evaluation rows: they may have no other classes, and give
            them in the same way.

    Raises:
        BadDataError: rows that cannot be used, the first three by number; or classes that cannot be learnt.
    """
    found = _Found()
    meter = Meter("checking rows", field=data.request.field)
    for entry in data.examples():
        meter.add()
        _gather(found, entry, data.request.controls)
        if len(found.labels) > MOST_CLASSES:
            raise BadDataError(
                f"{data.request.field} has more than {MOST_CLASSES} labels; is spec.dataset.columns.label a text?"
            )
    meter.finish()
    with_files = several_files(data)
    if found.refused.count:
        reasons = found.refused.reasons(with_files=with_files)
        raise BadDataError(f"{data.request.field} ({data.format}): {reasons}")
    problem = next(_problems(found, train, data.format, with_files=with_files), None)
    if problem:
        raise BadDataError(f"{data.request.field} ({data.format}): {problem}")
    warnings = tuple(f"{data.request.field}: {warning}" for warning in _warnings(found, with_files=with_files))
    if train is not None:
        return Survey(found.examples, train.labels, train.multiple, warnings)
    return Survey(found.examples, tuple(sorted(found.labels)), _SEVERAL in found.ways, warnings)


def _gather(found: _Found, entry: Example | Refused, controls: re.Pattern[str] | None) -> None:
    if isinstance(entry, Refused):
        tally = found.skipped.setdefault(entry.reason, Tally()) if entry.skipped else found.refused
        tally.add(entry.origin, entry.reason)
        return
    found.examples += 1
    control = find_control(controls, entry)
    if control:
        found.controls.add(entry.origin, control)
    for label in labels_of(entry):
        found.labels.setdefault(label, Tally()).add(entry.origin)
    way = _way(entry)
    if way:
        found.ways.setdefault(way, Tally()).add(entry.origin)


def _warnings(found: _Found, *, with_files: bool) -> Iterator[str]:
    for reason, tally in found.skipped.items():
        yield f"{tally.count} rows skipped, {reason}: {tally.rows(with_files=with_files)}"
    if found.controls.count:
        yield (
            f"{found.controls.count} rows have control tokens of spec.model in their texts, which it reads as such,"
            f" the first one {found.controls.first[0][1]!r}: {found.controls.rows(with_files=with_files)}"
        )
    for alike in _look_alikes(found.labels):
        yield (
            f"labels {' and '.join(repr(label) for label in alike)} differ by blanks or case only and are learnt apart:"
            f" {'; '.join(found.labels[label].rows(with_files=with_files) for label in alike)}"
        )


def _look_alikes(labels: Iterable[str]) -> Iterator[list[str]]:
    """Labels that a person may have meant to be one."""
    same: dict[str, list[str]] = {}
    for label in sorted(labels):
        same.setdefault(label.strip().casefold(), []).append(label)
    return (alike for alike in same.values() if len(alike) > 1)


def _problems(found: _Found, train: Survey | None, data_format: DataFormat, *, with_files: bool) -> Iterator[str]:
    if not found.examples:
        yield "no row is left; every one was skipped"
    ways = [f"{tally.rows(with_files=with_files)}: {way}" for way, tally in found.ways.items()]
    if len(ways) > 1:
        yield f"{'; '.join(ways)}; write all rows alike"
    if train is None:
        yield from _too_few(found, tags=data_format is DataFormat.TOKEN_LABELS)
        return
    usual, other = (_SEVERAL, _ONE) if train.multiple else (_ONE, _SEVERAL)
    if other in found.ways:
        yield f"{ways[0]}, where the training rows have {usual}; write all rows alike"
    for label in sorted(set(found.labels) - set(train.labels)):
        rows = found.labels[label].rows(with_files=with_files)
        known = shown_labels(train.labels)
        yield f"{rows}: label {label!r} is on no training row, so it cannot be learnt; those have {known}"


def _too_few(found: _Found, *, tags: bool) -> Iterator[str]:
    if tags and not found.labels:
        yield "no row has an entity: every tag is O"
    if _SEVERAL in found.ways and not found.labels:
        yield "no row has a label: every list is empty; classification needs a class to learn"
    if _ONE in found.ways and len(found.labels) < _LEAST_CLASSES:
        yield f"every row has the label {next(iter(found.labels))!r}; classification needs two classes or more"


def shown_labels(labels: Sequence[str]) -> str:
    """The first of some labels, and how many more there are."""
    rest = len(labels) - _SHOWN_CLASSES
    return ", ".join(labels[:_SHOWN_CLASSES]) + (f" and {rest} more" if rest > 0 else "")
