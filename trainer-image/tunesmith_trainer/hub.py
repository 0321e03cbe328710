"""Fetching models and data sets from a Hugging Face hub (or a mirror, by HF_ENDPOINT)."""

from pathlib import Path

import httpx
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tunesmith_api import Location
from tunesmith_trainer.errors import InputNotFoundError, ServiceUnavailableError

DATASETS = "datasets"
MODEL_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "LICENSE*")
DATA_PATTERNS = ("*.parquet", "*.jsonl", "*.json", "*.csv", "*.jsonl.gz", "*.json.gz", "*.csv.gz", "*.txt")


def fetch_model(location: Location, target: Path, token: str | None) -> None:
    """Fetch a model repository's safetensors, configuration and tokenizer; weights in pickle files stay where they are.

    Raises:
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
    try:
        snapshot_download(
            repository,
            repo_type=kind,
            revision=revision or None,
            local_dir=target,
            allow_patterns=list(patterns),
            token=token or False,
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        raise InputNotFoundError(f"hf:// {kind} {repository}: {_first_line(error)}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.TransportError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and _is_refusal(error.response.status_code):
            raise InputNotFoundError(f"hf:// {kind} {repository}: {_first_line(error)}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ServiceUnavailableError(f"hf:// {kind} {repository}: {_first_line(error)}") from error


def _is_refusal(status: int) -> bool:
    return 400 <= status < 500 and status not in {408, 429}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
