"""Object stores (s3://, gs://, az://): reading files and folders, and writing a folder that is whole or not there.

A folder that was written here has a manifest, `tunesmith-manifest.json`: it is put first, saying that the upload is
under way, and once more at the end with every file's SHA-256. A reader refuses the first kind and checks the second.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
from pydantic import BaseModel, ValidationError

from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.stores import ChangedError, Remote
from tunesmith_trainer.transfer import Opened, Wanted, fetch_file, require_space

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
    """An object to fetch: its path in the bucket, its name below the target, its size, its digest where known."""

    path: str
    name: str
    size: int
    sha256: str = ""


def fetch_objects(remote: Remote, target: Path, patterns: Sequence[str]) -> Path:
    """Fetch the object that a URI names, or the folder of objects below it.

    Args:
        remote: the place.
        target: local folder to fetch into.
        patterns: which files of a folder are wanted.

    Returns:
        The local file, or the folder.

    Raises:
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
    _fetch(remote, _folder(remote, patterns), target)
    return target


def _folder(remote: Remote, patterns: Sequence[str]) -> list[_Object]:
    manifest = read_manifest(remote)
    if manifest is not None and not manifest.complete:
        raise InputNotFoundError(f"{remote.label(remote.folder)} is being uploaded, or its upload was cut off")
    if manifest is not None:
        found = [_Object(remote.key(n), n, entry.size, entry.sha256) for n, entry in manifest.files.items()]
    else:
        found = [_Object(one["path"], _below(remote, one["path"]), one["size"]) for one in list_objects(remote)]
    if not found:
        raise InputNotFoundError(f"{remote.label(remote.folder)}: there is no such object, and no folder of that name")
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
    missing = [one for one in objects if not (target / one.name).is_file()]
    require_space(target, sum(one.size for one in missing), remote.label(remote.folder))
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
