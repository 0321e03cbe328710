"""An encrypted front before a plain server, as clouds have one: a path of its own, and tokens that open it."""

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx


class Front(http.server.ThreadingHTTPServer):
    """Passes requests below a path on to a server if they carry a token that opens it; answers 404 and 401 otherwise.

    Attributes:
        answers: the status of every answer, in order.
    """

    def __init__(self, target: str, path: str, opens: Callable[[str], bool]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.path, self.opens = target, path, opens
        self.answers: list[int] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Front

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self._answer(body)
        self.server.answers.append(answer.status_code)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = _relay  # noqa: N815 - http.server's names

    def _answer(self, body: bytes) -> httpx.Response:
        if not self.path.startswith(f"{self.server.path}/"):
            return httpx.Response(404, text="no such workspace")
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not self.server.opens(token):
            return httpx.Response(401, text="the token is not valid")
        url = f"{self.server.target}{self.path.removeprefix(self.server.path)}"
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        return httpx.request(self.command, url, content=body, headers=headers)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def front(target: str, path: str, opens: Callable[[str], bool], certificate: tuple[Path, Path]) -> Iterator[Front]:
    """A front before a server such as http://127.0.0.1:5000, with a certificate and its key."""
    with encrypted(Front(target, path, opens), certificate) as found:
        yield found


Server = TypeVar("Server", bound=http.server.ThreadingHTTPServer)


@contextlib.contextmanager
def encrypted(server: Server, certificate: tuple[Path, Path]) -> Iterator[Server]:
    """A server of this process, behind a certificate and its key, until the block ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with server as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.shutdown()
