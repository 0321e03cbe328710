"""Fetching models and data sets from a Hugging Face hub (or a mirror, by HF_ENDPOINT)."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2  # the client's own; its errors are no httpx ones
from huggingface_hub import DryRunFileInfo, HfApi, ModelInfo, snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tunesmith_api import Location
from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.pickles import SAFE, refuse_pickles
from tunesmith_trainer.pinned import pin
from tunesmith_trainer.retry import TransientError, retry_from
from tunesmith_trainer.tables import KINDS
from tunesmith_trainer.transfer import require_space
from tunesmith_trainer.workspace import file_digest

DATASETS = "datasets"
#: What may be wrong where there is a token or none.
_HINTS = {
    False: "a private or gated repository needs secretRef with the key token",
    True: "if it is private or gated, the token of secretRef does not open it",
}
_STATUS_LINE = re.compile(r"\d{3} Client Error\.")
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
MODEL_PATTERNS = (SAFE, "*.json", "*.jinja", "tokenizer.model", "LICENSE*")
DATA_PATTERNS = tuple(f"*{suffix}{gzip}" for kind in KINDS.values() for suffix in kind.suffixes for gzip in ("", ".gz"))


def fetch_model(location: Location, target: Path, token: str | None) -> None:
    """Fetch a model repository's safetensors, configuration and tokenizer; weights in pickle files stay where they are.

    Raises:
        BadConfigError: it has pickles only.
        InputNotFoundError: no such repository or revision, or the token does not open it.
        ServiceUnavailableError: the hub does not answer.
    """
    _snapshot(
        repository=f"{location.authority}/{location.path}",
        kind="model",
        revision=location.revision,
        patterns=MODEL_PATTERNS,
        target=target,
        token=token,
    )


def fetch_dataset(location: Location, target: Path, token: str | None) -> None:
    """Fetch a data set repository's data files, or the one file that the URI names below the repository.

    Raises:
        InputNotFoundError: no such repository or revision, or the token does not open it.
        ServiceUnavailableError: the hub does not answer.
    """
    organisation, _, rest = location.path.partition("/")
    repository, _, inner = rest.partition("/")
    patterns = (inner,) if inner else DATA_PATTERNS
    _snapshot(
        repository=f"{organisation}/{repository}",
        kind="dataset",
        revision=location.revision,
        patterns=patterns,
        target=target,
        token=token,
    )


def _snapshot(
    *, repository: str, kind: str, revision: str, patterns: tuple[str, ...], target: Path, token: str | None
) -> None:
    label, asked = f"hf:// {kind} {repository}", revision or None
    options: dict[str, Any] = {
        "repo_type": kind,
        "local_dir": target,
        "allow_patterns": list(patterns),
        "token": token or False,
    }

    def attempt() -> None:
        with _errors(label, token):
            found = HfApi(token=options["token"]).repo_info(repository, repo_type=kind, revision=asked)
            if isinstance(found, ModelInfo):
                refuse_pickles(label, (file.rfilename for file in found.siblings or ()))
            commit = found.sha or asked
            pin(target, label, commit)
            planned = snapshot_download(repository, revision=commit, dry_run=True, **options)
            require_space(target, sum(file.file_size or 0 for file in planned if file.will_download), label)
            snapshot_download(repository, revision=commit, **options)
            _require_files(target, planned)

    retry_from().call(label, attempt, progress=lambda: _fetched_bytes(target))
    _check_digests(label, target)


@contextmanager
def _errors(label: str, token: str | None) -> Iterator[None]:
    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        raise InputNotFoundError(f"{label}: {_first_line(error)}; {_HINTS[bool(token)]}") from error
    except (HfHubHTTPError, DryRunError, LocalEntryNotFoundError, httpx2.TransportError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and _is_refusal(error.response.status_code):
            raise InputNotFoundError(f"{label}: {_first_line(error)}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
        raise TransientError(_first_line(error), asked) from error


def _fetched_bytes(target: Path) -> int:
    """Size of the files that are whole: of one that is cut, the client keeps nothing beyond its own five attempts."""
    files = (file for file in target.rglob("*") if ".cache" not in file.relative_to(target).parts)
    return sum(file.stat().st_size for file in files if file.is_file())


def _require_files(target: Path, planned: Sequence[DryRunFileInfo]) -> None:
    """Where the hub fails, the library may return the folder as it is: whatever was planned must be there."""
    missing = [file.filename for file in planned if not (target / file.filename).is_file()]
    if missing:
        raise TransientError(f"{missing[0]} was not fetched")


def _check_digests(label: str, target: Path) -> None:
    """Compare every fetched file with the hub's digest: the SHA-256 of a large file, Git's blob hash of a small one."""
    notes = target / ".cache" / "huggingface" / "download"
    for note in sorted(notes.rglob("*.metadata")):
        file = target / note.relative_to(notes).with_suffix("")
        etag = note.read_text(encoding="utf-8").splitlines()[1]
        digest = {64: file_digest, 40: _git_digest}.get(len(etag))
        if file.is_file() and digest is not None and _HEXADECIMAL.fullmatch(etag) and digest(file) != etag:
            file.unlink()
            note.unlink()
            raise InputNotFoundError(f"{label}: {file.name} differs from the digest {etag} that the hub states")


def _git_digest(file: Path) -> str:
    whole = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as opened:
        while chunk := opened.read(2**20):
            whole.update(chunk)
    return whole.hexdigest()


def _is_refusal(status: int) -> bool:
    return 400 <= status < 500 and status not in {408, 429}


def _first_line(error: Exception) -> str:
    """The first line that says something: the client's own begins with a line that only has the status."""
    lines = [line for line in str(error).splitlines() if line.strip() and not _STATUS_LINE.match(line)]
    return lines[0].strip() if lines else type(error).__name__
