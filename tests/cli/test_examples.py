"""Tests of the example manifests."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunesmith_cli.__main__ import app

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = [
    path.relative_to(REPOSITORY)
    for path in sorted((REPOSITORY / "examples").rglob("*.yaml"))
    if path.name != "kustomization.yaml"
]


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_every_example_is_valid(path: Path) -> None:
    """`tunesmith validate` finds nothing to say against an example."""
    result = CliRunner().invoke(app, ["validate", str(REPOSITORY / path)])

    assert result.exit_code == 0, result.output
    assert "valid" in result.output
