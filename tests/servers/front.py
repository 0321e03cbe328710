"""An encrypted front before a plain server, as clouds have one: a path of its own, and a token that opens it."""

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx


class Front(http.server.ThreadingHTTPServer):
    """Passes requests below a path on to a server if they carry the token; answers 404 and 401 otherwise.

    Attributes:
        answers: the status of every answer, in order.
    """

    def __init__(self, target: str, path: str, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.path, self.token = target, path, token
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
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return httpx.Response(401, text="the token is not valid")
        url = f"{self.server.target}{self.path.removeprefix(self.server.path)}"
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        return httpx.request(self.command, url, content=body, headers=headers)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def front(target: str, path: str, token: str, certificate: tuple[Path, Path]) -> Iterator[Front]:
    """A front before a server such as http://127.0.0.1:5000, with a certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Front(target, path, token) as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.shutdown()
