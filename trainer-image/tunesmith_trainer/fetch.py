"""Bringing an input to a local path: mounted ones are used in place, the others are fetched into the workspace."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tunesmith_api import JobConfig, Scheme, UriError, parse_uri
from tunesmith_api.finetunejob import SecretReference
from tunesmith_api.uri import Location, without_query
from tunesmith_trainer import log
from tunesmith_trainer.artifacts import fetch_artifact
from tunesmith_trainer.credentials import Credentials, read_credentials
from tunesmith_trainer.errors import BadConfigError, InputNotFoundError
from tunesmith_trainer.https import fetch_https, policy_from
from tunesmith_trainer.hub import DATA_PATTERNS, DATASETS, MODEL_PATTERNS, fetch_dataset, fetch_model
from tunesmith_trainer.object_store import fetch_objects
from tunesmith_trainer.registry import open_repository
from tunesmith_trainer.retry import retry_from
from tunesmith_trainer.stores import open_remote
from tunesmith_trainer.workspace import Workspace, key_of, read_json, write_json

#: Schemes whose things are local paths already: mounted by the operator, or on this machine.
_MOUNTED = frozenset({Scheme.FILE, Scheme.PVC, Scheme.CONFIGMAP, Scheme.JOB})
_COMPLETE = ".complete.json"


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


@dataclass(frozen=True)
class _Order:
    """What a fetcher gets: the input, where it lies, its credentials, the folder to fetch into, the wanted files."""

    source: Input
    location: Location
    credentials: Credentials
    target: Path
    patterns: tuple[str, ...]


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


# The fetchers: each brings an input into a folder and gives the local file or folder.


def _https(order: _Order) -> Path:
    name = PurePosixPath(order.location.path.partition("?")[0]).name or "data"
    uri = order.source.uri.partition("#")[0]
    fetch_https(uri, order.target / name, policy_from(), order.credentials.get("token"), order.location.digest)
    return order.target / name


def _hub_dataset(order: _Order) -> Path:
    fetch_dataset(order.location, order.target, order.credentials.get("token"))
    return order.target


def _hub_model(order: _Order) -> Path:
    fetch_model(order.location, order.target, order.credentials.get("token"))
    return order.target


def _objects(order: _Order) -> Path:
    remote = open_remote(order.location, order.credentials, retry_from(), field=f"{order.source.field}.uri")
    return fetch_objects(remote, order.target, order.patterns)


def _artifact(order: _Order) -> Path:
    field = f"{order.source.field}.uri"
    repository = open_repository(
        order.location, order.credentials, retry_from(), field=field, refusal=InputNotFoundError
    )
    fetch_artifact(repository, order.target)
    return order.target


_Fetcher = Callable[[_Order], Path]
_FETCHERS: dict[Scheme, _Fetcher] = {
    Scheme.S3: _objects,
    Scheme.GS: _objects,
    Scheme.AZ: _objects,
    Scheme.OCI: _artifact,
}
_DATA_FETCHERS: dict[Scheme, _Fetcher] = {**_FETCHERS, Scheme.HTTPS: _https, Scheme.HF: _hub_dataset}
_MODEL_FETCHERS: dict[Scheme, _Fetcher] = {**_FETCHERS, Scheme.HF: _hub_model}


def locate_data(config: JobConfig, workspace: Workspace, source: Input) -> Path:
    """The local file or folder of a data set.

    Raises:
        StageError: it cannot be found, reached or read.
    """
    location = _parse(source)
    if location.scheme in _MOUNTED:
        return _mounted(config, source, location)
    if location.scheme is Scheme.HF and location.authority != DATASETS:
        raise BadConfigError(
            f"{source.field}.uri: {source.uri} is a model; write hf://datasets/organisation/repository"
        )
    folder = workspace.downloads / key_of(source.uri)[:16]
    known = read_json(folder / _COMPLETE)
    if known is not None:
        return folder / str(known.get("name", ""))
    order = _Order(source, location, _credentials(config, source, location), folder, DATA_PATTERNS)
    log.info("fetching", uri=without_query(source.uri))
    path = _DATA_FETCHERS[location.scheme](order)
    write_json(folder / _COMPLETE, {"uri": without_query(source.uri), "name": str(path.relative_to(folder))})
    return path


def locate_model(config: JobConfig, workspace: Workspace, source: Input) -> Path:
    """The local folder of a model in Hugging Face's layout.

    Raises:
        StageError: it cannot be found, reached or read.
    """
    location = _parse(source)
    if location.scheme in _MOUNTED:
        return _mounted(config, source, location)
    if location.scheme not in _MODEL_FETCHERS:
        raise BadConfigError(
            f"{source.field}.uri: a model is a folder, which {location.scheme}:// does not have;"
            " use hf://, s3://, gs://, az://, oci:// or pvc://"
        )
    if location.authority == DATASETS and location.scheme is Scheme.HF:
        raise BadConfigError(f"{source.field}.uri: {source.uri} is a data set, not a model")
    marker = workspace.model / ".tunesmith.json"
    complete = {"uri": source.uri, "complete": True}
    if read_json(marker) == complete:
        return workspace.model
    order = _Order(source, location, _credentials(config, source, location), workspace.model, MODEL_PATTERNS)
    log.info("fetching", uri=without_query(source.uri))
    if _MODEL_FETCHERS[location.scheme](order) != workspace.model:
        raise InputNotFoundError(f"{source.field}.uri: {source.uri} is a single file; a model is a folder")
    write_json(marker, complete)
    return workspace.model


def _credentials(config: JobConfig, source: Input, location: Location) -> Credentials:
    return read_credentials(config, source.field, location.scheme, source.secret)
