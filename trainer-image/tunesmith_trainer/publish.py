"""Putting the model folder where `spec.output` says: whole or not visible, and the same again when it is repeated."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore

from tunesmith_api import JobConfig, Location, Scheme, parse_uri
from tunesmith_trainer import log
from tunesmith_trainer.credentials import Credentials
from tunesmith_trainer.errors import OutputNotWritableError
from tunesmith_trainer.image import Layer, config_of, layers_of, manifest_of
from tunesmith_trainer.model_folder import folder_digest, publish
from tunesmith_trainer.object_store import (
    MANIFEST,
    FileEntry,
    Manifest,
    list_objects,
    read_manifest,
)
from tunesmith_trainer.output import FIELD, check_output
from tunesmith_trainer.registry import DEFAULT_TAG, MANIFEST_TYPE, Repository, open_repository, sha256
from tunesmith_trainer.retry import Retry, TransientError, retry_from
from tunesmith_trainer.stores import Remote, open_remote
from tunesmith_trainer.transfer import Meter
from tunesmith_trainer.workspace import file_digest, key_of

#: Object stores take at most 10,000 parts of a file.
_PART_BYTES = 16 * 2**20
_MOST_PARTS = 9_000


def publish_output(config: JobConfig, folder: Path) -> str | None:
    """Put a model folder at the job's output; the URI that names what was put there, or None without an output.

    Raises:
        StageError: a credential is missing, the output refuses, or it does not answer after every retry.
    """
    output = config.spec.output
    if output is None:
        return None
    location = parse_uri(output.uri)
    path = location.path if location.scheme is Scheme.FILE else config.outputs.get(output.uri)
    credentials = check_output(config)
    if path is not None:
        publish(folder, Path(path))
        uri = output.uri
    elif location.scheme is Scheme.OCI:
        uri = _to_registry(location, credentials, folder, retry_from())
    elif location.scheme in {Scheme.S3, Scheme.GS, Scheme.AZ}:
        uri = _to_store(location, credentials, folder, retry_from())
    else:
        raise OutputNotWritableError(f"{FIELD}.uri: {output.uri} is not mounted")
    log.info("published", uri=uri)
    return uri


# Object stores.


def _to_store(location: Location, credentials: Credentials, folder: Path, retry: Retry) -> str:
    remote = open_remote(location, credentials, retry, field=f"{FIELD}.uri", refusal=OutputNotWritableError)
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    entries = {name: FileEntry(size=file.stat().st_size, sha256=file_digest(file)) for name, file in files.items()}
    digest = key_of({name: entry.sha256 for name, entry in entries.items()})
    present = _begin(remote, Manifest(complete=False, digest=digest, files=entries))
    for name, file in files.items():
        if name not in present:
            _upload(remote, name, file)
    old = read_manifest(remote)
    _put_manifest(remote, Manifest(complete=True, digest=digest, files=entries))
    _remove(remote, sorted(set(old.previous if old else ()) - set(entries)))
    return f"{location.scheme}://{location.authority}/{remote.folder}"


def _begin(remote: Remote, wanted: Manifest) -> set[str]:
    """Say that the upload is under way; the names that an earlier, killed attempt at the same has uploaded already."""
    before = read_manifest(remote)
    if before is not None and not before.complete and before.digest == wanted.digest:
        present = _uploaded_since(remote, wanted)
        log.info("resuming the upload", uri=remote.label(remote.folder), files=len(present))
        return present
    previous = sorted({*before.files, *before.previous}) if before is not None else []
    _put_manifest(remote, wanted.model_copy(update={"previous": previous}))
    return set()


def _uploaded_since(remote: Remote, wanted: Manifest) -> set[str]:
    """Files that were put after the manifest, by the store's own clock, and have the size of ours."""
    objects = {one["path"]: one for one in list_objects(remote)}
    begun: datetime = objects[remote.key(MANIFEST)]["last_modified"]
    keys = {name: objects.get(remote.key(name)) for name in wanted.files}
    return {
        name
        for name, found in keys.items()
        if found is not None and found["last_modified"] > begun and found["size"] == wanted.files[name].size
    }


def _put_manifest(remote: Remote, manifest: Manifest) -> None:
    path, content = remote.key(MANIFEST), manifest.model_dump_json(indent=1).encode()
    _put(remote, path, lambda: content, len(content))


def _upload(remote: Remote, name: str, file: Path) -> None:
    _put(remote, remote.key(name), lambda: file, file.stat().st_size)
    log.info("uploaded", file=remote.label(remote.key(name)), bytes=file.stat().st_size)


def _put(remote: Remote, path: str, content: Callable[[], Any], size: int) -> None:
    part = max(_PART_BYTES, size // _MOST_PARTS + 1)

    def put() -> bool:
        obstore.put(remote.store, path, content(), use_multipart=size > part, chunk_size=part, max_concurrency=4)
        return True

    if remote.call(path, put) is None:
        raise OutputNotWritableError(f"{remote.label(path)}: {remote.location.authority!r} does not exist")


def _remove(remote: Remote, names: Iterable[str]) -> None:
    for name in names:
        path = remote.key(name)
        remote.call(path, lambda path=path: obstore.delete(remote.store, path))  # type: ignore[misc]


# Registries.


@dataclass(frozen=True)
class _Body:
    """A stream whose length is known, as the HTTP client wants it."""

    chunks: Iterator[bytes]
    length: int

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks


def _to_registry(location: Location, credentials: Credentials, folder: Path, retry: Retry) -> str:
    repository = open_repository(
        replace(location, tag=location.tag or DEFAULT_TAG), credentials, retry, field=f"{FIELD}.uri",
        refusal=OutputNotWritableError,
    )  # fmt: skip
    layers = layers_of(folder)
    for layer in layers:
        repository.call(f"layer {layer.digest}", lambda layer=layer: _push_layer(repository, layer))  # type: ignore[misc]
    config = config_of(layers)
    repository.call("config", lambda: _push_blob(repository, sha256(config), len(config), lambda: iter([config])))
    manifest = manifest_of(layers, config, folder_digest(folder))
    repository.call("manifest", lambda: _push_manifest(repository, manifest))
    return f"{repository.name}@{sha256(manifest)}"


def _push_layer(repository: Repository, layer: Layer) -> None:
    _push_blob(repository, layer.digest, layer.size, layer.chunks)


def _push_blob(repository: Repository, digest: str, size: int, chunks: Callable[[], Iterator[bytes]]) -> None:
    """Upload a blob unless the registry has it, as after an earlier attempt."""
    if repository.request("HEAD", repository.url(f"blobs/{digest}")).status_code == 200:
        log.info("already there", blob=f"{repository.name}@{digest}")
        return
    begun = repository.request("POST", repository.url("blobs/uploads/"), headers={"Content-Length": "0"})
    _require(repository, begun.status_code, {202}, "an upload")
    address = repository.absolute(begun.headers["Location"])
    address += ("&" if "?" in address else "?") + f"digest={digest}"
    body = _Body(_metered(chunks(), f"{repository.name}@{digest}", size), size)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    done = repository.request("PUT", address, data=body, headers=headers)
    _require(repository, done.status_code, {201, 204}, f"blob {digest}")


def _metered(chunks: Iterator[bytes], label: str, size: int) -> Iterator[bytes]:
    meter = Meter(label, size)
    for chunk in chunks:
        yield chunk
        meter.add(len(chunk))


def _push_manifest(repository: Repository, manifest: bytes) -> None:
    url = repository.url(f"manifests/{repository.reference}")
    done = repository.request("PUT", url, data=manifest, headers={"Content-Type": MANIFEST_TYPE})
    _require(repository, done.status_code, {201}, "the manifest")
    stored = done.headers.get("Docker-Content-Digest", sha256(manifest))
    if stored != sha256(manifest):
        raise TransientError(f"stored the manifest as {stored}, not as {sha256(manifest)}")


def _require(repository: Repository, status: int, expected: set[int], what: str) -> None:
    if status not in expected:
        raise OutputNotWritableError(f"{repository.name}: the registry refuses {what} (answers {status})")
