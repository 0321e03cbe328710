"""Labels as a plot can draw them."""

import pytest
from matplotlib.font_manager import fontManager, get_font

from tunesmith_trainer.lettering import LONGEST, families, font_of, lettered


@pytest.mark.parametrize("label", ["billing", "возврат средств", "عربي", "עברית", "ελληνικά", "a" * LONGEST])
def test_a_label_that_fits_stays_as_it_is(label):
    """In every script that the default font has."""
    assert lettered([label]) == [label]
    assert families([label]) == ["DejaVu Sans"]


def test_a_long_label_loses_its_middle():
    """Two that begin alike are still told apart, and both have the length that a plot has room for."""
    labels = [f"customer_complaint_about_delivery_times_in_{place}" for place in ("europe", "asia")]
    assert lettered(labels) == ["customer_compl…mes_in_europe", "customer_compl…times_in_asia"]
    assert {len(one) for one in lettered(labels)} == {LONGEST}


def test_letters_without_a_font_give_way_to_the_place_of_the_label():
    """What is left of the label stays; so has a label of nothing its place."""
    unknown = chr(0x10FFFD)  # a private character, which no font has
    assert lettered(["a", unknown, f"joy {unknown} day", "  "]) == ["a", "#2", "#3 joy day", "#4"]


def test_a_label_is_one_line():
    """A line end would push the labels beside it away."""
    assert lettered(["two\n lines"]) == ["two lines"]


def test_fonts_of_the_machine_help_the_default_one():
    """A letter that the default font lacks is drawn by one that has it."""
    default = get_font(fontManager.findfont("DejaVu Sans"))
    others = [get_font(one.fname) for one in fontManager.ttflist if one.name == "STIXNonUnicode"]
    letter = next(chr(code) for code in others[0].get_charmap() if not default.get_char_index(code))
    helper = font_of(letter)
    assert helper
    assert families(["a", letter]) == ["DejaVu Sans", helper]
    assert lettered([letter]) == [letter]
