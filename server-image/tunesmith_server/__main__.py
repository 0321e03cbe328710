"""`python -m tunesmith_server MODEL_DIR`: load, serve, drain.

Exits 0 after a drain, 78 when something is wrong with the settings, the model or the providers.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from tunesmith_server.app import create_app
from tunesmith_server.errors import EX_CONFIG, SettingsError, StartupError
from tunesmith_server.lifecycle import Lifecycle
from tunesmith_server.log import configure_logging
from tunesmith_server.metrics import Metrics
from tunesmith_server.service import Service, load_service
from tunesmith_server.settings import Settings, load_settings

_log = logging.getLogger("tunesmith_server")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which closes the listening socket before requests can be refused."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(arguments: Sequence[str]) -> int:
    """Run the server; the exit status."""
    configure_logging()
    try:
        settings = load_settings(arguments, os.environ)
        return asyncio.run(_serve(settings))
    except StartupError as error:
        _log.critical(str(error), extra={"error": type(error).__name__})
        return EX_CONFIG


async def _serve(settings: Settings) -> int:
    lifecycle, metrics = Lifecycle(), Metrics(_registry())
    app = create_app(lifecycle, metrics, settings.max_body_bytes)
    server = _Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _listen(settings) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _load_and_wait(settings, lifecycle, metrics, stop)
        finally:
            await _shut_down(settings, lifecycle)
            server.should_exit = True
            await serving
    return 0


def _listen(settings: Settings) -> socket.socket:
    try:
        listener = socket.create_server((settings.host, settings.port), backlog=2048)
    except OSError as error:
        raise SettingsError(f"--host {settings.host} --port {settings.port}: cannot listen: {error}") from error
    _log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1]})
    return listener


async def _load_and_wait(settings: Settings, lifecycle: Lifecycle, metrics: Metrics, stop: asyncio.Event) -> None:
    loading, stopping = _load(settings), asyncio.create_task(stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        return  # stopped while loading: there is nothing to drain
    service = await loading
    metrics.watch(service.engine.stats, service.providers)
    lifecycle.ready(service)
    _announce(service)
    await stopping


def _load(settings: Settings) -> asyncio.Future[Service]:
    """Load on a daemon thread, which does not keep a stopped process alive as an executor's would."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Service] = loop.create_future()

    def deliver(outcome: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(outcome)

    def load() -> None:
        try:
            service = load_service(settings)
        except Exception as error:  # noqa: BLE001 - carried over to whoever awaits the future
            deliver(functools.partial(future.set_exception, error))
        else:
            deliver(functools.partial(future.set_result, service))

    threading.Thread(target=load, name="load-model", daemon=True).start()
    return future


def _announce(service: Service) -> None:
    facts = {"model": service.name, "max_context": service.max_context, "providers": list(service.providers.active)}
    _log.info("ready", extra=facts)
    if service.providers.degraded:
        _log.warning("execution provider degraded", extra={"missing": list(service.providers.missing)})


async def _shut_down(settings: Settings, lifecycle: Lifecycle) -> None:
    if not lifecycle.is_loaded:
        return
    _log.info("draining", extra={"in_flight": lifecycle.in_flight})
    finished = await lifecycle.drain(settings.drain_seconds)
    if not finished:
        _log.warning("drain time is over", extra={"in_flight": lifecycle.in_flight})
    await asyncio.to_thread(lifecycle.service.engine.close)
    await lifecycle.drain(1.0)  # those that were cut off still get their error


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
