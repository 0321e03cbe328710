"""Notations: drawings, openings of pieces, and the share that parses."""

from pathlib import Path

import pytest

from tunesmith_api.enums import Notation, Task
from tunesmith_api.finetunejob import GenerationSpec
from tunesmith_trainer.encode import make_encoder
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.examples import PlainText
from tunesmith_trainer.notation_svg import SvgError, parse_svg
from tunesmith_trainer.notations import NOTATIONS, opening, parse_rate
from tunesmith_trainer.tokenizer import load_tokenizer

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"

DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><title>t</title>'
    '<g fill="red"><circle cx="4" cy="4" r="2"/><path d="M0 0L9 9"/></g></svg>'
)
TUNE = "X:1\nT:a\nM:4/4\nL:1/4\nK:C\n|:CDEF|GABc:|\n"


@pytest.mark.parametrize(
    "text", [DRAWING, "<svg><rect/></svg>", '<?xml version="1.0"?><svg><text>&lt;hi&gt;</text></svg>']
)
def test_drawings_are_read(text):
    """With and without the namespace and the declaration."""
    assert parse_svg(text).tag.endswith("svg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no well-formed XML"),
        ("a circle", "no well-formed XML"),
        ("<svg><rect></svg>", "no well-formed XML"),
        ("<svg><rect/></svg> and more", "no well-formed XML"),
        ('<svg><rect fill="red" fill="blue"/></svg>', "no well-formed XML"),
        ("<g><rect/></g>", "the root is <g>"),
        ("<svg><triangle/></svg>", "<triangle> is no known element"),
        ("<svg><script>alert(1)</script><rect/></svg>", "<script> is no known element"),
        ('<svg><rect/><x:g xmlns:x="http://example.org"/></svg>', "is no known element"),
        ("<svg><g></g></svg>", "nothing is drawn"),
        ('<!DOCTYPE svg [<!ENTITY a "aa">]><svg><text>&a;</text></svg>', "no well-formed XML"),
    ],
)
def test_what_is_no_drawing_is_told(text, message):
    """Broken XML, other roots, unknown elements, entities and empty canvases."""
    with pytest.raises(SvgError) as caught:
        parse_svg(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("notation", "text", "wanted"),
    [
        (Notation.ABC, TUNE, "X:1\nT:a\nM:4/4\nL:1/4\nK:C\n|:CDEF"),
        (Notation.ABC, "X:1\nT:a\nK:C\nCD", "X:1\nT:a\nK:C\nCD"),
        (Notation.ABC, "nothing", "not"),
        (Notation.SVG, DRAWING, DRAWING[: DRAWING.index("</title>") + 8]),
        (Notation.SVG, "<svg><rect/><rect/></svg>", "<svg><rect/>"),
    ],
)
def test_the_opening_of_a_piece(notation, text, wanted):
    """Header and first bar; root and first element; the first half of anything else."""
    assert opening(notation, text) == wanted


@pytest.mark.parametrize(("notation", "text"), [(Notation.SVG, DRAWING), (Notation.ABC, TUNE)])
def test_an_opening_is_no_whole_piece(notation, text):
    """A model that adds nothing to it does not score."""
    assert parse_rate(notation, [text, opening(notation, text)]) == 0.5


class _Silent:
    """A model that says nothing and remembers what it was asked to go on with."""

    def __init__(self):
        self.asked = []

    def generate(self, prompts, *_):
        self.asked += prompts
        return [[] for _ in prompts]


def test_only_beginnings_of_pieces_are_gone_on_with():
    """Of a piece that takes several rows the first has its opening; the others count for the likelihood only."""
    tokenizer, piece = load_tokenizer(MODEL), DRAWING
    (rows,) = make_encoder(tokenizer, Task.TEXT_GENERATION, 8).encode([PlainText(piece)])
    (whole,) = make_encoder(tokenizer, Task.TEXT_GENERATION, 512).encode([PlainText(piece)])
    assert len(rows) > 2
    model, generation = _Silent(), GenerationSpec(max_samples=2, notation=Notation.SVG)
    Evaluator([*rows, *whole], tokenizer, generation, frozenset({0}), 512).generated(model)
    assert len(model.asked) == 2
    assert tokenizer.decode(model.asked[-1]) == opening(Notation.SVG, piece)


def test_every_notation_parses_its_own_pieces_only():
    """The share counts whole pieces of the notation asked for."""
    assert set(NOTATIONS) == set(Notation)
    texts = [TUNE, DRAWING, TUNE[:-12], ""]
    assert parse_rate(Notation.ABC, texts) == 0.25
    assert parse_rate(Notation.SVG, texts) == 0.25
    assert parse_rate(Notation.SVG, []) == 0
