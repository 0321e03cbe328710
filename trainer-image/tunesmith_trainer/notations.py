"""Creative notations: how a generation is parsed, and what part of a held-out piece a model is asked to continue."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith_api.enums import Notation
from tunesmith_trainer.metrics_text import mean
from tunesmith_trainer.notation_abc import parse_abc
from tunesmith_trainer.notation_svg import parse_svg


@dataclass(frozen=True)
class NotationKind:
    """One notation.

    Attributes:
        parse: raises ValueError when a text is no whole piece.
        opening: the beginning of a piece, by its first group: what a model continues.
    """

    parse: Callable[[str], object]
    opening: re.Pattern[str]


NOTATIONS: dict[Notation, NotationKind] = {
    # The header and the notes of the first bar, without the line that ends it: with it, it would be a whole tune.
    Notation.ABC: NotationKind(parse_abc, re.compile(r"\s*((?:.*\n)*?K:.*\n[|:\[\]\s]*[^|\n]*)")),
    # The root's tag and the first element that ends: one with a slash, or the first closing tag.
    Notation.SVG: NotationKind(parse_svg, re.compile(r"\s*(<svg\b[^>]*>.*?(?:/>|</\w+>))", re.DOTALL)),
}


def parses(notation: Notation, text: str) -> bool:
    """Whether a text is a whole piece."""
    try:
        NOTATIONS[notation].parse(text)
    except ValueError:
        return False
    return True


def parse_rate(notation: Notation, texts: Sequence[str]) -> float:
    """Share of texts that are whole pieces, 0 to 1."""
    return mean([parses(notation, text) for text in texts])


def opening(notation: Notation, text: str) -> str:
    """The beginning of a piece; its first half when it does not look like one."""
    found = NOTATIONS[notation].opening.match(text)
    return found[1] if found else text[: len(text) // 2]
