"""What every route finds in the application's state."""

import uuid
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest

from tunesmith_server.errors import ModelNotFoundError
from tunesmith_server.lifecycle import Lifecycle
from tunesmith_server.metrics import Metrics
from tunesmith_server.service import Service


@dataclass(frozen=True)
class Context:
    """The application's parts; `service` exists once the lifecycle is ready, which the gate assures."""

    lifecycle: Lifecycle
    metrics: Metrics

    @property
    def service(self) -> Service:
        """The loaded model."""
        return self.lifecycle.service

    def check_model(self, name: str) -> None:
        """Accept the served model's name.

        Raises:
            ModelNotFoundError: another one was asked for.
        """
        if name != self.service.name:
            raise ModelNotFoundError(
                f"The model '{name}' does not exist here; this server has '{self.service.name}'.", param="model"
            )

    def new_id(self, prefix: str) -> str:
        """A unique id for a completion."""
        return f"{prefix}-{uuid.uuid4().hex}"


def context_of(http: HttpRequest) -> Context:
    """The context of the application that handles `http`."""
    context = http.app.state.context
    assert isinstance(context, Context)
    return context
