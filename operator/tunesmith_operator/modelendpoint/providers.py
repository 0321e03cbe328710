"""Which execution providers a server really uses: asked once of each pod that answers."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp

from tunesmith_operator.modelendpoint.manifests import PORT
from tunesmith_operator.pods import PodFacts

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2
REMEMBERED = 1000
#: A server that does not tell is left alone for a while, doubled with each further silence: asking holds up a worker.
FIRST_SILENCE_SECONDS = 5.0
LONGEST_SILENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Silence:
    """A server that did not tell: when to ask it again, and how long the pause before that was."""

    until: float
    seconds: float


T = TypeVar("T")


def _name(pod: PodFacts) -> tuple[str, str]:
    """Pods of two namespaces may share a name, but not an address."""
    return pod.name, pod.ip


def _remember(memory: dict[tuple[str, str], T], name: tuple[str, str], found: T) -> None:
    if len(memory) >= REMEMBERED:
        memory.pop(next(iter(memory)))
    memory[name] = found


class ProviderProbe:
    """Asks servers for their providers and remembers the answers by pod."""

    def __init__(self, port: int = PORT) -> None:
        self._port = port
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}
        self._silent: dict[tuple[str, str], Silence] = {}

    async def ask(self, pods: Iterable[PodFacts]) -> tuple[str, ...] | None:
        """The providers of the newest server that is ready, else of one that has told; None when there is neither."""
        ready = [pod for pod in pods if pod.ready and pod.ip and not pod.deleting]
        ready.sort(key=lambda one: one.created_at, reverse=True)
        if ready and _name(ready[0]) not in self._known:
            await self._ask(ready[0])
        return next((self._known[_name(pod)] for pod in ready if _name(pod) in self._known), None)

    async def _ask(self, pod: PodFacts) -> None:
        name, now = _name(pod), asyncio.get_running_loop().time()
        silence = self._silent.get(name)
        if silence is not None and now < silence.until:
            return
        found = await self._request(pod)
        if found is not None:
            self._silent.pop(name, None)
            _remember(self._known, name, found)
            return
        pause = FIRST_SILENCE_SECONDS if silence is None else min(2 * silence.seconds, LONGEST_SILENCE_SECONDS)
        _remember(self._silent, name, Silence(now + pause, pause))

    async def _request(self, pod: PodFacts) -> tuple[str, ...] | None:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://{host}:{self._port}/v1/models", allow_redirects=False) as answer,
            ):
                answer.raise_for_status()
                metadata = (await answer.json())["data"][0]["metadata"]
                return tuple(map(str, metadata["active_providers"]))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            logger.debug("A server did not tell its providers", extra={"pod": pod.name, "error": str(error)})
            return None
