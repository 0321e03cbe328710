"""What this machine must offer: Linux, root, Go, a few Debian packages."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import ClusterError, UnsupportedHostError

GO_MINIMUM = (1, 26)

# Debian package by the command or file that it brings.
NODE_PACKAGES = {
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "ip": "iproute2",
}
IMAGE_PACKAGES = {
    "buildah": "buildah",
    "skopeo": "skopeo",
    "debootstrap": "debootstrap",
    "cc": "gcc",
    "/usr/include/stdlib.h": "libc6-dev",
}
CONTROL_PLANE_PACKAGES = {"openssl": "openssl"}


def require_linux() -> None:
    """Raises UnsupportedHostError anywhere but on Linux."""
    if sys.platform != "linux":
        raise UnsupportedHostError(f"it needs Linux and this is {sys.platform}")


def require_root() -> None:
    """Raises UnsupportedHostError for anybody but root."""
    require_linux()
    if os.geteuid() != 0:
        raise UnsupportedHostError(f"a node needs root (containers, network, mounts) and this is UID {os.geteuid()}")


def require_go(module: Path) -> None:
    """Raises UnsupportedHostError unless the Go that builds `module` is new enough."""
    if shutil.which("go") is None:
        raise UnsupportedHostError("its tools are built from source and there is no `go` on PATH (https://go.dev/dl)")
    answer = subprocess.run(["go", "version"], cwd=module, capture_output=True, text=True, check=False)
    found = re.search(r"go(\d+)\.(\d+)", answer.stdout)
    if found is None or (int(found[1]), int(found[2])) < GO_MINIMUM:
        wanted = ".".join(map(str, GO_MINIMUM))
        raise UnsupportedHostError(f"it needs Go {wanted} or newer: {(answer.stdout + answer.stderr).strip()}")


def install_packages(table: dict[str, str]) -> None:
    """Installs the Debian packages of `table` whose command or file is missing.

    Raises:
        UnsupportedHostError: Some are missing and this is not root on a Debian or Ubuntu.
        ClusterError: apt-get failed.
    """
    missing = sorted({package for thing, package in table.items() if not _present(thing)})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnsupportedHostError(f"it needs the packages {' '.join(missing)} (Debian's names); install them first")
    print(f"installing Debian packages: {' '.join(missing)}", file=sys.stderr, flush=True)
    _apt(["update", "-qq"])
    _apt(["install", "-y", "-qq", "--no-install-recommends", *missing])


def _present(thing: str) -> bool:
    return Path(thing).exists() if thing.startswith("/") else shutil.which(thing) is not None


def _apt(arguments: Iterable[str]) -> None:
    answer = subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise ClusterError(f"apt-get {' '.join(arguments)} failed:\n{answer.stderr.strip()[-2000:]}")
