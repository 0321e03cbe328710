"""Labels as a plot can draw them: short, and in letters that a font of this machine has.

Data name their classes as they like: in any script, at any length, with line ends and dollar signs.
"""

from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import fontManager, get_font

#: Characters of a label that still leave room for the plot.
LONGEST = 28
_DEFAULT = "DejaVu Sans"
#: The font that draws a box for every letter.
_BOXES = "Last Resort High-Efficiency"


def lettered(labels: Sequence[str]) -> list[str]:
    """Each label for a plot: letters that no font has give way to the label's place, as in `#3`, counted from 1."""
    return [_shortened(_drawable(label, place)) for place, label in enumerate(labels, start=1)]


def _drawable(label: str, place: int) -> str:
    line = " ".join(label.split())
    kept = "".join(letter for letter in line if font_of(letter))
    if kept == line and line:
        return line
    return f"#{place} {' '.join(kept.split())}".strip()


def _shortened(label: str) -> str:
    """The middle goes: classes often share their beginning or their end."""
    if len(label) <= LONGEST:
        return label
    head = LONGEST // 2
    return f"{label[:head]}…{label[head + 1 - LONGEST :]}"


def families(labels: Sequence[str]) -> list[str]:
    """The fonts that the labels take together, the default first: those of the machine may come to its help."""
    found = {font_of(letter) for label in labels for letter in label}
    return [_DEFAULT, *sorted(found - {_DEFAULT, ""})]


@cache
def font_of(letter: str) -> str:
    """The first font family that has a letter; empty when none has."""
    entries = sorted(fontManager.ttflist, key=lambda entry: (entry.name != _DEFAULT, entry.name))
    usable = (entry for entry in entries if entry.name != _BOXES)
    return next((one.name for one in usable if get_font(one.fname).get_char_index(ord(letter))), "")
