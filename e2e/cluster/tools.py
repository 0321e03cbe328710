"""The cluster's programs, built from Go modules pinned by go.mod and go.sum, and kept by the hash of what went in."""

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster import host
from cluster.errors import ClusterError
from cluster.layout import bin_dir, cache_dir

MODULES = Path(__file__).parent / "go"


@dataclass(frozen=True)
class Tool:
    """A program: its name on PATH, the folder of its go.mod, its Go package, and whether API-server tests need it."""

    name: str
    module: str
    package: str
    control_plane: bool = False


TOOLS = (
    Tool("etcd", "kube", "go.etcd.io/etcd/server/v3", control_plane=True),
    Tool("kubectl", "kube", "k8s.io/kubernetes/cmd/kubectl", control_plane=True),
    Tool("kube-apiserver", "kube", "k8s.io/kubernetes/cmd/kube-apiserver", control_plane=True),
    Tool("kube-controller-manager", "kube", "k8s.io/kubernetes/cmd/kube-controller-manager", control_plane=True),
    Tool("kube-scheduler", "kube", "k8s.io/kubernetes/cmd/kube-scheduler", control_plane=True),
    Tool("kwok", "kube", "sigs.k8s.io/kwok/cmd/kwok", control_plane=True),
    Tool("kubelet", "kube", "k8s.io/kubernetes/cmd/kubelet"),
    Tool("kube-proxy", "kube", "k8s.io/kubernetes/cmd/kube-proxy"),
    Tool("containerd", "containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    Tool("containerd-shim-runc-v2", "containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    Tool("ctr", "containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
    Tool("coredns", "coredns", "github.com/coredns/coredns"),
    Tool("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry"),
    Tool("local-path-provisioner", "provisioner", "github.com/rancher/local-path-provisioner"),
    Tool("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
)

#: Object stores that tests run beside the cluster; built only when a test asks for one.
TEST_SERVERS = (
    Tool("versitygw", "objectstores", "github.com/versity/versitygw/cmd/versitygw"),
    Tool("fake-gcs-server", "objectstores", "github.com/fsouza/fake-gcs-server"),
)


def ensure(name: str) -> Path:
    """Builds one tool, or one of the tests' servers, unless it is there, and returns its path."""
    tool = next(tool for tool in (*TOOLS, *TEST_SERVERS) if tool.name == name)
    target = _target(tool)
    if not target.exists():
        _build(tool, target, "[1/1]")
    return target


def build(*, only_control_plane: bool = False, quiet: bool = False) -> Path:
    """Builds what is missing, links it into one folder, and returns that folder.

    Args:
        only_control_plane: Leave out what only a real node needs.
        quiet: Say nothing about tools that are already there.
    """
    wanted = [tool for tool in TOOLS if tool.control_plane or not only_control_plane]
    targets = {tool: _target(tool) for tool in wanted}
    missing = [tool for tool, target in targets.items() if not target.exists()]
    for number, tool in enumerate(missing, start=1):
        _build(tool, targets[tool], f"[{number}/{len(missing)}]")
    for tool, target in targets.items():
        _link(bin_dir() / tool.name, target)
    if not quiet:
        print(f"{len(wanted)} tools in {bin_dir()} ({len(missing)} built, {len(wanted) - len(missing)} cached)")
    return bin_dir()


def version(module: str, path: str) -> str:
    """The version of the Go module `path` in a go.mod here, such as v1.36.3."""
    text = (MODULES / module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise ClusterError(f"{MODULES / module / 'go.mod'} does not require {path}.")
    return found[1]


def command(name: str) -> str:
    """The absolute path of a built tool."""
    return str(bin_dir() / name)


def run(arguments: Iterable[str], *, stdin: str | None = None, check: bool = True) -> str:
    """Runs a program to its end and returns its standard output.

    Raises:
        ClusterError: It is not there, or failed; the message has the command and its standard error.
    """
    argv = list(arguments)
    try:
        answer = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ClusterError(f"{argv[0]} is not there: install it, or build it with: python3 e2e/cluster tools") from None
    if check and answer.returncode != 0:
        raise ClusterError(f"{' '.join(argv)} failed ({answer.returncode}):\n{answer.stderr.strip()[-3000:]}")
    return answer.stdout


def _flags() -> list[str]:
    release = version("kube", "k8s.io/kubernetes")
    major, minor, _ = release.removeprefix("v").split(".", 2)
    stamp = "k8s.io/component-base/version"
    linker = f"-s -w -X {stamp}.gitVersion={release} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    return ["-ldflags", linker]


def _target(tool: Tool) -> Path:
    module = MODULES / tool.module
    parts = [(module / name).read_bytes() for name in ("go.mod", "go.sum")] + [" ".join(_flags()).encode()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    return cache_dir() / "tools" / f"{tool.module}-{digest}" / tool.name


def _build(tool: Tool, target: Path, progress: str) -> None:
    module = MODULES / tool.module
    host.require_go(module)
    print(f"{progress} building {tool.name} ... ", end="", file=sys.stderr, flush=True)
    begin = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    answer = subprocess.run(
        ["go", "build", "-mod=readonly", *_flags(), "-o", str(partial), tool.package],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise ClusterError(f"Building {tool.name} failed:\n{answer.stderr.strip()[-3000:]}")
    partial.rename(target)
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)
