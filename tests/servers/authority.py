"""A token service as Microsoft Entra has one: tokens for a service principal, each for some seconds."""

import http.server
import json
import time
from urllib.parse import parse_qsl

TENANT, CLIENT, SECRET = "the-tenant", "the-client", "a-very-secret-secret"


class Authority(http.server.ThreadingHTTPServer):
    """Issues token-1, token-2 and so on by the client-credentials flow; answers 401 to another secret.

    Attributes:
        ends: each token's end, in seconds of the monotonic clock.
        scopes: what each was asked for.
    """

    def __init__(self, life_seconds: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.life_seconds = life_seconds
        self.ends: dict[str, float] = {}
        self.scopes: list[str] = []

    def keys(self) -> dict[str, str]:
        """The keys of a Secret that opens it."""
        address = f"https://127.0.0.1:{self.server_address[1]}/"
        return {"tenant-id": TENANT, "client-id": CLIENT, "client-secret": SECRET, "authority": address}

    def opens(self, token: str) -> bool:
        """Whether a token is one of its own and has not run out."""
        return time.monotonic() < self.ends.get(token, 0)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Authority

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        scope = form.pop("scope", "")
        known = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
        if self.path != f"/{TENANT}/oauth2/v2.0/token" or form != known:
            self._answer(401, {"error": "invalid_client", "error_description": f"not {form.get('client_secret')}"})
            return
        token = f"token-{len(self.server.ends) + 1}"
        self.server.ends[token] = time.monotonic() + self.server.life_seconds
        self.server.scopes.append(scope)
        self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": self.server.life_seconds})

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
