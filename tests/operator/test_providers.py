"""Which providers a server uses: asked of a real HTTP server that plays the pod."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tunesmith_operator.modelendpoint import providers
from tunesmith_operator.modelendpoint.providers import ProviderProbe
from tunesmith_operator.pods import PodFacts

CUDA = {"data": [{"id": "chat", "metadata": {"active_providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}}]}


@dataclass
class Server:
    """A server of a model, and how often it was asked."""

    answer: Any = None
    asked: int = 0
    port: int = 0
    paths: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.paths.append(request.path)
        return web.Response(status=503) if self.answer is None else web.json_response(self.answer)


@asynccontextmanager
async def _serving(answer: Any) -> AsyncIterator[Server]:
    server = Server(answer)
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = int(runner.addresses[0][1])
    try:
        yield server
    finally:
        await runner.cleanup()


def _pod(name: str = "one", created: str = "1", **facts: Any) -> PodFacts:
    return PodFacts(name, "chat", **{"ready": True, "ip": "127.0.0.1", "created_at": created, **facts})


def test_a_server_is_asked_once() -> None:
    """The providers of a ready server are known after one question."""

    async def scenario() -> None:
        async with _serving(CUDA) as server:
            probe = ProviderProbe(server.port)
            for _ in range(3):
                assert await probe.ask([_pod()]) == ("CUDAExecutionProvider", "CPUExecutionProvider")
            assert (server.asked, server.paths) == (1, ["/v1/models"])

    asyncio.run(scenario())


@pytest.mark.parametrize("facts", [{"ready": False}, {"deleting": True}, {"ip": ""}])
def test_who_cannot_answer_is_not_asked(facts: dict[str, Any]) -> None:
    """A server that is not ready, is going, or has no address is not asked."""

    async def scenario() -> None:
        async with _serving(CUDA) as server:
            assert await ProviderProbe(server.port).ask([_pod(**facts)]) is None
            assert server.asked == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", [None, {}, [], {"data": []}, {"data": [{"metadata": {}}]}, {"data": [{}]}])
def test_a_server_that_does_not_tell_is_left_alone(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an answer without providers the server is not asked again at once, but later, and then it counts."""

    async def scenario() -> None:
        async with _serving(answer) as server:
            probe = ProviderProbe(server.port)
            assert [await probe.ask([_pod()]) for _ in range(3)] == [None, None, None]
            assert server.asked == 1
            server.answer = CUDA
            monkeypatch.setattr(probe, "_silent", {})  # the pause is over
            assert await probe.ask([_pod()]) is not None

    asyncio.run(scenario())


def test_the_newest_server_counts() -> None:
    """Only the newest server is asked; while it is silent, what an older one has told counts."""

    async def scenario() -> None:
        async with _serving(CUDA) as server:
            probe = ProviderProbe(server.port)
            known = await probe.ask([_pod("old", "1")])
            server.answer = None
            assert await probe.ask([_pod("old", "1"), _pod("new", "2"), _pod("other", "1")]) == known
            assert server.asked == 2
            assert await probe.ask([_pod("new", "2")]) is None

    asyncio.run(scenario())


def test_a_port_that_is_closed() -> None:
    """A server that cannot be reached is no error."""

    async def scenario() -> None:
        async with _serving(CUDA) as server:
            port = server.port
        assert await ProviderProbe(port).ask([_pod()]) is None

    asyncio.run(scenario())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answers are forgotten."""
    monkeypatch.setattr(providers, "REMEMBERED", 2)

    async def scenario() -> None:
        async with _serving(CUDA) as server:
            probe = ProviderProbe(server.port)
            for name in "abc":
                await probe.ask([_pod(name)])
            await probe.ask([_pod("c")])
            assert server.asked == 3
            await probe.ask([_pod("a")])
            assert server.asked == 4

    asyncio.run(scenario())
