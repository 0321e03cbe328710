"""The ASGI application: routes, error shapes and the gate put together."""

import logging
import time

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tunesmith_server import routes_chat, routes_completions, routes_health, routes_models
from tunesmith_server.context import Context
from tunesmith_server.errors import ApiError, InvalidRequestError
from tunesmith_server.gate import Gate
from tunesmith_server.lifecycle import Lifecycle
from tunesmith_server.metrics import Metrics
from tunesmith_server.responses import error_response

_log = logging.getLogger(__name__)
_PREFIXES = ("/v1", "/openai/v1")  # KServe puts OpenAI's routes below /openai


def create_app(lifecycle: Lifecycle, metrics: Metrics, max_body_bytes: int) -> FastAPI:
    """The application; it answers 503 until `lifecycle` is ready."""
    app = FastAPI(title="Tunesmith server", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = Context(lifecycle, metrics)
    for prefix in _PREFIXES:
        for routes in (routes_chat, routes_completions, routes_models):
            app.include_router(routes.router, prefix=prefix)
    app.include_router(routes_health.router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Gate, lifecycle=lifecycle, metrics=metrics, max_body_bytes=max_body_bytes, clock=time.monotonic)
    return app


async def _api_error(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


class _RouteError(InvalidRequestError):
    """No such path or method."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(_RouteError(f"{request.method} {request.url.path}: {error.detail}", error.status_code))


async def _unexpected(_: HttpRequest, error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error)
    return error_response(ApiError("The server had an error while processing the request."))
