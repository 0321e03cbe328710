"""The operator's own HTTP endpoints: metrics on one port, liveness and readiness on another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tunesmith_operator.metrics import Metrics
from tunesmith_operator.settings import Settings


@asynccontextmanager
async def served(
    settings: Settings, metrics: Metrics, ready: asyncio.Event, refresh: Callable[[], None]
) -> AsyncIterator[None]:
    """Serve while the block runs.

    Args:
        settings: ports and host.
        metrics: what /metrics shows.
        ready: what /readyz waits for.
        refresh: brings gauges up to date before they are shown.
    """

    async def show_metrics(_: web.Request) -> web.Response:
        refresh()
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def is_ready(_: web.Request) -> web.Response:
        return web.Response(text="ok") if ready.is_set() else web.Response(status=503, text="starting")

    runners = [
        await _listen(settings.host, settings.metrics_port, {"/metrics": show_metrics}),
        await _listen(settings.host, settings.health_port, {"/healthz": live, "/readyz": is_ready}),
    ]
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


async def _listen(host: str, port: int, routes: dict[str, Callable[[web.Request], object]]) -> web.AppRunner:
    app = web.Application()
    app.add_routes([web.get(path, handler) for path, handler in routes.items()])  # type: ignore[arg-type]
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
