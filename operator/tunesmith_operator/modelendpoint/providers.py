"""Which execution providers a server really uses: asked once of each pod that answers."""

import logging
from collections.abc import Iterable

import aiohttp

from tunesmith_operator.modelendpoint.manifests import PORT
from tunesmith_operator.pods import PodFacts

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2
REMEMBERED = 1000


class ProviderProbe:
    """Asks servers for their providers and remembers the answers by pod."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}

    async def ask(self, pods: Iterable[PodFacts]) -> tuple[str, ...] | None:
        """The providers of the newest server that is ready; None when none answers."""
        ready = [pod for pod in pods if pod.ready and pod.ip and not pod.deleting]
        for pod in sorted(ready, key=lambda one: one.created_at, reverse=True):
            found = self._known.get(pod.name) or await self._request(pod)
            if found is not None:
                self._remember(pod.name, found)
                return found
        return None

    def _remember(self, pod: str, found: tuple[str, ...]) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[pod] = found

    async def _request(self, pod: PodFacts) -> tuple[str, ...] | None:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://{host}:{PORT}/v1/models", allow_redirects=False) as answer,
            ):
                answer.raise_for_status()
                metadata = (await answer.json())["data"][0]["metadata"]
                return tuple(map(str, metadata["active_providers"]))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            logger.debug("A server did not tell its providers", extra={"pod": pod.name, "error": str(error)})
            return None
