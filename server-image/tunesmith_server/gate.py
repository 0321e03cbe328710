"""The ASGI middleware around every request: readiness, body size, in-flight count, outcome metrics, one log line."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_server.errors import ApiError, BodyTooLargeError, UnavailableError
from tunesmith_server.lifecycle import Lifecycle, Phase
from tunesmith_server.metrics import Metrics
from tunesmith_server.responses import error_response

_log = logging.getLogger("tunesmith_server.access")
_DISCARD_FACTOR = 16  # how much of a too large body is read so that the client can read the answer
_REASONS = {
    Phase.LOADING: "The server is loading the model.",
    Phase.DRAINING: "The server is shutting down.",
    Phase.READY: "The engine has failed, and the server waits to be restarted.",
}
_OUTCOMES = {429: "rejected", 503: "unavailable"}


@dataclass
class _Exchange:
    """One request on its way."""

    scope: Scope
    started: float
    id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    status: int = 0

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def outcome(self) -> str:
        told = self.scope["state"].get("outcome")
        if told is not None:
            return str(told)
        return _OUTCOMES.get(self.status) or {2: "success", 4: "client_error"}.get(self.status // 100, "error")


class Gate:
    """Wraps an ASGI application; `clock` is in seconds and monotonic."""

    def __init__(
        self, app: ASGIApp, *, lifecycle: Lifecycle, metrics: Metrics, max_body_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._app, self._lifecycle, self._metrics, self._clock = app, lifecycle, metrics, clock
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not _is_work(scope["path"]):
            await self._app(scope, receive, send)
            return
        scope["state"] = {**scope.get("state", {})}
        exchange = _Exchange(scope, self._clock())
        scope["state"]["request_id"] = exchange.id
        try:
            with self._lifecycle.request():
                await self._handle(exchange, receive, self._watching(exchange, send))
        finally:
            self._report(exchange)

    async def _handle(self, exchange: _Exchange, receive: Receive, send: Send) -> None:
        scope = exchange.scope
        try:
            if not self._lifecycle.is_ready:
                raise UnavailableError(_REASONS[self._lifecycle.phase])
            if int(dict(scope["headers"]).get(b"content-length", b"0")) > self._max_body_bytes:
                await self._discard(receive)
                raise self._too_large()
            await self._app(scope, self._counting(receive), send)
        except ApiError as error:
            await error_response(error)(scope, receive, send)

    def _counting(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                await self._discard(receive)
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"The request body is larger than {self._max_body_bytes} bytes.")

    async def _discard(self, receive: Receive) -> None:
        size = 0
        while size < self._max_body_bytes * _DISCARD_FACTOR:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    def _watching(self, exchange: _Exchange, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", exchange.id.encode())]
            await send(message)

        return watched

    def _report(self, exchange: _Exchange) -> None:
        seconds = self._clock() - exchange.started
        route = getattr(exchange.scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(route, exchange.outcome).inc()
        self._metrics.request_latency.labels(route).observe(seconds)
        _log.info(
            "request",
            extra={
                "request_id": exchange.id,
                "method": exchange.scope["method"],
                "path": exchange.path,
                "status": exchange.status,
                "outcome": exchange.outcome,
                "seconds": round(seconds, 4),
            },
        )


def _is_work(path: str) -> bool:
    return path.startswith(("/v1/", "/openai/"))
