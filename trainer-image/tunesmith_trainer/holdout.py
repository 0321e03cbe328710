"""Which rows are held out: exactly as many as asked, drawn with the seed, one row at a time."""

import random
from collections.abc import Iterator

from tunesmith_trainer.errors import BadDataError


def held_out_count(total: int, fraction: float, field: str) -> int:
    """How many of some rows a fraction holds out, one at least.

    Raises:
        BadDataError: none would be left to train on.
    """
    count = max(1, round(total * fraction))
    if count >= total:
        raise BadDataError(
            f"{field}: holding out a fraction of {fraction} of {total} rows leaves none to train on; add rows"
        )
    return count


def draw(total: int, count: int, seed: int) -> Iterator[bool]:
    """For each of `total` rows whether it is held out; selection sampling holds nothing (Knuth, volume 2, 3.4.2 S)."""
    generator = random.Random(seed)  # noqa: S311 - a split, no secret
    wanted = count
    for left in range(total, 0, -1):
        chosen = generator.random() * left < wanted
        wanted -= chosen
        yield chosen
