"""Kubernetes quantities to numbers and back."""

from decimal import Decimal

_FACTORS = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate(("K", "M", "G", "T", "P"), start=1)},
}


def parse_quantity(text: str | int) -> Decimal:
    """The number that a Kubernetes quantity stands for: `500m` is 0.5, `1Gi` is 1073741824.

    Raises:
        ValueError: `text` is no quantity.
    """
    value = str(text).strip()
    digits = value.rstrip("mkMGTPEi")
    try:
        return Decimal(digits) * _FACTORS[value[len(digits) :]]
    except (ArithmeticError, KeyError) as error:
        raise ValueError(
            f"{value!r} is no quantity; write a number with m, k, M, G, T, P, Ki, Mi, Gi, Ti or Pi"
        ) from error


def format_bytes(count: float) -> str:
    """A byte count as the whole number of MiB that holds it: `1536Mi`."""
    mebibytes = -(-int(count) // 2**20)
    return f"{mebibytes}Mi"
