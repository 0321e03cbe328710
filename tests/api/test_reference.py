"""Tests of the generated reference pages."""

from pathlib import Path

from tunesmith_api.reference import pages

REPOSITORY = Path(__file__).parents[2]


def test_the_committed_pages_are_the_generated_ones() -> None:
    """`make generate` was run after the last change of a resource."""
    for path, text in pages().items():
        assert (REPOSITORY / path).read_text() == text, f"{path} is out of date: run `make generate`"
