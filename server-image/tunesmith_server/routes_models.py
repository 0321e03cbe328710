"""`GET /v1/models`: the one model served, with what it runs on."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest

from tunesmith_server.context import context_of
from tunesmith_server.service import Service

router = APIRouter()


@router.get("/models")
async def list_models(http: HttpRequest) -> dict[str, Any]:
    """All models: one."""
    return {"object": "list", "data": [_model(context_of(http).service)]}


@router.get("/models/{model:path}")
async def retrieve_model(http: HttpRequest, model: str) -> dict[str, Any]:
    """One model by name."""
    context = context_of(http)
    context.check_model(model)
    return _model(context.service)


def _model(service: Service) -> dict[str, Any]:
    providers = service.providers
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "tunesmith",
        "max_model_len": service.max_context,
        "metadata": {
            "requested_providers": list(providers.requested),
            "active_providers": list(providers.active),
            "provider_degraded": providers.degraded,
            "precision": service.folder.artifact.get("precision"),
            "digest": service.folder.artifact.get("digest"),
        },
    }
