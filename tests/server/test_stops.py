"""Tests of stop strings in a stream."""

from hypothesis import given
from hypothesis import strategies as st

from tunesmith_server.stops import StopMatcher

TEXT = st.text("ab<|", max_size=30)
STOPS = st.lists(st.text("ab<|", min_size=1, max_size=5), max_size=4)


def naive(text: str, stops: list[str]) -> tuple[str, bool]:
    """Try every end position, and every stop at it, longest first."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - len(max(ending, key=len))], True
    return text, False


def run(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """Feed the pieces to a matcher."""
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in pieces)
    matched = matcher.matched is not None
    return shown + ("" if matched else matcher.flush()), matched


@given(st.lists(TEXT, max_size=8), STOPS)
def test_a_stream_is_cut_where_the_whole_text_is(pieces, stops):
    """However the text is cut into pieces, the result is the naive search's over the whole text."""
    assert run(pieces, stops) == naive("".join(pieces), stops)


@given(TEXT, STOPS)
def test_nothing_is_held_back_that_cannot_become_a_stop(text, stops):
    """After each character, what is held back is the beginning of some stop string."""
    matcher, shown, seen = StopMatcher(stops), "", ""
    for character in text:
        shown, seen = shown + matcher.feed(character), seen + character
        if matcher.matched is not None:
            break
        held = seen[len(shown) :]
        assert seen == shown + held
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_a_stop_string_may_span_pieces():
    """A stop string whose halves come apart is never shown."""
    matcher = StopMatcher(["<|end|>"])
    assert [matcher.feed(piece) for piece in ("on <", "|e", "nd|", "> more")] == ["on ", "", "", ""]
    assert matcher.matched == "<|end|>"
