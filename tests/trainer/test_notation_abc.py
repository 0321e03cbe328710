"""The parser of ABC: durations of real tunes, and what is no tune."""

from fractions import Fraction

import pytest

from tunesmith_trainer.notation_abc import AbcError, parse_abc

#: The first tune of the ABC standard 2.1.
SPEED_THE_PLOUGH = """X:1
T:Speed the Plough
M:4/4
C:Trad.
K:G
|:GABc dedB|dedB dedB|c2ec B2dB|c2A2 A2BA|
  GABc dedB|dedB dedB|c2ec B2dB|A2F2 G4:|
|:g2gf gdBd|g2f2 e2d2|c2ec B2dB|c2A2 A2df|
  g2gf g2Bd|g2f2 e2d2|c2ec B2dB|A2F2 G4:|
"""
#: A waltz with chords, grace notes, ornaments, triplets, broken rhythm, a pick-up, endings, comments and directives.
ORNATE = """X: 2
%%MIDI program 26
T: A Test of Ornaments
C: nobody
M: 3/4 % a waltz
L: 1/8
Q: 1/4=120
K: D mix clef=treble
V: 1
"D"(3ABc | "D"d>e {fg}f2 [Ad]2- | [Ad]2 !trill!g2 ~a2 |1 (3:2:3 b2a2g2 f2 :|2 d'6 |]
w: la la la
[M:2/4] z2 D,,2 | x D/E/ (F/4G/4A/ B) |]
"""


def header(**fields):
    """A tune of one bar with some header fields changed or, by None, left out."""
    known = {"X": "1", "T": "a", "M": "4/4", "L": "1/4", "K": "C", **fields}
    return "".join(f"{name}:{value}\n" for name, value in known.items() if value is not None)


def bars(music, **fields):
    """Lengths of the bars of some music, in whole notes."""
    return parse_abc(header(**fields) + music).bars


def test_every_bar_of_a_real_tune_has_the_length_of_its_meter():
    """Sixteen bars of four quarters, 93 notes."""
    tune = parse_abc(SPEED_THE_PLOUGH)
    assert tune.fields["T"] == "Speed the Plough"
    assert tune.bars == (Fraction(1),) * 16
    assert tune.meter == 1
    assert tune.notes == 93


def test_ornaments_do_not_change_the_time():
    """Grace notes, chords and slurs take no time of their own; triplets and dotted pairs share theirs."""
    tune = parse_abc(ORNATE)
    quarter = Fraction(1, 4)
    assert tune.meter == 3 * quarter
    assert tune.bars == (quarter, 3 * quarter, 3 * quarter, 3 * quarter, 3 * quarter, 2 * quarter, 2 * quarter)


@pytest.mark.parametrize(
    ("music", "quarters"),
    [
        ("CDEF|", 4),
        ("C2D/2E/F//G/4|", 2 + 1 / 2 + 1 / 2 + 1 / 4 + 1 / 4),
        ("C3/2D3/|", 3),
        ("C>D|", 2),
        ("C>>D|", 2),
        ("C2<D|", 1 + 3 / 2),
        ("(3CDEF|", 3),
        ("(3:2:2CDE|", 2 * 2 / 3 + 1),
        ("[CEG]2z x|", 4),
        ("[C2E2]2|", 4),
        ("C&D2|", 2),
        ("^C __D =E _/F|", 4),
        ("!fermata!C {de}D ~E .F|", 4),
        ("C\\\n D|", 2),
    ],
)
def test_lengths_of_notes(music, quarters):
    """One bar's length, the unit being a quarter."""
    assert sum(bars(music)) == Fraction(quarters).limit_denominator(100) / 4


@pytest.mark.parametrize(
    ("meter", "unit", "length"),
    [("4/4", None, 8), ("2/4", None, 16), ("6/8", None, 8), ("C|", None, 8), ("2/4", "1/2", 2)],
)
def test_the_unit_length_follows_from_the_meter(meter, unit, length):
    """Below three quarters a note is a sixteenth, else an eighth, unless L: says it (section 3.1.7)."""
    assert bars("C|", M=meter, L=unit) == (Fraction(1, length),)


def test_triplets_of_five_depend_on_the_meter():
    """Five in the time of three in a compound meter, of two in a simple one (section 4.13)."""
    assert bars("(5CDEFG|", M="6/8", L="1/8") == (Fraction(3, 8),)
    assert bars("(5CDEFG|", M="4/4", L="1/8") == (Fraction(2, 8),)


@pytest.mark.parametrize(
    "key",
    [
        "C",
        "F#m",
        "Bb",
        "Am",
        "A minor",
        "Ador",
        "D mixolydian",
        "none",
        "HP",
        "D exp _b ^f",
        "G clef=bass",
        "C treble",
        "Dphr ^F",
    ],
)
def test_keys_of_the_standard(key):
    """Tonic, mode, accidentals and clef."""
    assert parse_abc(header(K=key) + "CDEF|").fields["K"] == key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no K: field"),
        ("Once upon a time", "no K: field"),
        ("T:a\nX:1\nK:C\nCDE|", "line 1: the first field is T:"),
        (header(T=None) + "CDE|", "no T: field"),
        (header(X="one") + "CDE|", "line 1: X:one is malformed"),
        (header(M="four") + "CDE|", "M:four is malformed"),
        (header(M="0/4") + "CDE|", "M:0/4 is malformed"),
        (header(L="1/3") + "CDE|", "L:1/3 is malformed"),
        (header(K="H") + "CDE|", "K:H is malformed"),
        (header(K="Cfoo") + "CDE|", "K:Cfoo is malformed"),
        (header(), "has no note"),
        (header() + "zzzz|", "has no note"),
        (header() + "|:CDEF", "no bar line ends a bar"),
        (header() + "CD?|", "line 6, column 3"),
        (header() + "C D [EG | c", "line 6, column 5"),
        (header() + '"Am C D|', "line 6, column 1"),
        (header() + "C {D| E}", "line 6, column 3"),
        (header() + "C/0|", "has no length"),
        (header() + "C0|", "has no length"),
        (header() + "C" + "9" * 5000 + "|", "has no length"),
        (header() + ">C D|", "follows no note"),
        (header() + "CDEF|\n\nand more", "line 7: a blank line"),
        ("X:1\nHello there\nK:C\nC|", "line 2: 'Hello there' is no header field"),
        (header() + "[L:7]CD|", "L:7 is malformed"),
    ],
)
def test_what_is_no_tune_is_told_with_its_line(text, message):
    """Malformed fields, unknown symbols, open brackets, and tunes of nothing."""
    with pytest.raises(AbcError) as caught:
        parse_abc(text)
    assert message in str(caught.value)
