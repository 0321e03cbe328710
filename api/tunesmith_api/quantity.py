"""Kubernetes quantities to numbers and back."""

import re
from decimal import Decimal

_FACTORS = {
    "": Decimal(1),
    **{suffix: Decimal(1000) ** -power for power, suffix in enumerate(("m", "u", "n"), start=1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate(("K", "M", "G", "T", "P", "E"), start=1)},
}
_QUANTITY = re.compile(rf"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)({'|'.join(_FACTORS)})")


def parse_quantity(text: str | int) -> Decimal:
    """The number that a Kubernetes quantity stands for: `500m` is 0.5, `1Gi` is 1073741824.

    Raises:
        ValueError: `text` is no quantity.
    """
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is no quantity; write a number with m, k, M, G, T, P, Ki, Mi, Gi, Ti or Pi")
    return Decimal(found[1]) * _FACTORS[found[2]]


def format_bytes(count: float) -> str:
    """A byte count as the whole number of MiB that holds it: `1536Mi`."""
    mebibytes = -(-int(count) // 2**20)
    return f"{mebibytes}Mi"
