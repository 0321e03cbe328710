"""Fixtures for every test: a real API server with simulated nodes, and helm."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from cluster import daemon, layout

CLUSTER = [sys.executable, str(Path(__file__).parents[1] / "e2e" / "cluster")]


#: Modules that share a fixture of minutes, so that one process should run them.
TOGETHER = {"test_train.py": "tuned", "test_export.py": "tuned"}


class ModuleScheduling(LoadScopeScheduling):
    """Keeps the tests of a module in one process when several run side by side.

    Of pytest-xdist's own ways `loadgroup` marks a test by a suffix of its id, which pytest 9.2 does not keep, and
    `loadfile` cannot join two modules.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return TOGETHER.get(Path(module).name, module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ModuleScheduling:
    """Share out the tests by modules, whatever `--dist` says."""
    return ModuleScheduling(config, log)


@dataclass(frozen=True)
class ApiServer:
    """A control plane of our own: etcd, API server, controller manager, scheduler, and kwok as every node's kubelet.

    Create Node objects for pods to run on. A Job's pod becomes Running, then Succeeded; on a node whose name starts
    with "holding-" it stays Running, and a test may patch its status as it likes.
    """

    name: str
    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl as the administrator; CalledProcessError when it fails."""
        argv = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        path = f"{self.kubeconfig.parents[2] / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        return subprocess.run(argv, input=stdin, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout

    def restart(self) -> None:
        """Kills the API server, starts it again, and waits until it is ready."""
        run_cluster("restart-apiserver", "--name", self.name)

    def crash(self) -> None:
        """Kills every process of the control plane, as the end of the machine would."""
        for process in daemon.recorded(self.kubeconfig.parent):
            os.kill(process.pid, signal.SIGKILL)

    def up(self) -> None:
        """Starts what does not run."""
        run_cluster("up", "--name", self.name, "--control-plane-only")


def run_cluster(*arguments: str) -> str:
    """Runs a command of e2e/cluster and returns its standard output; its progress goes to standard error."""
    return subprocess.run([*CLUSTER, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds the tools outside of any test's time limit: the first time it takes minutes."""
    if session.config.option.collectonly:
        return
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "apiserver" in needed:
        run_cluster("tools", "--only", "kube")
    if "helm" in needed and _helm() is None:
        run_cluster("tools")


def _helm() -> Path | None:
    """The embedded cluster's helm, else the one on PATH."""
    found = shutil.which("helm", path=f"{layout.bin_dir()}:{os.environ['PATH']}")
    return Path(found) if found else None


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm binary."""
    found = _helm()
    assert found is not None
    return found


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """A fresh control plane for this test session, stopped at its end."""
    _remove_abandoned()
    name = f"test-{os.getpid()}"  # sessions side by side must not meet
    try:
        run_cluster("up", "--name", name, "--control-plane-only")
        run_cluster("kwok", "--name", name)
        yield ApiServer(name, Path(run_cluster("kubeconfig", "--name", name).strip()))
    finally:
        run_cluster("down", "--name", name)


def _remove_abandoned() -> None:
    """Takes down what sessions that were killed have left running."""
    for found in layout.known():
        prefix, _, pid = found.name.rpartition("-")
        if prefix == "test" and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            run_cluster("down", "--name", found.name)
