"""Tests of the generated reference pages."""

from pathlib import Path

from tunesmith_api.reference import pages
from tunesmith_api.technique_page import TECHNIQUES_PAGE, filled

REPOSITORY = Path(__file__).parents[2]


def test_the_committed_pages_are_the_generated_ones() -> None:
    """`make generate` was run after the last change of a resource."""
    for path, text in pages().items():
        assert (REPOSITORY / path).read_text() == text, f"{path} is out of date: run `make generate`"


def test_the_tables_of_the_techniques_are_the_generated_ones() -> None:
    """The page's tables are those of the technique table, row by row."""
    page = (REPOSITORY / TECHNIQUES_PAGE).read_text()
    assert page == filled(page), f"{TECHNIQUES_PAGE} is out of date: run `make generate`"
