"""The types that every format becomes: equal by content, with the row that a message names beside it."""

import pytest

from tunesmith_trainer.examples import Labeled, Origin, Span, TokenLabeled


def test_equality_leaves_the_origin_out():
    """The same content in two files is one example, which is what the leak check counts."""
    here, there = (Labeled("a", ("x",), origin=Origin(file, 1)) for file in ("train.jsonl", "test.jsonl"))
    assert here == there
    assert len({here, there}) == 1
    assert repr(here) == repr(there)


CASES = [
    (("O", "O", "O"), ()),
    (("B-PER", "I-PER", "O"), (Span(0, 5, "PER"),)),
    (("B-PER", "B-PER", "B-LOC"), (Span(0, 2, "PER"), Span(3, 5, "PER"), Span(6, 8, "LOC"))),
    (("O", "B-LOC", "I-LOC"), (Span(3, 8, "LOC"),)),
]


@pytest.mark.parametrize(("tags", "spans"), CASES)
def test_tags_are_entities_of_the_text(tags, spans):
    """An entity runs from its B tag over its I tags."""
    example = TokenLabeled("ab cd ef", ((0, 2), (3, 5), (6, 8)), tags)
    assert example.tokens == ("ab", "cd", "ef")
    assert example.spans == spans
