"""The helm binary for the chart's tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _helm() -> Path | None:
    """The embedded cluster's helm, else the one on PATH."""
    cache = Path(os.environ.get("TUNESMITH_CACHE") or Path.home() / ".cache" / "tunesmith")
    found = shutil.which("helm", path=f"{cache / 'bin'}:{os.environ['PATH']}")
    return Path(found) if found else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds helm outside of any test's time limit: the first time it takes minutes."""
    needed = any("helm" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly and _helm() is None:
        subprocess.run([sys.executable, ROOT / "e2e" / "cluster", "tools"], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm binary."""
    found = _helm()
    assert found is not None
    return found
