"""Holding rows out: as many as asked, by the seed, each row as likely as another."""

from collections import Counter

import pytest

from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.holdout import draw, held_out_count


@pytest.mark.parametrize(("total", "count"), [(1, 0), (10, 10), (10, 1), (1000, 137)])
def test_exactly_as_many_as_asked(total, count):
    """The number is exact for every seed."""
    assert {sum(draw(total, count, seed)) for seed in range(20)} == {count}


def test_the_seed_decides():
    """The same seed draws the same rows, another one others."""
    first, again, other = (list(draw(100, 30, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_every_row_is_as_likely():
    """Over 2000 seeds each of ten rows is drawn about 600 times; 100 more or less is five deviations."""
    drawn = Counter(place for seed in range(2000) for place, chosen in enumerate(draw(10, 3, seed)) if chosen)
    assert set(drawn) == set(range(10))
    assert all(500 < count < 700 for count in drawn.values()), drawn


def test_one_row_at_least_is_held_out_and_one_is_left():
    """A small fraction still gives something to measure on, and a large one must leave something to learn from."""
    assert held_out_count(5, 0.01, "f") == 1
    assert held_out_count(100, 0.25, "f") == 25
    with pytest.raises(BadDataError, match=r"f: holding out a fraction of 0\.9 of 2 rows leaves none to train on"):
        held_out_count(2, 0.9, "f")
