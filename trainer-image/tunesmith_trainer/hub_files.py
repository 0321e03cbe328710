"""Files of a Hugging Face hub: read from any position, redirected by hand so that the token stays with the hub.

The hub's own client keeps no part of a file when it is killed, and its Xet protocol none either; every file behind a
repository's `resolve` address can be had over plain HTTP in ranges.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2  # the client's own; its errors are no httpx ones
from huggingface_hub import get_session
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined] # documented to be there

from tunesmith_trainer.errors import InputNotFoundError
from tunesmith_trainer.retry import TransientError
from tunesmith_trainer.transfer import Opened, answer_bounds

MAX_REDIRECTS = 5
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
#: What may be wrong where there is a token or none.
_HINTS = {
    False: "a private or gated repository needs secretRef with the key token",
    True: "if it is private or gated, the token of secretRef does not open it",
}
_STATUS_LINE = re.compile(r"\d{3} Client Error\.")
_QUERY = re.compile(r"\?[^\s']*")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at a commit.

    Attributes:
        label: the repository in messages.
        name: of the file, below the repository.
        url: where the hub resolves it.
        size: in bytes.
        digest: SHA-256 of a large file, Git's hash of a small one.
        token: sent to the hub only; None for anonymous requests.
    """

    label: str
    name: str
    url: str
    size: int
    digest: str
    token: str | None = field(repr=False)

    @contextlib.contextmanager
    def open(self, start: int, _: str) -> Iterator[Opened]:
        """Read it from a position on; the digest tells its content whatever host the hub refers to."""
        with contextlib.closing(self._follow(start)) as response:
            if not (start and response.status_code == 416):
                with hub_errors(self.label, self.token):
                    hf_raise_for_status(response)
            yield Opened(self._chunks(response), *answer_bounds(response.status_code, response.headers), self.digest)

    def _follow(self, start: int) -> httpx2.Response:
        session, url = get_session(), httpx2.URL(self.url)
        hub = _origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
            if self.token and _origin(url) == hub:
                headers["Authorization"] = f"Bearer {self.token}"
            request = session.build_request("GET", url, headers=headers, timeout=_TIMEOUT)
            with hub_errors(self.label, self.token):
                response = session.send(request, stream=True, follow_redirects=False)
            if not response.has_redirect_location:
                return response
            response.close()
            url = url.join(response.headers["Location"])
        raise InputNotFoundError(f"{self.label}: {self.name} redirects more than {MAX_REDIRECTS} times")

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        with hub_errors(self.label, self.token):
            yield from response.iter_raw()  # as they come: of a chunk that is cut nothing would be kept


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@contextlib.contextmanager
def hub_errors(label: str, token: str | None) -> Iterator[None]:
    """Turn the client's errors into ours: a TransientError for what may pass.

    Raises:
        InputNotFoundError: the hub refuses; the message says what may be wrong with the token.
    """
    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        raise InputNotFoundError(f"{label}: {_first_line(error)}; {_HINTS[bool(token)]}") from error
    except (HfHubHTTPError, httpx2.TransportError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and _is_refusal(error.response.status_code):
            raise InputNotFoundError(f"{label}: {_first_line(error)}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
        raise TransientError(_first_line(error), asked) from error


def _is_refusal(status: int) -> bool:
    return 400 <= status < 500 and status not in {408, 429}


def _first_line(error: Exception) -> str:
    """The first line that says something, without the query of a signed address.

    The client's own begins with a line that only has the status.
    """
    lines = [line for line in str(error).splitlines() if line.strip() and not _STATUS_LINE.match(line)]
    return _QUERY.sub("", lines[0].strip()) if lines else type(error).__name__
