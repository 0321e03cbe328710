"""Reading artifacts and images of registries (oci://): every digest is checked, and nothing leaves the folder."""

import contextlib
import json
import os
import platform
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import requests

from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.pinned import pin
from tunesmith_trainer.registry import INDEX_TYPE, MANIFEST_TYPE, Repository, reason_of
from tunesmith_trainer.retry import TransientError
from tunesmith_trainer.transfer import (
    Opened,
    Wanted,
    answer_bounds,
    digest_of,
    fetch_file,
    require_space,
)

_ACCEPTED = (
    MANIFEST_TYPE,
    INDEX_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_CHUNK_BYTES = 2**20
_LARGEST_MANIFEST = 4 * 2**20
_TITLE = "org.opencontainers.image.title"
_MODEL_PATH = "org.cncf.model.filepath"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def fetch_artifact(repository: Repository, target: Path) -> None:
    """Fetch an artifact, or an image of tar layers, into a folder of its own; every digest is checked.

    What an interrupted fetch has brought is used if the tag still names the same manifest; else the folder is emptied.

    Raises:
        InputNotFoundError: there is no such artifact, a digest differs, or a layer would leave the folder.
        ServiceUnavailableError: the registry does not answer.
        OutputNotWritableError: the disk has no room for it.
    """
    manifest = _manifest(repository, repository.reference)
    layers = manifest.get("layers", [])
    if not layers:
        raise InputNotFoundError(f"{repository.name}:{repository.reference} has no layers")
    pin(target, repository.name, manifest)
    blobs = target / ".blobs"
    blobs.mkdir(exist_ok=True)
    require_space(target, 2 * sum(int(layer["size"]) for layer in layers), repository.name)
    for layer in layers:
        _unpack(repository, layer, _fetch_blob(repository, layer, blobs), target)
    shutil.rmtree(blobs)


def _manifest(repository: Repository, reference: str) -> dict[str, Any]:
    content = repository.call("manifest", lambda: _manifest_bytes(repository, reference))
    _, _, wanted = reference.partition("sha256:")
    if wanted and digest_of([content]) != wanted:
        raise InputNotFoundError(f"{repository.name}: the manifest has another digest than {reference}")
    manifest: dict[str, Any] = json.loads(content)
    if "manifests" not in manifest:
        return manifest
    return _manifest(repository, _of_this_machine(repository, manifest["manifests"]))


def _manifest_bytes(repository: Repository, reference: str) -> bytes:
    headers = {"Accept": ", ".join(_ACCEPTED)}
    answer = repository.request("GET", repository.url(f"manifests/{reference}"), headers=headers)
    if answer.status_code != 200 or len(answer.content) > _LARGEST_MANIFEST:
        where = f"{repository.name}{'@' if ':' in reference else ':'}{reference}"
        raise InputNotFoundError(f"{where} does not exist (the registry answers {answer.status_code})")
    return answer.content


def _of_this_machine(repository: Repository, entries: list[dict[str, Any]]) -> str:
    """The digest of an index's entry: for this machine's architecture, else one without a platform."""
    machine = _MACHINES.get(platform.machine(), platform.machine())
    platforms = [(entry.get("platform") or {}).get("architecture", "") for entry in entries]
    by_machine = {name: str(entry["digest"]) for name, entry in zip(platforms, entries, strict=True)}
    found = by_machine.get(machine) or by_machine.get("")
    if found is None:
        listed = ", ".join(sorted(by_machine)) or "none"
        raise InputNotFoundError(f"{repository.name}: has no entry for {machine}; it has: {listed}")
    return found


def _fetch_blob(repository: Repository, layer: Mapping[str, Any], folder: Path) -> Path:
    digest = str(layer["digest"])
    algorithm, _, wanted = digest.partition(":")
    if algorithm != "sha256" or re.fullmatch(r"[0-9a-f]{64}", wanted) is None:
        raise InputNotFoundError(f"{repository.name}: a layer's digest {digest!r} is no SHA-256")
    target = folder / wanted
    if not target.is_file():
        label = f"{repository.name}@{digest}"
        fetch_file(Wanted(label, _opener(repository, digest), wanted), target, repository.retry)
    return target


def _opener(repository: Repository, digest: str) -> Callable[[int, str], contextlib.AbstractContextManager[Opened]]:
    @contextlib.contextmanager
    def open_(start: int, _: str) -> Iterator[Opened]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = repository.request("GET", repository.url(f"blobs/{digest}"), headers=headers, stream=True)
        with contextlib.closing(answer):
            if answer.status_code not in {200, 206} and not (start and answer.status_code == 416):
                raise InputNotFoundError(f"{repository.name}@{digest}: the registry answers {answer.status_code}")
            yield Opened(_chunks(answer), *answer_bounds(answer.status_code, answer.headers), digest)

    return open_


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_content(_CHUNK_BYTES)
    except requests.RequestException as error:
        raise TransientError(f"the connection was cut: {reason_of(error)}") from None


def _unpack(repository: Repository, layer: Mapping[str, Any], blob: Path, target: Path) -> None:
    """Put a layer's content in place: the files of a tar, or the one file that the layer's annotation names."""
    annotations = layer.get("annotations") or {}
    name = annotations.get(_TITLE) or annotations.get(_MODEL_PATH)
    media_type = str(layer.get("mediaType", ""))
    is_tar = ".tar" in media_type or (name is not None and annotations.get("io.deis.oras.content.unpack") == "true")
    try:
        if is_tar:
            with tarfile.open(blob) as archive:
                archive.extractall(target, filter="data")
        elif name is not None:
            _place(blob, target, str(name))
        else:
            raise InputNotFoundError(f"{repository.name}: a layer of type {media_type!r} has neither files nor a name")
    except (tarfile.TarError, ValueError) as error:
        raise InputNotFoundError(f"{repository.name}: a layer of type {media_type!r} is refused: {error}") from error


def _place(blob: Path, target: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"the file name {name!r} leaves the folder")
    place = target / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    os.link(blob, place)
