"""Tests of Kubernetes quantities."""

from decimal import Decimal

import pytest

from tunesmith_api.quantity import format_bytes, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", "2"),
        (4, "4"),
        ("500m", "0.5"),
        ("1.5", "1.5"),
        ("24581684Ki", str(24581684 * 1024)),
        ("1Gi", str(2**30)),
        ("1G", "1000000000"),
        ("3k", "3000"),
        ("12E", "12000000000000000000"),
        ("1e3", "1000"),
        ("120n", "0.00000012"),
        ("0", "0"),
    ],
)
def test_a_quantity_is_the_number_that_kubernetes_means(text: str | int, number: str) -> None:
    """Every suffix that the API server writes is understood: memory in Ki, CPU in m, exponents."""
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1Gb", "-", "one"])
def test_what_is_no_quantity_is_named(text: str) -> None:
    """The message carries the text and the suffixes that work."""
    with pytest.raises(ValueError, match="is no quantity; write a number with"):
        parse_quantity(text)


def test_bytes_are_rounded_up_to_mebibytes() -> None:
    """A request never is below the need."""
    assert format_bytes(2**20 + 1) == "2Mi"
