"""Connections to object stores (s3://, gs://, az://): opened with a secret's keys, errors told in our own words."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from tunesmith_api import Location, Scheme
from tunesmith_trainer.credentials import Credentials
from tunesmith_trainer.errors import BadConfigError, InputNotFoundError, StageError
from tunesmith_trainer.retry import Retry, TransientError

#: The library's own retries stay few: ours resume, count and tell.
_LIBRARY_RETRIES: Any = {"max_retries": 1}
_CLIENT: dict[str, Any] = {"timeout": "24h", "read_timeout": "60s", "connect_timeout": "10s"}
_STATUS = re.compile(r"status code: (\d{3})")
_PASSING = frozenset({408, 429})


class ChangedError(TransientError):
    """Raised when an object is no longer the one that an earlier attempt began to read."""


@dataclass(frozen=True)
class Remote:
    """A place in an object store.

    Attributes:
        store: the bucket or container.
        location: the parsed URI.
        credentials: for hiding them in messages.
        refusal: the class of error that says that the place cannot be used.
        retry: how often a failed request is tried.
    """

    store: Any
    location: Location
    credentials: Credentials
    refusal: type[StageError] = InputNotFoundError
    retry: Retry = Retry()  # noqa: RUF009 - frozen

    @property
    def folder(self) -> str:
        """The path as a folder, without slashes at its ends."""
        return self.location.path.strip("/")

    def label(self, path: str) -> str:
        """An object in words of a URI."""
        return f"{self.location.scheme}://{self.location.authority}/{path}"

    def key(self, name: str) -> str:
        """The path of a file below the folder."""
        return f"{self.folder}/{name}" if self.folder else name

    def call(self, path: str, operation: Callable[[], Any]) -> Any:
        """The value of a request; None where the object does not exist.

        Raises:
            StageError: the store refuses, or does not answer after every retry.
        """

        def attempt() -> Any:
            with self.errors(path):
                return operation()

        try:
            return self.retry.call(self.label(path), attempt)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def errors(self, path: str) -> Iterator[None]:
        """Turn the library's errors into ours: what may pass is a TransientError; an absent object stays as it is."""
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self.refusal(f"{self.label(path)}: access is denied: {self._reason(error)}") from None
        except PreconditionError as error:
            raise ChangedError("the object changed while it was read") from error
        except BaseError as error:
            reason = self._reason(error)
            status = _STATUS.search(reason)
            if status is not None and int(status[1]) < 500 and int(status[1]) not in _PASSING:
                raise self.refusal(f"{self.label(path)}: {reason}") from None
            raise TransientError(reason) from None

    def _reason(self, error: Exception) -> str:
        """The first line of a library's message; the rest is a dump of the request."""
        first = str(error).partition("\n\nDebug source")[0].strip()
        code = re.search(r"<Code>(.*?)</Code>", first)
        line = f"{first.splitlines()[0].partition('<?xml')[0].rstrip(': ')}{f' ({code[1]})' if code else ''}"
        return self.credentials.hide(re.sub(r"\?[^\s]*", "", line))


def open_remote(
    location: Location,
    credentials: Credentials,
    retry: Retry,
    *,
    field: str,
    refusal: type[StageError] = InputNotFoundError,
) -> Remote:
    """The place that a URI names; nothing is asked yet.

    Raises:
        BadConfigError: the credentials cannot be understood, or an account name is missing.
    """
    try:
        store = _OPENERS[location.scheme](location.authority, credentials)
    except (BaseError, ValueError) as error:
        reason = credentials.hide(str(error).splitlines()[0])
        raise BadConfigError(f"{field}: {location.scheme}://{location.authority}: {reason}") from None
    return Remote(store, location, credentials, refusal, retry)


def _client(endpoint: str | None) -> Any:
    """Plain http only where the secret's endpoint says so; the same authorities as everywhere in the trainer."""
    roots = Path(os.environ.get("SSL_CERT_FILE") or certifi.where()).read_text(encoding="utf-8")
    return {**_CLIENT, "allow_http": (endpoint or "").startswith("http://"), "root_certificate": roots}


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _s3(bucket: str, credentials: Credentials) -> Any:
    endpoint = credentials.get("endpoint")
    key = credentials.get("access-key-id")
    options: dict[str, Any] = _given(
        access_key_id=key,
        secret_access_key=credentials.get("secret-access-key"),
        session_token=credentials.get("session-token"),
        endpoint=endpoint,
    )
    return S3Store(
        bucket,
        region=credentials.get("region") or "us-east-1",
        skip_signature=key is None,
        client_options=_client(endpoint),
        retry_config=_LIBRARY_RETRIES,
        **options,
    )


def _gs(bucket: str, credentials: Credentials) -> Any:
    endpoint, account = credentials.get("endpoint"), credentials.get("service-account.json")
    options: dict[str, Any] = _given(service_account_key=account, base_url=endpoint)
    return GCSStore(
        bucket,
        skip_signature=account is None,
        client_options=_client(endpoint),
        retry_config=_LIBRARY_RETRIES,
        **options,
    )


def _az(container: str, credentials: Credentials) -> Any:
    account, endpoint = credentials.get("account-name"), credentials.get("endpoint")
    if account is None:
        raise ValueError(
            "the storage account is not known; give secretRef with the key account-name, and with account-key or"
            " sas-token unless the container is public"
        )
    key, token = credentials.get("account-key"), (credentials.get("sas-token") or "").lstrip("?")
    options: dict[str, Any] = _given(account_key=key, sas_key=token, endpoint=endpoint)
    return AzureStore(
        container,
        account_name=account,
        skip_signature=not (key or token),
        client_options=_client(endpoint),
        retry_config=_LIBRARY_RETRIES,
        **options,
    )


_OPENERS: dict[Scheme, Callable[[str, Credentials], Any]] = {Scheme.S3: _s3, Scheme.GS: _gs, Scheme.AZ: _az}
