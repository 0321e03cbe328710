"""Formats with classes: LabeledText (of a whole text) and TokenLabels (of its words)."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.examples import Labeled, Span, TokenLabeled
from tunesmith_trainer.fields import RowError, checked_text, list_of, present, shown, text_of, unpacked, value_of
from tunesmith_trainer.readers import Row

OUTSIDE = "O"
_IOB = re.compile(r"[BI]-.+", re.DOTALL)
_WORD = re.compile(r"\w+|[^\w\s]")
_SPAN_FIELDS = ("start", "end", "label")
_LABELS_WAY_OUT = (
    'write a JSON list such as ["a", "b"], or name the column in spec.dataset.columns.label if each text has one class'
)


def labeled_text(row: Row, columns: Columns) -> Labeled:
    """A text with its class, or with the list of its classes; a text in `labels` does not say which it is."""
    text = text_of(row, columns.text or "text")
    column = present(row, columns.label, "label", "labels")
    found = value_of(row, column)
    value = unpacked(found)
    if not isinstance(value, list):
        if isinstance(found, str) and column == "labels" and columns.label is None:
            raise RowError(f"labels is text, not a list: {shown(found)}; {_LABELS_WAY_OUT}")
        return Labeled(text, (_label(found, column),))
    names = [_label(one, f"{column}[{place}]") for place, one in enumerate(value)]
    return Labeled(text, tuple(dict.fromkeys(names)), multiple=True)


def _label(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        if value < 0:
            raise RowError(f"{where} is {value}, the mark of a row without a label; leave such rows out")
        return str(value)
    return checked_text(value, where)


def token_labels(row: Row, columns: Columns) -> TokenLabeled:
    """Tokens with a tag each, or a text with the character spans of its entities."""
    tokens = columns.tokens or "tokens"
    text = columns.text or "text"
    return _spanned(row, columns, text) if text in row and tokens not in row else _tagged(row, columns, tokens)


def _tagged(row: Row, columns: Columns, column: str) -> TokenLabeled:
    tokens = [checked_text(token, f"{column}[{place}]") for place, token in enumerate(list_of(row, column))]
    if not tokens:
        raise RowError(f"{column} is empty")
    names = present(row, columns.tags, "tags", "ner_tags")
    tags = [_tag(tag, f"{names}[{place}]") for place, tag in enumerate(list_of(row, names))]
    if len(tags) != len(tokens):
        raise RowError(f"{names} has {len(tags)} entries, {column} has {len(tokens)}; each token needs one tag")
    plain = not any(_IOB.fullmatch(tag) for tag in tags) and any(tag != OUTSIDE for tag in tags)
    found = _from_names(tags) if plain else _from_iob(tags, names)
    return TokenLabeled(" ".join(tokens), tuple(_places(tokens)), tuple(found), plain)


def _tag(value: Any, where: str) -> str:
    if isinstance(value, int):
        raise RowError(
            f"{where} is the number {value}; write the tag's name, such as B-PER, or keep the schema's names"
        )
    return checked_text(value, where)


def _places(tokens: list[str]) -> Iterator[tuple[int, int]]:
    at = 0
    for token in tokens:
        yield at, at + len(token)
        at += len(token) + 1


def _from_iob(tags: list[str], column: str) -> Iterator[str]:
    """IOB2: an I tag that continues nothing becomes B, as IOB1 data (CoNLL-2003) have it."""
    before = OUTSIDE
    for place, tag in enumerate(tags):
        if tag != OUTSIDE and not _IOB.fullmatch(tag):
            raise RowError(f"{column}[{place}] is {shown(tag)}, which is neither O nor B-name nor I-name")
        yield f"B{tag[1:]}" if tag.startswith("I-") and before[2:] != tag[2:] else tag
        before = tag


def _from_names(tags: list[str]) -> Iterator[str]:
    """Plain names: neighbours of one name are one entity."""
    before = OUTSIDE
    for tag in tags:
        yield OUTSIDE if tag == OUTSIDE else f"{'I' if tag == before else 'B'}-{tag}"
        before = tag


def _spanned(row: Row, columns: Columns, column: str) -> TokenLabeled:
    text = text_of(row, column)
    names = present(row, columns.tags, "spans", "entities", "tags")
    entries = [_span(entry, text, f"{names}[{place}]") for place, entry in enumerate(list_of(row, names))]
    spans = sorted(entries, key=lambda span: span.start)
    for first, second in pairwise(spans):
        if second.start < first.end:
            raise RowError(f"{names}: {_quoted(first)} and {_quoted(second)} overlap; keep one of them")
    words = tuple(_words(text, {edge for span in spans for edge in (span.start, span.end)}))
    return TokenLabeled(text, words, tuple(_tags(words, spans)))


def _quoted(span: Span) -> str:
    return f"{span.label} {span.start}-{span.end}"


def _span(entry: Any, text: str, where: str) -> Span:
    fields = dict(zip(_SPAN_FIELDS, entry, strict=False)) if isinstance(entry, list | tuple) else entry
    if not isinstance(fields, dict):
        raise RowError(f"{where} is {shown(entry)}, not an object of start, end, label")
    missing = next((name for name in _SPAN_FIELDS if fields.get(name) is None), None)
    if missing:
        raise RowError(f"{where}.{missing} is missing")
    start, end = fields["start"], fields["end"]
    if type(start) is not int or type(end) is not int:
        raise RowError(f"{where} runs from {shown(start)} to {shown(end)}; start and end are whole numbers")
    if not 0 <= start < end <= len(text):
        raise RowError(f"{where} runs from {start} to {end}, outside the text of {len(text)} characters")
    if not text[start:end].strip():
        raise RowError(f"{where} covers only blanks")
    return Span(start, end, checked_text(fields["label"], f"{where}.label"))


def _words(text: str, edges: set[int]) -> Iterator[tuple[int, int]]:
    """Words and signs, cut where a span begins or ends, so that each is inside or outside of it."""
    for found in _WORD.finditer(text):
        inner = [edge for edge in range(found.start() + 1, found.end()) if edge in edges] if edges else []
        yield from zip([found.start(), *inner], [*inner, found.end()], strict=True)


def _tags(words: tuple[tuple[int, int], ...], spans: list[Span]) -> Iterator[str]:
    left = iter(spans)
    span = next(left, None)
    begun = False
    for start, _ in words:
        while span is not None and start >= span.end:
            span, begun = next(left, None), False
        if span is None or start < span.start:
            yield OUTSIDE
        else:
            yield f"{'I' if begun else 'B'}-{span.label}"
            begun = True
