"""Liveness, readiness and metrics: the routes that answer in every phase."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from tunesmith_server.context import context_of

router = APIRouter()


@router.get("/health/live", response_model=None)
@router.get("/v2/health/live", response_model=None)
async def live(http: HttpRequest) -> Response:
    """Whether the process can still become or stay useful; if not, restart it."""
    alive = context_of(http).lifecycle.is_alive
    return JSONResponse({"live": alive}, 200 if alive else 500)


@router.get("/health", response_model=None)
@router.get("/health/ready", response_model=None)
@router.get("/v2/health/ready", response_model=None)
async def ready(http: HttpRequest) -> Response:
    """Whether to send requests here."""
    lifecycle = context_of(http).lifecycle
    return JSONResponse(
        {"ready": lifecycle.is_ready, "phase": lifecycle.phase.value}, 200 if lifecycle.is_ready else 503
    )


@router.get("/metrics", response_model=None)
async def metrics(http: HttpRequest) -> Response:
    """Prometheus' text format."""
    content = generate_latest(context_of(http).metrics.registry)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})
