"""Every error that the server raises on purpose: one tree, one shape on the wire.

`StartupError`s end the process before it serves; `ApiError`s become OpenAI-shaped JSON bodies.
"""

from collections.abc import Mapping
from typing import Any

EX_CONFIG = 78  # sysexits.h: something is wrong with the configuration, and a restart will not help


class TunesmithServerError(Exception):
    """The root of everything that this package raises."""


class StartupError(TunesmithServerError):
    """The server cannot start as configured; a person has to change something."""


class SettingsError(StartupError):
    """A command-line flag or environment variable has a value that cannot be used."""


class ModelError(StartupError):
    """The model folder is incomplete, or its graph is not one that this server can run."""


class ProviderError(StartupError):
    """A required execution provider is not active after load."""


class EngineClosedError(TunesmithServerError):
    """Work was submitted to an engine that is shutting down."""


class QueueFullError(TunesmithServerError):
    """Neither a free slot nor a place in the queue was left."""


class ApiError(TunesmithServerError):
    """An answer with an HTTP status and OpenAI's error body."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code

    @property
    def headers(self) -> Mapping[str, str]:
        """Extra response headers."""
        return {}

    def body(self) -> dict[str, Any]:
        """The JSON body: `{"error": {message, type, param, code}}`."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequestError(ApiError):
    """The request is malformed or asks for something that does not exist here; `param` names the field."""

    status = 400
    type = "invalid_request_error"


class ContextLengthError(InvalidRequestError):
    """The prompt, or the prompt and the tokens asked for, do not fit the context."""

    code = "context_length_exceeded"


class ModelNotFoundError(InvalidRequestError):
    """The `model` is not the one served here."""

    status = 404
    code = "model_not_found"


class BodyTooLargeError(InvalidRequestError):
    """The request body is larger than the server reads."""

    status = 413
    code = "request_too_large"


class OverloadedError(ApiError):
    """The queue is full: try again after `Retry-After` seconds."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> Mapping[str, str]:
        """`Retry-After`, which OpenAI's clients honour."""
        return {"Retry-After": str(self.retry_after_seconds)}


class UnavailableError(ApiError):
    """The server is loading or draining; another replica may answer."""

    status = 503
    type = "service_unavailable_error"
    code = "unavailable"

    @property
    def headers(self) -> Mapping[str, str]:
        """Ask the client to open its next connection elsewhere."""
        return {"Connection": "close", "Retry-After": "1"}
