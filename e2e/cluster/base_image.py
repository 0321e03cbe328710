"""The two images that everything else stands on: a small Debian with Python, and the pause image of every pod."""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster import loading, node, tools
from cluster.buildah import exists, from_folder
from cluster.layout import Cluster, cache_dir

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
MIRROR = "http://deb.debian.org/debian"
PAUSE_SOURCE = Path(__file__).parent / "pause.c"


def reference() -> str:
    """The base image's name, by the hash of what goes in."""
    recipe = " ".join((SUITE, *PACKAGES, "minbase 1"))
    return f"localhost/tunesmith/base:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def ensure(cluster: Cluster) -> str:
    """Builds both images unless they are there, loads them into the node, and returns the base image's name."""
    for image, make in ((node.PAUSE_IMAGE, _make_pause), (reference(), _make_base)):
        if not exists(image):
            _report(image, make)
        loading.load(cluster, image)
    return reference()


def _report(image: str, make: Callable[[Path], None]) -> None:
    print(f"building {image} ... ", end="", file=sys.stderr, flush=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        make(Path(folder))
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


def _make_pause(folder: Path) -> None:
    root = folder / "root"
    root.mkdir()
    tools.run(["cc", "-Os", "-static", "-o", str(root / "pause"), str(PAUSE_SOURCE)])
    from_folder(node.PAUSE_IMAGE, root, "--entrypoint", '["/pause"]', "--user", "65535:65535")


def _make_base(folder: Path) -> None:
    root = folder / "root"
    tools.run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), MIRROR])
    for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
        shutil.rmtree(root / waste, ignore_errors=True)
        (root / waste).mkdir()
    root.chmod(0o755)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    from_folder(reference(), root, "--env", path, "--cmd", "/bin/bash")
