"""Our images: built by buildah from the repository's Dockerfiles, named by their content, loaded into the node."""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import base_image, loading, node
from cluster.buildah import buildah, exists, versions
from cluster.layout import REPOSITORY, Cluster

CERTIFICATES = Path("/etc/ssl/certs")
#: Versions of an image that stay, so that going back to a commit costs nothing.
KEPT = 3


@dataclass(frozen=True)
class Part:
    """An image: its Dockerfile and the folders that it copies, relative to the repository."""

    dockerfile: str
    packages: tuple[str, ...]


PARTS = {
    "operator": Part("operator/Dockerfile", ("api/tunesmith_api", "operator/tunesmith_operator")),
    "trainer": Part(
        "trainer-image/Dockerfile",
        ("api/tunesmith_api", "trainer-image/tunesmith_trainer", "examples/models/tiny-phi3"),
    ),
    "server": Part("server-image/Dockerfile", ("api/tunesmith_api", "server-image/tunesmith_server")),
}


def ensure(cluster: Cluster, name: str) -> str:
    """Builds and loads an image unless the node has one of the same content, and returns its reference."""
    image = reference(name)
    if loading.is_loaded(cluster, image):
        return image
    begin = time.monotonic()
    print(f"{name}: building ...", file=sys.stderr, flush=True)
    if not exists(image):
        _build(name, image)
    built = time.monotonic()
    loading.load(cluster, image)
    loaded = time.monotonic()
    _prune(cluster, image)
    print(f"{name}: built in {built - begin:.1f} s, loaded in {loaded - built:.1f} s", file=sys.stderr, flush=True)
    return image


def _prune(cluster: Cluster, image: str) -> None:
    """Removes old versions of an image, which would fill the disk: the trainer's is gigabytes."""
    for old in versions(image.rpartition(":")[0])[KEPT:]:
        if old != image:
            buildah("rmi", old)
            node.ctr(cluster, "images", "remove", old, check=False)  # it may never have been loaded here


def reference(name: str) -> str:
    """The image's name: the part and the hash of everything that goes in."""
    digest = hashlib.sha256(base_image.reference().encode())
    for file in _inputs(PARTS[name]):
        digest.update(f"\0{file.relative_to(REPOSITORY)}\0".encode())
        digest.update(file.read_bytes())
    return f"localhost/tunesmith/{name}:{digest.hexdigest()[:12]}"


def _inputs(part: Part) -> Iterator[Path]:
    yield from (REPOSITORY / name for name in (part.dockerfile, "constraints.txt", "pyproject.toml", ".dockerignore"))
    for package in part.packages:
        files = (path for path in (REPOSITORY / package).rglob("*") if path.is_file())
        yield from sorted(path for path in files if "__pycache__" not in path.parts)


def _build(name: str, image: str) -> None:
    arguments = {"BASE_IMAGE": base_image.reference(), "UV_NO_CACHE": "false"}
    volumes = [f"{_uv_cache()}:/root/.cache/uv"]
    bundle = CERTIFICATES / "ca-certificates.crt"
    if bundle.exists():  # the machine may trust an authority that the base image does not know
        volumes.append(f"{CERTIFICATES}:{CERTIFICATES}:ro")
        arguments |= {"SSL_CERT_FILE": str(bundle), "PIP_CERT": str(bundle)}
    flags = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    flags += [f"--volume={volume}" for volume in volumes]
    where = ("--file", str(REPOSITORY / PARTS[name].dockerfile), "--tag", image, str(REPOSITORY))
    buildah("build", "--quiet", "--layers", "--network=host", "--isolation=chroot", "--pull=never", *flags, *where)


def _uv_cache() -> Path:
    """The machine's uv cache, which saves downloading torch again; made when missing, so that later builds share it."""
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    cache.mkdir(parents=True, exist_ok=True)
    return cache
