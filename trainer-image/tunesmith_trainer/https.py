"""Fetching a file over https: streamed to the disk, bounded, redirects followed by hand, public addresses only."""

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import certifi
import httpx

from tunesmith_trainer.addresses import ALLOWED_HOSTS_VARIABLE, parse_allowed_hosts, resolve_public
from tunesmith_trainer.errors import BadConfigError, BadDataError, InputNotFoundError, ServiceUnavailableError

MAX_REDIRECTS = 5
#: Environment variable: greatest size of one fetched file, in bytes.
MAX_BYTES_VARIABLE = "TUNESMITH_MAX_DOWNLOAD_BYTES"
DEFAULT_MAX_BYTES = 10 * 2**30
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True)
class FetchPolicy:
    """What a fetch may reach and how much it may bring.

    Attributes:
        resolve: host and port to the address to connect to; raises for addresses that must not be reached.
        max_bytes: greatest size of the file.
    """

    resolve: Callable[[str, int], str]
    max_bytes: int = DEFAULT_MAX_BYTES


def policy_from(environ: Mapping[str, str] = os.environ) -> FetchPolicy:
    """The policy that the environment states."""
    allowed = parse_allowed_hosts(environ.get(ALLOWED_HOSTS_VARIABLE, ""))
    limit = int(environ.get(MAX_BYTES_VARIABLE, DEFAULT_MAX_BYTES))
    return FetchPolicy(lambda host, port: resolve_public(host, port, allowed), limit)


def fetch_https(uri: str, target: Path, policy: FetchPolicy, token: str | None = None) -> None:
    """Fetch a URI into a file; the file appears only when it is whole.

    The name is resolved and checked once per hop, and the connection goes to that very address with the name kept in
    the Host header and in TLS, so DNS rebinding finds no gap. For the same reason no proxy is used.

    Args:
        uri: starts with https://.
        target: the file to write.
        policy: what may be reached.
        token: sent as a bearer token, to the URI's own host only.

    Raises:
        BadConfigError: a hop is no https, or leads to an address that is not public.
        InputNotFoundError: the server refuses (4xx), or its certificate is not valid.
        ServiceUnavailableError: the server does not answer, or answers 429 or 5xx.
        BadDataError: the file is larger than the policy allows.
    """
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
    target.parent.mkdir(parents=True, exist_ok=True)
    url = httpx.URL(uri)
    origin = (url.host, url.port)
    with httpx.Client(verify=context, trust_env=False, timeout=_TIMEOUT, follow_redirects=False) as client:
        for _ in range(MAX_REDIRECTS + 1):
            following = _fetch_hop(client, url, target, policy, token if (url.host, url.port) == origin else None)
            if following is None:
                return
            url = following
    raise InputNotFoundError(f"{uri} redirects more than {MAX_REDIRECTS} times")


def _fetch_hop(
    client: httpx.Client, url: httpx.URL, target: Path, policy: FetchPolicy, token: str | None
) -> httpx.URL | None:
    if url.scheme != "https":
        raise BadConfigError(f"{url} is not https; data is fetched over https only")
    address = policy.resolve(url.host, url.port or 443)
    request = client.build_request(
        "GET",
        url.copy_with(host=address),
        headers={"Host": url.netloc.decode(), **({"Authorization": f"Bearer {token}"} if token else {})},
        extensions={"sni_hostname": url.host},
    )
    try:
        response = client.send(request, stream=True)
        try:
            if response.is_redirect:
                return url.join(response.headers["Location"])
            _refuse_status(url, response.status_code)
            _save(response, url, target, policy.max_bytes)
        finally:
            response.close()
    except httpx.TransportError as error:
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
            raise InputNotFoundError(f"{url}: the certificate is not valid: {error}") from error
        raise ServiceUnavailableError(f"{url} does not answer: {error}") from error
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refuse_status(url: httpx.URL, status: int) -> None:
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise ServiceUnavailableError(f"{url} answers {status}")
    if status != httpx.codes.OK:
        raise InputNotFoundError(f"{url} answers {status}")


def _save(response: httpx.Response, url: httpx.URL, target: Path, max_bytes: int) -> None:
    part = target.with_name(f".{target.name}.part")
    size = 0
    with part.open("wb") as file:
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > max_bytes:
                part.unlink()
                raise BadDataError(f"{url} is larger than {max_bytes} bytes; use a pvc:// URI for data of this size")
            file.write(chunk)
    part.replace(target)
