"""Errors of the operator.

OperatorError
├── ApiError               the API server said no
│   ├── NotFoundError      404
│   ├── AlreadyExistsError 409 on create
│   ├── ConflictError      409 otherwise
│   ├── RefusedError       403: a quota, an admission policy or a missing permission
│   ├── InvalidError       400, 405, 413, 422: asking again unchanged cannot help
│   └── UnavailableError   429, 5xx, no connection: asking again can help
├── NameConflictError      a child's name is taken
└── SettingsError          an environment variable cannot be understood
"""


class OperatorError(Exception):
    """Base of every error that the operator raises by itself."""


class ApiError(OperatorError):
    """Raised when the API server does not do what was asked; carries the HTTP status (0 without an answer)."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(ApiError):
    """Raised when the object is not there."""


class AlreadyExistsError(ApiError):
    """Raised when an object to create is there already."""


class ConflictError(ApiError):
    """Raised when the object has changed identity or version meanwhile."""


class RefusedError(ApiError):
    """Raised when the API server refuses the object for now: a quota, an admission policy or a missing permission."""


class InvalidError(ApiError):
    """Raised when the API server cannot accept the object as it is: a field of it is invalid."""


class UnavailableError(ApiError):
    """Raised when the API server does not answer, or asks to come back later."""


class NameConflictError(OperatorError):
    """Raised when a child's name is taken by an object that its owner does not control; it is left untouched."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} exists and does not belong to this object; rename one of the two")
        self.kind = kind
        self.name = name


class SettingsError(OperatorError):
    """Raised when an environment variable of the operator cannot be understood; the message names it."""
