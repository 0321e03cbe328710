"""Buildah with a store of its own under the cache folder, away from any other images of this machine."""

import json
from pathlib import Path

from cluster import tools
from cluster.layout import cache_dir


def storage_folder() -> Path:
    """Where buildah keeps images and layers."""
    return cache_dir() / "buildah" / "storage"


def run_folder() -> Path:
    """Where buildah keeps what may vanish at a restart of the machine."""
    return cache_dir() / "buildah" / "run"


def buildah(*arguments: str, check: bool = True) -> str:
    """Runs buildah on our store and returns its standard output."""
    where = ("--storage-driver", "overlay", "--root", str(storage_folder()), "--runroot", str(run_folder()))
    return tools.run(["buildah", *where, *arguments], check=check)


def exists(image: str) -> bool:
    """Whether the store has this image."""
    return buildah("images", "--quiet", image, check=False) != ""


def versions(repository: str) -> list[str]:
    """The images of a repository (a name without its tag), the newest first."""
    listed = json.loads(buildah("images", "--json") or "[]")
    dated = [(image["createdatraw"], name) for image in listed for name in image.get("names") or ()]
    return [name for _, name in sorted(dated, reverse=True) if name.rpartition(":")[0] == repository]


def from_folder(image: str, folder: Path, *config: str) -> None:
    """Makes an image of one layer: the folder's contents as the root, with the given `buildah config` flags."""
    container = buildah("from", "scratch").strip()
    try:
        buildah("add", "--quiet", container, str(folder), "/")
        buildah("config", *config, container)
        buildah("commit", "--quiet", container, image)
    finally:
        buildah("rm", container)
