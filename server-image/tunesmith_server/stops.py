"""Stop strings in a stream: text is released as soon as it can no longer be part of one."""

from collections.abc import Sequence


class StopMatcher:
    """Cut a stream of text before the first stop string that completes.

    The result does not depend on how the text is cut into pieces: the stop that ends first wins, and of two that
    end together the one that starts first.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Add text; what may be shown now. Once `matched` is set nothing more comes."""
        if self.matched is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        if (found := self._first_match()) is not None:
            start, self.matched = found
            return self._release(start, drop_rest=True)
        return self._release(len(self._held) - self._partial())

    def flush(self) -> str:
        """The end of the stream: what was held back and turned out to be no stop string."""
        return self._release(len(self._held))

    def _first_match(self) -> tuple[int, str] | None:
        starts = ((self._held.find(stop), stop) for stop in self._stops)
        found = [(start + len(stop), start, stop) for start, stop in starts if start >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _partial(self) -> int:
        longest = max(map(len, self._stops)) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0

    def _release(self, end: int, *, drop_rest: bool = False) -> str:
        text, self._held = self._held[:end], "" if drop_rest else self._held[end:]
        return text
