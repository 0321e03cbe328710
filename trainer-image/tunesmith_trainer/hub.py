"""Fetching models and data sets from a Hugging Face hub (or a mirror, by HF_ENDPOINT)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, RepoFile, hf_hub_url
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined] # documented to be there

from tunesmith_api import Location
from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.hub_files import HubFile, hub_errors
from tunesmith_trainer.pickles import SAFE, refuse_pickles
from tunesmith_trainer.pinned import pin
from tunesmith_trainer.retry import retry_from
from tunesmith_trainer.tables import KINDS
from tunesmith_trainer.transfer import Wanted, fetch_file, is_whole, leaves_folder, missing_bytes, require_space

DATASETS = "datasets"
MODEL_PATTERNS = (SAFE, "*.json", "*.jinja", "tokenizer.model", "*.spm", "LICENSE*")
DATA_PATTERNS = tuple(f"*{suffix}{gzip}" for kind in KINDS.values() for suffix in kind.suffixes for gzip in ("", ".gz"))
#: Files that are fetched at once: a hub's network bounds the rate of one connection.
_AT_ONCE = 8
#: A hub that takes a connection and does not answer is asked again.
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class _Snapshot:
    """What is wanted of a repository.

    Attributes:
        repository: its name, organisation/name.
        kind: `model` or `dataset`.
        revision: a branch, a tag or a commit; None for the default branch.
        patterns: the files that are wanted.
        token: opens it; None for anonymous requests.
    """

    repository: str
    kind: str
    revision: str | None
    patterns: tuple[str, ...]
    token: str | None

    @property
    def label(self) -> str:
        """The repository in messages."""
        return f"hf:// {self.kind} {self.repository}"


def fetch_model(location: Location, target: Path, token: str | None) -> None:
    """Fetch a model repository's safetensors, configuration and tokenizer; weights in pickle files stay where they are.

    Raises:
        BadConfigError: it has pickles only.
        InputNotFoundError: no such repository or revision, or the token does not open it; or a file has another digest.
        ServiceUnavailableError: the hub does not answer.
        OutputNotWritableError: the disk has no room for it.
    """
    repository = f"{location.authority}/{location.path}"
    _fetch(_Snapshot(repository, "model", location.revision or None, MODEL_PATTERNS, token), target)


def fetch_dataset(location: Location, target: Path, token: str | None) -> None:
    """Fetch a data set repository's data files, or the one file that the URI names below the repository.

    Raises:
        InputNotFoundError: no such repository or revision, or the token does not open it; or a file has another digest.
        ServiceUnavailableError: the hub does not answer.
        OutputNotWritableError: the disk has no room for it.
    """
    organisation, _, rest = location.path.partition("/")
    repository, _, inner = rest.partition("/")
    patterns = (inner,) if inner else DATA_PATTERNS
    _fetch(_Snapshot(f"{organisation}/{repository}", "dataset", location.revision or None, patterns, token), target)


def _fetch(wanted: _Snapshot, target: Path) -> None:
    commit, files = retry_from().call(wanted.label, lambda: _look_up(wanted))
    pin(target, wanted.label, commit)
    missing = [file for file in files if not is_whole(target / file.name, file.size, file.digest)]
    require_space(target, sum(missing_bytes(target / file.name, file.size) for file in missing), wanted.label)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda file: _fetch_one(file, target), missing))


def _fetch_one(file: HubFile, target: Path) -> None:
    fetch_file(Wanted(f"{file.label}: {file.name}", file.open, file.digest), target / file.name, retry_from())


def _look_up(wanted: _Snapshot) -> tuple[str, list[HubFile]]:
    """The commit that the revision is by now, and its files.

    Raises:
        TransientError: the hub does not answer.
    """
    api = HfApi(token=wanted.token or False)
    with hub_errors(wanted.label, wanted.token):
        found = api.repo_info(
            wanted.repository, repo_type=wanted.kind, revision=wanted.revision, timeout=_ANSWER_SECONDS
        )
        if isinstance(found, ModelInfo):
            refuse_pickles(wanted.label, (file.rfilename for file in found.siblings or ()))
        commit = str(found.sha)
        tree = api.list_repo_tree(wanted.repository, recursive=True, revision=commit, repo_type=wanted.kind)
        entries = [entry for entry in tree if isinstance(entry, RepoFile)]
    return commit, [_described(wanted, commit, entry) for entry in _matching(wanted, entries)]


def _matching(wanted: _Snapshot, entries: Sequence[RepoFile]) -> list[RepoFile]:
    patterns = list(wanted.patterns)
    matching = list(filter_repo_objects(entries, allow_patterns=patterns, key=lambda entry: entry.path))
    if not matching:
        raise InputNotFoundError(f"{wanted.label} has {len(entries)} files and none of {', '.join(patterns)}")
    return matching


def _described(wanted: _Snapshot, commit: str, entry: RepoFile) -> HubFile:
    if leaves_folder(entry.path):
        raise InputNotFoundError(f"{wanted.label}: the file name {entry.path!r} leaves the folder")
    url = hf_hub_url(wanted.repository, entry.path, repo_type=wanted.kind, revision=commit)
    size, digest = (entry.size, entry.blob_id) if entry.lfs is None else (entry.lfs.size, entry.lfs.sha256)
    return HubFile(wanted.label, entry.path, url, size, digest, wanted.token)
