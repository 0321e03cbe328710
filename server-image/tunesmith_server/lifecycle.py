"""Whether the server may take work: loading, ready, draining; and how many requests are in flight."""

import asyncio
import contextlib
from collections.abc import Iterator
from enum import Enum

from tunesmith_server.service import Service


class Phase(Enum):
    """The server's phases, in order."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


class Lifecycle:
    """The one mutable state of the HTTP side; used on the event loop only."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.in_flight = 0
        self._service: Service | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def service(self) -> Service:
        """The loaded model; only after `ready`."""
        assert self._service is not None
        return self._service

    @property
    def is_loaded(self) -> bool:
        """Whether there is a `service`."""
        return self._service is not None

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.phase is Phase.READY and self.is_alive

    @property
    def is_alive(self) -> bool:
        """Whether waiting can help; a dead engine needs a restart."""
        return self._service is None or self.phase is Phase.DRAINING or self._service.engine.stats().alive

    def ready(self, service: Service) -> None:
        """The model is loaded. A drain that began meanwhile goes on."""
        self._service = service
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as in flight."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Refuse new requests and wait for those in flight, at most `seconds`; whether all finished."""
        self.phase = Phase.DRAINING
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
