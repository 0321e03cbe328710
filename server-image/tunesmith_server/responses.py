"""Answers that stop working when nobody listens: JSON and server-sent events, both cancelled by a disconnect."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tunesmith_server.errors import ApiError

_log = logging.getLogger(__name__)
DONE = b"data: [DONE]\n\n"


def error_response(error: ApiError) -> JSONResponse:
    """OpenAI's error body with the error's status and headers."""
    return JSONResponse(error.body(), error.status, dict(error.headers))


def sse(payload: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class _Watched(Response):
    """Runs `_answer`, and cancels it when the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = asyncio.ensure_future(self._answer(scope, receive, send))
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                scope["state"]["outcome"] = "cancelled"
        finally:
            await _cancel(gone)
            await _cancel(answer)
        if not answer.cancelled():
            answer.result()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError


class JsonAnswer(_Watched):
    """A JSON body that takes a while to make."""

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self._make = make

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = JSONResponse(await self._make())
        except ApiError as error:
            response = error_response(error)
        await response(scope, receive, send)


class EventStream(_Watched):
    """Server-sent events, closed by `[DONE]`.

    The status is sent with the first event, so that a failure before it has its own status; a later one is an event.
    """

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__()
        self._events = events

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async for event in self._events:
                if not started:
                    await send(_START)
                    started = True
                await send({"type": "http.response.body", "body": event, "more_body": True})
        except ApiError as error:
            if not started:
                await error_response(error)(scope, receive, send)
                return
            scope["state"]["outcome"] = "error"
            await send({"type": "http.response.body", "body": sse(error.body()), "more_body": True})
        finally:
            await self._close()
        await send({"type": "http.response.body", "body": DONE, "more_body": False})

    async def _close(self) -> None:
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()


_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")],
}


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(task: "asyncio.Future[None]") -> None:
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
