"""Bringing remote bytes to a file: resumed where it was cut, checked, bounded, and there only when it is whole."""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tunesmith_trainer import log
from tunesmith_trainer.errors import BadDataError, InputNotFoundError, OutputNotWritableError
from tunesmith_trainer.retry import Retry, TransientError
from tunesmith_trainer.workspace import file_digest, read_json, write_json

#: Files below this size are fetched without a word; above it a line is logged for each tenth or each ten seconds.
_QUIET_BYTES = 64 * 2**20
_QUIET_SECONDS = 10.0
#: Room that a disk keeps beside what is fetched.
_SLACK_BYTES = 16 * 2**20
#: Where a part of a file begins whose server does not say where, or that is no part of it.
UNKNOWN_START = -1
#: Parts of a path that lead elsewhere than into a folder below; an absolute path begins with an empty one.
_LEAVING = frozenset({"", ".", ".."})
_GIT_LENGTH = 40
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True)
class Opened:
    """A file that is being read from afar.

    Attributes:
        chunks: its bytes.
        start: position of the first one; 0 where the server cannot begin in the middle, or has another content by now.
            Any other position than the one that was asked for, also UNKNOWN_START, is refused: it begins anew.
        size: of the whole file; None where the server does not say.
        identity: what tells this content from another one, such as an ETag; empty where there is none.
    """

    chunks: Iterator[bytes]
    start: int
    size: int | None
    identity: str = ""


#: Opens a file at a position, if it still has the identity; raises TransientError for what may pass.
Opener = Callable[[int, str], AbstractContextManager[Opened]]


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        label: what it is called in messages.
        opener: reads it.
        digest: its SHA-256, or Git's hash of it as a blob, in hexadecimal; empty where neither is known.
        inspect: told the file's size before any byte is written; raises to refuse it.
    """

    label: str
    opener: Opener
    digest: str = ""
    inspect: Callable[[int], None] = field(default=lambda _: None)


def fetch_file(wanted: Wanted, target: Path, retry: Retry) -> None:
    """Fetch a file; it appears only when it is whole, and a killed fetch goes on where it was.

    Raises:
        BadDataError: `inspect` refused its size.
        InputNotFoundError: its content is not the one that was asked for.
        OutputNotWritableError: the disk has no room for it.
        ServiceUnavailableError: it was cut too often without progress.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part(target)
    try:
        retry.call(wanted.label, lambda: _attempt(wanted, part), progress=lambda: _size(part))
        _check_digest(wanted, part)
    except (BadDataError, InputNotFoundError):
        for leftover in (part, _note(part)):
            leftover.unlink(missing_ok=True)
        raise
    part.replace(target)
    _note(part).unlink(missing_ok=True)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _attempt(wanted: Wanted, part: Path) -> None:
    note = read_json(_note(part)) or {}
    known = note.get("identity", "")
    start = _size(part) if known else 0
    if start and start == note.get("size"):
        return  # whole, and killed before it got its name
    with wanted.opener(start, known) as opened:
        if not _continues(opened, start, note):
            part.unlink(missing_ok=True)
            raise TransientError("the server sent no rest of the same file; it is fetched from its beginning")
        if opened.size is not None:
            wanted.inspect(opened.size)
            require_space(part.parent, opened.size - opened.start, wanted.label)
        if opened.start == 0:
            part.unlink(missing_ok=True)
        else:
            log.info("resuming", file=wanted.label, position=start)
        write_json(_note(part), {"identity": opened.identity, "size": opened.size})
        meter = Meter(wanted.label, opened.size, opened.start)
        _append(opened, part, meter, wanted.inspect)
    if opened.size is not None and _size(part) < opened.size:
        raise TransientError(f"the connection ended after {_size(part)} of {opened.size} bytes")


def _continues(opened: Opened, start: int, note: Mapping[str, Any]) -> bool:
    """Whether an answer begins anew, or goes on with the part's own content: a server may ignore the condition."""
    if opened.start == 0:
        return True
    sizes = {note.get("size"), opened.size} - {None}
    return opened.start == start and opened.identity == note["identity"] and len(sizes) < 2


def _append(opened: Opened, part: Path, meter: "Meter", inspect: Callable[[int], None]) -> None:
    with part.open("ab") as file:
        file.truncate(opened.start)
        for chunk in opened.chunks:
            file.write(chunk)
            inspect(meter.add(len(chunk)))


def _check_digest(wanted: Wanted, part: Path) -> None:
    if not wanted.digest:
        return
    kind, found = _like(wanted.digest, part)
    if found != wanted.digest:
        raise InputNotFoundError(f"{wanted.label} has the {kind} {found}, not {wanted.digest} as was asked for")


def is_whole(file: Path, size: int, digest: str) -> bool:
    """Whether a file that an earlier attempt has brought is the wanted one; without a digest its size has to do."""
    if not file.is_file() or file.stat().st_size != size:
        return False
    return not digest or _like(digest, file)[1] == digest


def _like(digest: str, file: Path) -> tuple[str, str]:
    """The name of a digest's kind, which its length tells, and a file's digest of that kind."""
    return ("Git hash", _git_digest(file)) if len(digest) == _GIT_LENGTH else ("SHA-256", file_digest(file))


def _git_digest(file: Path) -> str:
    """Git's hash of a file as a blob: SHA-1 over its size and its content."""
    whole = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as opened:
        while chunk := opened.read(2**20):
            whole.update(chunk)
    return whole.hexdigest()


def answer_bounds(status: int, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Where an HTTP answer's bytes begin in the file, and the file's size (RFC 9110, 14.4 and 15.5.17)."""
    if status == HTTPStatus.PARTIAL_CONTENT:
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        return (int(found[1]), int(found[2])) if found else (UNKNOWN_START, None)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # what is here is longer than the file
        return UNKNOWN_START, None
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def missing_bytes(file: Path, size: int) -> int:
    """How much of a file is still to come, after what a killed fetch has left of it."""
    return size - min(_size(_part(file)), size)


def leaves_folder(name: str) -> bool:
    """Whether a file name from afar, with slashes, may lead elsewhere than into a folder below."""
    return not _LEAVING.isdisjoint(name.split("/"))


def require_space(folder: Path, size: int, label: str) -> None:
    """Refuse what the disk has no room for, before it is full.

    Raises:
        OutputNotWritableError: the folder's disk has less room; the message says how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if size + _SLACK_BYTES > free:
        raise OutputNotWritableError(
            f"{label} needs {size / 2**30:.2f} GiB and {folder} has {free / 2**30:.2f} GiB free;"
            " raise spec.workspace.size in a new job"
        )


class Meter:
    """Logs percent and rate of a large transfer.

    Args:
        label: what is transferred.
        size: bytes in all; None when unknown.
        done: bytes that an earlier attempt has brought.
        clock: steady seconds.
    """

    def __init__(
        self, label: str, size: int | None, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._size, self._clock = label, size, clock
        self._done = self._said_at = done
        self._began = self._said = clock()
        self._start = done

    def add(self, count: int) -> int:
        """Note bytes that arrived; how many there are now."""
        self._done += count
        step = self._size // 10 if self._size else _QUIET_BYTES
        due = self._done - self._said_at >= step or self._clock() - self._said >= _QUIET_SECONDS
        if due and (self._size is None or self._size >= _QUIET_BYTES) and self._done >= _QUIET_BYTES // 10:
            self._say()
        return self._done

    def _say(self) -> None:
        seconds = max(self._clock() - self._began, 1e-9)
        rate = round((self._done - self._start) / seconds / 2**20, 1)
        percent = {"percent": round(100 * self._done / self._size)} if self._size else {}
        log.info("transferring", file=self._label, bytes=self._done, mib_per_second=rate, **percent)
        self._said_at, self._said = self._done, self._clock()


def digest_of(parts: Iterable[bytes]) -> str:
    """SHA-256 of a stream, in hexadecimal."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()
