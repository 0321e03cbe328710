"""Object stores (s3://, gs://, az://): reading files and folders, and writing a folder that is whole or not there.

A folder that was written here has a manifest, `tunesmith-manifest.json`: it is put first, saying that the upload is
under way, and once more at the end with every file's SHA-256. A reader refuses the first kind and checks the second.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
from pydantic import BaseModel, ValidationError

from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.pickles import SAFE, refuse_pickles
from tunesmith_trainer.pinned import pin
from tunesmith_trainer.retry import TransientError
from tunesmith_trainer.stores import ChangedError, Remote
from tunesmith_trainer.transfer import (
    Opened,
    Wanted,
    fetch_file,
    is_whole,
    leaves_folder,
    missing_bytes,
    require_space,
)

MANIFEST = "tunesmith-manifest.json"
_CHUNK_BYTES = 2**20


class FileEntry(BaseModel):
    """A file of a manifest."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a folder in an object store holds.

    Attributes:
        complete: False while the upload is under way.
        digest: of the whole folder; tells uploads apart.
        files: path below the folder to size and digest.
        previous: files of the upload that this one replaces.
    """

    complete: bool
    digest: str
    files: dict[str, FileEntry]
    previous: list[str] = []


@dataclass(frozen=True)
class _Object:
    """An object to fetch.

    Attributes:
        path: in the bucket.
        name: below the target.
        size: in bytes.
        sha256: its digest in hexadecimal, where a manifest or the URI gives it.
        etag: what the folder's listing tells its content by, where it was listed.
    """

    path: str
    name: str
    size: int
    sha256: str = ""
    etag: str = ""


def fetch_objects(remote: Remote, target: Path, patterns: Sequence[str]) -> Path:
    """Fetch the object that a URI names, or the folder of objects below it.

    Args:
        remote: the place.
        target: local folder to fetch into.
        patterns: which files of a folder are wanted.

    Returns:
        The local file, or the folder.

    Raises:
        BadConfigError: a model's weights are wanted, and the folder has pickled ones only.
        InputNotFoundError: there is no such object or folder, its upload is not complete, or access is denied.
        ServiceUnavailableError: the store does not answer.
        OutputNotWritableError: the disk has no room for it.
    """
    single = None
    if not remote.location.path.endswith("/") and remote.folder:
        single = remote.call(remote.folder, lambda: obstore.head(remote.store, remote.folder))
    if single is not None:
        name = PurePosixPath(remote.folder).name
        _fetch(remote, [_Object(remote.folder, name, single["size"], remote.location.digest)], target)
        return target / name
    if remote.location.digest:
        raise InputNotFoundError(f"{remote.label(remote.folder)}: #sha256= goes with a single file, and there is none")
    remote.retry.call(remote.label(remote.folder), lambda: _fetch_folder(remote, target, patterns))
    return target


def _fetch_folder(remote: Remote, target: Path, patterns: Sequence[str]) -> None:
    """Fetch a folder of one version.

    Raises:
        TransientError: there is another version by now. A manifest's digests tell that of each file; without one only
            a second look at the listing does.
    """
    manifest = read_manifest(remote)
    if manifest is not None and not manifest.complete:
        raise InputNotFoundError(f"{remote.label(remote.folder)} is being uploaded, or its upload was cut off")
    objects = _wanted(remote, _listed(remote) if manifest is None else _named(remote, manifest), patterns)
    pin(target, remote.label(remote.folder), sorted(map(astuple, objects)))
    _fetch(remote, objects, target)
    if manifest is None and not set(objects) <= set(_listed(remote)):
        raise TransientError("objects were changed while they were read")


def _named(remote: Remote, manifest: Manifest) -> list[_Object]:
    """The objects of a manifest, whoever wrote it: none may come to lie outside of the folder.

    Raises:
        InputNotFoundError: a name would.
    """
    for name in manifest.files:
        if leaves_folder(name):
            raise InputNotFoundError(
                f"{remote.label(remote.key(MANIFEST))}: the file name {name!r} leaves the folder; write relative names"
                " without '..', or upload the folder again"
            )
    return [_Object(remote.key(name), name, entry.size, entry.sha256) for name, entry in manifest.files.items()]


def _listed(remote: Remote) -> list[_Object]:
    return [
        _Object(one["path"], _below(remote, one["path"]), one["size"], etag=one["e_tag"] or str(one["last_modified"]))
        for one in list_objects(remote)
    ]


def _wanted(remote: Remote, found: Sequence[_Object], patterns: Sequence[str]) -> list[_Object]:
    if not found:
        raise InputNotFoundError(f"{remote.label(remote.folder)}: there is no such object, and no folder of that name")
    if SAFE in patterns:
        refuse_pickles(remote.label(remote.folder), (one.name for one in found))
    wanted = [one for one in found if _matches(one.name, patterns)]
    if not wanted:
        raise InputNotFoundError(
            f"{remote.label(remote.folder)} has {len(found)} objects and none of {', '.join(patterns)}"
        )
    return wanted


def _below(remote: Remote, path: str) -> str:
    return path.removeprefix(remote.folder).lstrip("/")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == ".." for part in parts)
    return not hidden and any(fnmatch.fnmatch(parts[-1], pattern) for pattern in patterns)


def list_objects(remote: Remote) -> list[dict[str, Any]]:
    """Every object of the folder."""
    prefix = f"{remote.folder}/" if remote.folder else None
    found = remote.call(remote.folder, lambda: [one for page in obstore.list(remote.store, prefix) for one in page])
    return found or []


def read_manifest(remote: Remote) -> Manifest | None:
    """The manifest of the folder, or None where it has none of ours."""
    path = remote.key(MANIFEST)
    content = remote.call(path, lambda: bytes(obstore.get(remote.store, path).bytes()))
    if content is None:
        return None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        return None


def _fetch(remote: Remote, objects: Sequence[_Object], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    missing = [one for one in objects if not is_whole(target / one.name, one.size, one.sha256)]
    require_space(
        target, sum(missing_bytes(target / one.name, one.size) for one in missing), remote.label(remote.folder)
    )
    for one in missing:
        wanted = Wanted(remote.label(one.path), _opener(remote, one), one.sha256)
        fetch_file(wanted, target / one.name, remote.retry)


def _opener(remote: Remote, wanted: _Object) -> Callable[[int, str], contextlib.AbstractContextManager[Opened]]:
    @contextlib.contextmanager
    def open_(start: int, identity: str) -> Iterator[Opened]:
        options: Any = {"range": {"offset": start}, "if_match": identity} if start else {}
        try:
            with remote.errors(wanted.path):
                result = obstore.get(remote.store, wanted.path, options=options)
        except ChangedError:
            start = 0  # another content by now: from the beginning
            with remote.errors(wanted.path):
                result = obstore.get(remote.store, wanted.path)
        except FileNotFoundError as error:
            raise InputNotFoundError(f"{remote.label(wanted.path)} was deleted while it was read") from error
        yield Opened(_chunks(remote, wanted.path, result), start, result.meta["size"], result.meta["e_tag"] or "")

    return open_


def _chunks(remote: Remote, path: str, result: Any) -> Iterator[bytes]:
    with remote.errors(path):
        for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(chunk)
