"""Bringing an input to a local path: mounted ones are used in place, the others are fetched into the workspace."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tunesmith_api import JobConfig, Scheme, UriError, parse_uri
from tunesmith_api.finetunejob import SecretReference
from tunesmith_api.uri import Location
from tunesmith_trainer import log
from tunesmith_trainer.errors import BadConfigError, InputNotFoundError
from tunesmith_trainer.https import fetch_https, policy_from
from tunesmith_trainer.hub import DATASETS, fetch_dataset, fetch_model
from tunesmith_trainer.workspace import Workspace, key_of, read_json, write_json

#: The key of a secret that holds a bearer token.
TOKEN_KEY = "token"  # noqa: S105 - the key's name, not the secret


@dataclass(frozen=True)
class Input:
    """One input of the job.

    Attributes:
        field: the spec's field, for messages.
        uri: where it lies.
        secret: credentials.
    """

    field: str
    uri: str
    secret: SecretReference | None = None


def _token(config: JobConfig, source: Input) -> str | None:
    if source.secret is None:
        return None
    folder = config.secrets.get(source.secret.name)
    path = Path(folder) / TOKEN_KEY if folder else None
    if path is None or not path.is_file():
        raise InputNotFoundError(f"{source.field}.secretRef: secret {source.secret.name!r} has no key {TOKEN_KEY!r}")
    return path.read_text(encoding="utf-8").strip()


def _parse(source: Input) -> Location:
    try:
        return parse_uri(source.uri)
    except UriError as error:
        raise BadConfigError(f"{source.field}.uri: {error}") from error


def _mounted(config: JobConfig, source: Input, location: Location) -> Path:
    text = location.path if location.scheme is Scheme.FILE else config.inputs.get(source.uri)
    if text is None:
        raise InputNotFoundError(f"{source.field}.uri: {source.uri} is not mounted")
    path = Path(text)
    if not path.exists():
        raise InputNotFoundError(f"{source.field}.uri: {source.uri} does not exist (looked at {path})")
    return path


def locate_data(config: JobConfig, workspace: Workspace, source: Input) -> Path:
    """The local file or folder of a data set.

    Raises:
        StageError: it cannot be found, reached or read.
    """
    location = _parse(source)
    if location.scheme in {Scheme.FILE, Scheme.PVC, Scheme.CONFIGMAP}:
        return _mounted(config, source, location)
    if location.scheme is Scheme.HF and location.authority != DATASETS:
        raise BadConfigError(
            f"{source.field}.uri: {source.uri} is a model; write hf://datasets/organisation/repository"
        )
    if location.scheme not in {Scheme.HF, Scheme.HTTPS}:
        raise BadConfigError(f"{source.field}.uri: {location.scheme}:// cannot be read yet")
    folder = workspace.downloads / key_of(source.uri)[:16]
    name = PurePosixPath(location.path.partition("?")[0]).name or "data"
    target = folder if location.scheme is Scheme.HF else folder / name
    if read_json(folder / ".complete.json") is None:
        log.info("fetching", uri=source.uri)
        if location.scheme is Scheme.HF:
            fetch_dataset(location, folder, _token(config, source))
        else:
            fetch_https(source.uri, target, policy_from(), _token(config, source))
        write_json(folder / ".complete.json", {"uri": source.uri})
    return target


def locate_model(config: JobConfig, workspace: Workspace, source: Input) -> Path:
    """The local folder of a model in Hugging Face's layout.

    Raises:
        StageError: it cannot be found, reached or read.
    """
    location = _parse(source)
    if location.scheme in {Scheme.FILE, Scheme.PVC, Scheme.CONFIGMAP}:
        return _mounted(config, source, location)
    if location.scheme is not Scheme.HF:
        raise BadConfigError(
            f"{source.field}.uri: a model cannot be read from {location.scheme}://; use hf:// or a folder by pvc://"
        )
    if location.authority == DATASETS:
        raise BadConfigError(f"{source.field}.uri: {source.uri} is a data set, not a model")
    marker = workspace.model / ".tunesmith.json"
    if (read_json(marker) or {}).get("uri") != source.uri:
        log.info("fetching", uri=source.uri)
        fetch_model(location, workspace.model, _token(config, source))
        write_json(marker, {"uri": source.uri})
    return workspace.model
