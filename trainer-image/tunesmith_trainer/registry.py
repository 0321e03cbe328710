"""The connection to OCI registries (oci://): logins, plain http where it is meant, errors in our own words.

The `oras` library parses challenges and gets tokens; requests are made here, since the library's own retries wait for
minutes where access is denied, and since blobs are to be resumed and checked.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from oras.auth import BasicAuth
from oras.provider import Registry

from tunesmith_api import Location
from tunesmith_trainer.credentials import Credentials
from tunesmith_trainer.errors import BadConfigError, StageError
from tunesmith_trainer.retry import Retry, TransientError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
DEFAULT_TAG = "latest"
#: Seconds to connect, and seconds without a byte.
_TIMEOUT = (10, 60)
_PORTS = {"http": 80, "https": 443}
#: Docker Hub: the name in images' references, and those that logins are kept under and its interface answers at.
_HUB, _HUB_NAMES = "docker.io", frozenset({"index.docker.io", "registry-1.docker.io"})
_LOOPBACK = re.compile(r"^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$")


class _Session(requests.Session):
    """A session whose requests end, and in which no other host than the one that was asked calls for a login."""

    def request(self, method: Any, url: Any, *arguments: Any, **options: Any) -> requests.Response:
        """A request with the time limits."""
        options.setdefault("timeout", _TIMEOUT)
        answer = super().request(method, url, *arguments, **options)
        if _origin(answer.url) != _origin(url):  # redirected, as blobs are to a store
            answer.headers.pop("Www-Authenticate", None)
        return answer


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


class _Client(Registry):  # type: ignore[misc] # the library has no types
    """The library's client without its own retries."""

    def do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        """One request, with one more if the registry asks for credentials."""
        answer: requests.Response = Registry.do_request.__wrapped__(self, *arguments, **options)
        return answer

    def request_openly(self, url: str, method: str, **options: Any) -> requests.Response:
        """One request without any login or token."""
        answer: requests.Response = self.session.request(method, url, verify=self._tls_verify, **options)
        return answer


@dataclass(frozen=True)
class Repository:
    """A repository of a registry.

    Attributes:
        client: speaks to the registry.
        location: the parsed URI.
        credentials: for hiding them in messages.
        refusal: the class of error that says that the repository cannot be used.
        retry: how often a failed request is tried.
    """

    client: Any
    location: Location
    credentials: Credentials
    refusal: type[StageError]
    retry: Retry

    @property
    def name(self) -> str:
        """The repository in words of a URI."""
        return f"oci://{self.location.authority}/{self.location.path}"

    @property
    def reference(self) -> str:
        """The digest or the tag that the URI names."""
        return self.location.revision or self.location.tag or DEFAULT_TAG

    def url(self, path: str) -> str:
        """The address of something below the repository."""
        return f"{self.client.prefix}://{self.location.authority}/v2/{self.location.path}/{path}"

    def _login(self) -> dict[str, str]:
        """The header of a plain login, sent at once: a stream cannot be sent again after a challenge."""
        auth = self.client.auth
        return dict(auth.get_auth_header()) if isinstance(auth, BasicAuth) and hasattr(auth, "_basic_auth") else {}

    def absolute(self, address: str) -> str:
        """An address that the registry gave, which may lack scheme and host."""
        return str(urljoin(self.url(""), address))

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """One answer of the registry, whatever its status below 500.

        A host that it refers to, as for an upload, gets neither login nor token: what they may do there its address
        says already.

        Raises:
            TransientError: for what may pass.
            StageError: of the class `refusal`, when access is denied.
        """
        try:
            answer = self._ask(method, url, options)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if isinstance(error, requests.exceptions.SSLError):
                raise self.refusal(f"{self.name}: {reason_of(error)}") from None
            raise TransientError(f"does not answer: {self.credentials.hide(reason_of(error))}") from None
        except ValueError:  # the library's word for a challenge that it cannot answer
            raise self.refusal(f"{self.name}: access is denied; check secretRef") from None
        if answer.status_code in {401, 403}:
            raise self.refusal(f"{self.name}: access is denied (answers {answer.status_code}); check secretRef")
        if answer.status_code in {408, 429} or answer.status_code >= 500:
            raise TransientError(f"answers {answer.status_code}", answer.headers.get("Retry-After", ""))
        return answer

    def _ask(self, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        if _origin(url) != _origin(self.url("")):
            opened: requests.Response = self.client.request_openly(url, method, **options)
            return opened
        options["headers"] = {**self._login(), **options.get("headers", {})}
        answer: requests.Response = self.client.do_request(url, method, **options)
        if answer.status_code == 401 and getattr(self.client.auth, "token", None):
            self.client.auth.token = None  # it was for another scope, or has expired
            answer = self.client.do_request(url, method, **options)
        return answer

    def call(self, what: str, attempt: Callable[[], Any]) -> Any:
        """The value of some requests that are tried again."""
        return self.retry.call(f"{self.name}: {what}", attempt)


def reason_of(error: Exception) -> str:
    """What went wrong with a connection, in a few words: the library's own message repeats the whole address."""
    found = re.search(r"(\[Errno -?\d+\] [^'\")]*|[Cc]onnection [^'\")]*|CERTIFICATE[^'\")]*|timed out)", str(error))
    return found[1] if found else type(error).__name__


def open_repository(
    location: Location, credentials: Credentials, retry: Retry, *, field: str, refusal: type[StageError]
) -> Repository:
    """The repository that a URI names.

    Plain http is spoken to a registry on this machine, and where the secret's key `plain-http` is `true`.

    Raises:
        BadConfigError: the credentials cannot be understood.
        StageError: the registry denies access, or does not answer.
    """
    plain = bool(_LOOPBACK.match(location.authority)) or credentials.get("plain-http") == "true"
    login = login_of(location.authority, credentials, field)
    verify = os.environ.get("SSL_CERT_FILE") or True
    client = _Client(hostname=location.authority, insecure=plain, tls_verify=verify)
    repository = Repository(client, location, credentials, refusal, retry)
    _use_session(client)
    challenge = repository.call("", lambda: _challenge(repository))
    if challenge.lower().startswith("basic"):
        client = _Client(hostname=location.authority, insecure=plain, tls_verify=verify, auth_backend="basic")
        _use_session(client)
        if login is None:
            raise refusal(
                f"{repository.name}: the registry asks for a login; give {field.rpartition('.')[0]}.secretRef"
            )
    if login is not None:
        client.auth.set_basic_auth(*login)
    return Repository(client, location, credentials, refusal, retry)


def _use_session(client: Any) -> None:
    client.session = _Session()
    client.session.trust_env = False  # neither ~/.netrc nor a proxy gets to see a login
    client.auth.session = client.session


def _challenge(repository: Repository) -> str:
    """The registry's way of authentication, as its root states it; empty where it has none."""
    url = f"{repository.client.prefix}://{repository.location.authority}/v2/"
    try:
        answer = repository.client.session.get(url, verify=repository.client._tls_verify)  # noqa: SLF001
    except requests.RequestException as error:
        raise TransientError(f"does not answer: {reason_of(error)}") from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise TransientError(f"answers {answer.status_code}", answer.headers.get("Retry-After", ""))
    header: str = answer.headers.get("Www-Authenticate", "") if answer.status_code == 401 else ""
    return header


def login_of(registry: str, credentials: Credentials, field: str) -> tuple[str, str] | None:
    """Name and password for a registry, where a secret has them.

    Raises:
        BadConfigError: its docker configuration has none for this registry, or cannot be read.
    """
    text = credentials.get(".dockerconfigjson")
    if text is None:
        name, word = credentials.get("username"), credentials.get("password")
        return (name, word) if name and word else None
    where = f"{field}: secret {credentials.secret!r}, key .dockerconfigjson"
    try:
        auths = json.loads(text)["auths"]
    except (ValueError, KeyError, TypeError):
        auths = None
    if not isinstance(auths, Mapping):
        raise BadConfigError(f"{where}: is no JSON with 'auths'")
    entry = next((auths[name] for name in auths if _host(name) == _host(registry)), None)
    if entry is None:
        raise BadConfigError(f"{where}: has no login for {registry}; it has: {', '.join(map(_host, auths)) or 'none'}")
    login = _pair(entry) if isinstance(entry, Mapping) else None
    if login is None:
        raise BadConfigError(
            f"{where}: the login for {registry} has no name with a password, neither as username and password nor as"
            " auth, the base64 of name:password; an identitytoken or a credential helper is not used"
        )
    return login


def _pair(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Name and password of an entry of a docker configuration; None where it has none that can be read."""
    name, word = entry.get("username"), entry.get("password")
    if entry.get("auth"):
        try:
            name, _, word = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except ValueError:  # no base64, or no UTF-8
            return None
    return (str(name), str(word)) if name and word else None


def _host(name: str) -> str:
    """The host of an entry's name; Docker Hub has several."""
    host = re.sub(r"^https?://", "", name).partition("/")[0]
    return _HUB if host in _HUB_NAMES else host


def sha256(content: bytes) -> str:
    """A digest in the registry's writing."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
