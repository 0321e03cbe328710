"""Counting rows of a kind while keeping the first ones, which a message names."""

from dataclasses import dataclass, field

from tunesmith_trainer.errors import SHOWN_ROWS
from tunesmith_trainer.examples import Origin


@dataclass
class Tally:
    """Rows of one kind: how many, and the first ones with what is to say of each."""

    count: int = 0
    first: list[tuple[Origin, str]] = field(default_factory=list)

    def add(self, origin: Origin, what: str = "") -> None:
        """Count one more row."""
        self.count += 1
        if len(self.first) < SHOWN_ROWS:
            self.first.append((origin, what))

    def reasons(self, *, with_files: bool) -> str:
        """The first rows with their reasons, and how many more there are."""
        shown = "; ".join(f"{_place(origin, with_files=with_files)}: {what}" for origin, what in self.first)
        rest = self.count - len(self.first)
        return f"{shown}; and {rest} more rows" if rest else shown

    def rows(self, *, with_files: bool) -> str:
        """The first rows' numbers, and how many more there are."""
        if with_files:
            shown = ", ".join(_place(origin, with_files=True) for origin, _ in self.first)
        else:
            shown = f"row{'s' if self.count > 1 else ''} {', '.join(str(origin.row) for origin, _ in self.first)}"
        rest = self.count - len(self.first)
        return f"{shown} and {rest} more" if rest else shown


def _place(origin: Origin, *, with_files: bool) -> str:
    return f"{origin.file} row {origin.row}" if with_files else f"row {origin.row}"
