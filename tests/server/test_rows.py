"""Tests of the pure scheduling decisions: groups, exchanges, shared prefixes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_server.engine import Sequence
from tunesmith_server.rows import Group, Row, shared_prefix, swaps
from tunesmith_server.sampling import SamplingParams


def row(tokens: list[int], cached: int) -> Row:
    """A row in some state."""
    made = Row.start("r", Sequence(0, tuple(tokens), SamplingParams(), 10), lambda _: None, 0)
    made.cached = cached
    return made


@given(st.lists(st.sampled_from(list(Group)), max_size=16))
def test_exchanges_sort_the_groups_and_move_nothing_else(groups):
    """After the exchanges groups are contiguous, and each exchange puts at least one row in its place for good."""
    moves = swaps(groups)
    current, target = list(groups), sorted(groups)
    for here, there in moves:
        assert current[here] != target[here]
        assert current[there] != target[there]
        current[here], current[there] = current[there], current[here]
        assert current[here] == target[here]
    assert current == target


def test_one_hole_costs_one_move():
    """When one of several decoding rows finishes, only the last one moves, into the hole."""
    short, free = Group.SHORT, Group.FREE
    assert swaps([short, free, short, short]) == [(1, 3)]


@pytest.mark.parametrize(
    ("length", "cached", "switch", "group"),
    [
        (5, 0, None, Group.PREFILL),
        (5, 3, None, Group.PREFILL),
        (5, 4, None, Group.SHORT),
        (1, 0, None, Group.SHORT),
        (5, 4, 5, Group.SHORT),
        (6, 5, 5, Group.LONG),
        (6, 0, 5, Group.PREFILL),
    ],
)
def test_a_row_is_decoded_when_one_token_is_left_and_long_beyond_the_switch(length, cached, switch, group):
    """Rows with several uncached tokens are prefilled; beyond the original context they are long."""
    assert row([7] * length, cached).group(switch) is group


@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=40),
    st.lists(st.integers(0, 1), min_size=1, max_size=40),
    st.data(),
)
def test_a_shared_prefix_is_really_shared(mine, theirs, data):
    """What is copied is equal in both rows, cached in the other, and leaves a token to compute."""
    other = row(theirs, data.draw(st.integers(0, len(theirs))))
    shared = shared_prefix(row(mine, 0), other, None)
    assert mine[:shared] == theirs[:shared]
    assert shared <= other.cached
    assert shared < len(mine)


def test_rows_on_both_sides_of_the_switch_share_nothing():
    """Keys with short factors are of no use to a row with long ones."""
    tokens = list(range(30))
    assert shared_prefix(row(tokens[:20], 0), row(tokens, 30), None) == 19
    assert shared_prefix(row(tokens[:20], 0), row(tokens, 30), 25) == 0
