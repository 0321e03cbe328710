"""Fixtures for tests on a real node."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import deploy

CLUSTER = [sys.executable, str(Path(__file__).parents[1] / "cluster")]


@dataclass(frozen=True)
class Cluster:
    """The embedded cluster with its node."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl as the administrator; CalledProcessError when it fails."""
        argv = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        path = f"{self.kubeconfig.parents[2] / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        return subprocess.run(argv, input=stdin, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def _run(*arguments: str) -> str:
    return subprocess.run([*CLUSTER, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds the tools outside of any test's time limit: the first time it takes a quarter of an hour."""
    if session.items and not session.config.option.collectonly:
        _run("tools")


@pytest.fixture(scope="session")
def run_cluster() -> Callable[..., str]:
    """Runs a command of e2e/cluster and returns its standard output; its progress goes to standard error."""
    return _run


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster named default: one that runs already is used and left running, else it is stopped at the end."""
    running = subprocess.run([*CLUSTER, "status"], check=False, capture_output=True).returncode == 0
    _run("up")
    yield Cluster(Path(_run("kubeconfig").strip()))
    if not running:
        _run("down")


@pytest.fixture(scope="session")
def product(cluster: Cluster) -> deploy.Tools:
    """The chart, installed with images of the working tree, on the embedded cluster."""
    path = f"{cluster.kubeconfig.parents[2] / 'bin'}:{os.environ['PATH']}"
    tools = deploy.Tools({**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": path})
    deploy.install_chart(tools, deploy.embedded_images())
    return tools
