"""Fetching a file over https: resumed, bounded, redirects followed by hand, public addresses only."""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import certifi
import httpx

from tunesmith_trainer.addresses import ALLOWED_HOSTS_VARIABLE, parse_allowed_hosts, resolve_public
from tunesmith_trainer.errors import BadConfigError, BadDataError, InputNotFoundError, ServiceUnavailableError
from tunesmith_trainer.retry import Retry, TransientError, retry_from
from tunesmith_trainer.transfer import Opened, Wanted, answer_bounds, fetch_file

MAX_REDIRECTS = 5
#: Environment variable: greatest size of one fetched file, in bytes.
MAX_BYTES_VARIABLE = "TUNESMITH_MAX_DOWNLOAD_BYTES"
DEFAULT_MAX_BYTES = 10 * 2**30
_CHUNK_BYTES = 2**20
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True)
class FetchPolicy:
    """What a fetch may reach and how much it may bring.

    Attributes:
        resolve: host and port to the address to connect to; raises for addresses that must not be reached.
        max_bytes: greatest size of the file.
        retry: how often a failed request is tried.
    """

    resolve: Callable[[str, int], str]
    max_bytes: int = DEFAULT_MAX_BYTES
    retry: Retry = field(default_factory=Retry)


def policy_from(environ: Mapping[str, str] = os.environ) -> FetchPolicy:
    """The policy that the environment states."""
    allowed = parse_allowed_hosts(environ.get(ALLOWED_HOSTS_VARIABLE, ""))
    limit = int(environ.get(MAX_BYTES_VARIABLE, DEFAULT_MAX_BYTES))
    return FetchPolicy(lambda host, port: resolve_public(host, port, allowed), limit, retry_from(environ))


def fetch_https(uri: str, target: Path, policy: FetchPolicy, token: str | None = None, digest: str = "") -> None:
    """Fetch a URI into a file; the file appears only when it is whole, and a killed fetch goes on where it was.

    The name is resolved and checked once per hop, and the connection goes to that very address with the name kept in
    the Host header and in TLS, so DNS rebinding finds no gap. For the same reason no proxy is used.

    Args:
        uri: starts with https://.
        target: the file to write.
        policy: what may be reached.
        token: sent as a bearer token, to the URI's own host only.
        digest: the file's SHA-256 in hexadecimal, where it is known.

    Raises:
        BadConfigError: a hop is no https, or leads to an address that is not public.
        InputNotFoundError: the server refuses (4xx), its certificate is not valid, or the content has another digest.
        ServiceUnavailableError: the server does not answer, or answers 429 or 5xx, after every retry.
        BadDataError: the file is larger than the policy allows.
        OutputNotWritableError: the disk has no room for it.
    """
    url = httpx.URL(uri)
    shown = str(url.copy_with(query=None))
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
    with httpx.Client(verify=context, trust_env=False, timeout=_TIMEOUT, follow_redirects=False) as client:
        source = _Source(client, url, policy, token)
        fetch_file(
            Wanted(shown, source.open, digest, lambda size: _refuse_size(shown, size, policy)), target, policy.retry
        )


def _refuse_size(shown: str, size: int, policy: FetchPolicy) -> None:
    if size > policy.max_bytes:
        raise BadDataError(f"{shown} is larger than {policy.max_bytes} bytes; use a pvc:// URI for data of this size")


@dataclass(frozen=True)
class _Source:
    """A URL that is read with a client."""

    client: httpx.Client
    url: httpx.URL
    policy: FetchPolicy
    token: str | None

    @contextlib.contextmanager
    def open(self, start: int, identity: str) -> Iterator[Opened]:
        """Follow redirects to the file and open it at a position; the token goes to the URL's own host only."""
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            own = (url.host, url.port) == (self.url.host, self.url.port)
            response = self._ask(url, start, identity, self.token if own else None)
            with contextlib.closing(response):
                if start and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    start, identity = 0, ""  # another file by now, and a shorter one
                    continue
                if not response.has_redirect_location:
                    _refuse_status(url, response)
                    yield _opened(response, identity)
                    return
                url = url.join(response.headers["Location"])
        raise InputNotFoundError(f"{self.url.copy_with(query=None)} redirects more than {MAX_REDIRECTS} times")

    def _ask(self, url: httpx.URL, start: int, identity: str, token: str | None) -> httpx.Response:
        if url.scheme != "https":
            raise BadConfigError(f"{url.copy_with(query=None)} is not https; data is fetched over https only")
        try:
            address = self.policy.resolve(url.host, url.port or 443)
        except ServiceUnavailableError as error:
            raise TransientError(str(error)) from error
        headers = {"Host": url.netloc.decode(), "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Range": f"bytes={start}-", "If-Range": identity} if start else {}
        request = self.client.build_request(
            "GET", url.copy_with(host=address), headers=headers, extensions={"sni_hostname": url.host}
        )
        with _transport_errors(url):
            return self.client.send(request, stream=True)


def _opened(response: httpx.Response, asked: str) -> Opened:
    """What a response brings; `asked` is the identity that its request had as a condition."""
    start, size = answer_bounds(response.status_code, response.headers)
    identity = _identity(response.headers)
    if start and not identity and not asked.startswith('"'):
        identity = asked  # a rest may come without Last-Modified, though never without its ETag (RFC 9110, 15.3.7)
    return Opened(_chunks(response), start, size, identity)


def _identity(headers: httpx.Headers) -> str:
    etag: str = headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag or str(headers.get("Last-Modified", ""))


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    with _transport_errors(response.url):
        yield from response.iter_raw(_CHUNK_BYTES)


@contextlib.contextmanager
def _transport_errors(url: httpx.URL) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        shown = url.copy_with(query=None)
        wrong = next((cause for cause in _causes(error) if isinstance(cause, httpx.InvalidURL)), None)
        if wrong is not None:  # the client reads a Location although it is not to follow it
            raise InputNotFoundError(f"{shown} redirects to what is no address: {wrong}") from error
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
            raise InputNotFoundError(f"{shown}: the certificate is not valid: {error}") from error
        raise TransientError(f"does not answer: {error or type(error).__name__}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refuse_status(url: httpx.URL, response: httpx.Response) -> None:
    status = response.status_code
    if status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS} or status >= 500:
        raise TransientError(f"answers {status}", response.headers.get("Retry-After", ""))
    if status not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        raise InputNotFoundError(f"{url.copy_with(query=None)} answers {status}")
