"""What an engine is: sequences of tokens in, tokens out, one event at a time. Text, HTTP and time live elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from tunesmith_server.sampling import SamplingParams, TokenLogprobs

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sequence:
    """One continuation to generate.

    `prompt` has at least one token; at most `max_tokens` follow it. Equal seeds and parameters give equal tokens.
    """

    index: int
    prompt: tuple[int, ...]
    params: SamplingParams
    max_tokens: int
    seed: int | None = None


@dataclass(frozen=True)
class Request:
    """Sequences that are accepted or refused together and share one sink."""

    id: str
    sequences: tuple[Sequence, ...]


@dataclass(frozen=True)
class TokenEvent:
    """The next token of a sequence; the last one carries the reason (`stop`: it is an end-of-text token)."""

    index: int
    token: int
    logprobs: TokenLogprobs | None = None
    finish: FinishReason | None = None


@dataclass(frozen=True)
class FailedEvent:
    """A sequence ended without finishing; `closed` when the engine was told to stop rather than failed."""

    index: int
    message: str
    closed: bool = False


Event = TokenEvent | FailedEvent
Sink = Callable[[Event], None]
"""Called on the engine's thread; must return at once."""


@dataclass(frozen=True)
class EngineStats:
    """A momentary view. `cached_tokens` of `cache_tokens` are in use; `reused_tokens` and `failures` only grow."""

    slots: int
    running: int
    waiting: int
    cached_tokens: int
    cache_tokens: int
    cache_bytes: int
    reused_tokens: int
    failures: int
    alive: bool


class Engine(Protocol):
    """Anything that can generate. All methods may be called from any thread."""

    def submit(self, request: Request, sink: Sink) -> None:
        """Start generating.

        Raises:
            QueueFullError: not all sequences find a slot or a place in the queue; none was taken.
            EngineClosedError: the engine is shutting down.
        """

    def cancel(self, request_id: str, index: int | None = None) -> None:
        """Stop a request, or one of its sequences, and free its slots; no more events follow. Unknown ids are fine."""

    def stats(self) -> EngineStats:
        """How busy the engine is."""

    def close(self) -> None:
        """Stop now: every unfinished sequence gets a `FailedEvent`. Returns when the engine's thread ended."""
