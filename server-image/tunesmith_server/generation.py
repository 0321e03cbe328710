"""From a request to pieces of text: submits to the engine, decodes tokens, applies stop strings, keeps time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tokenizers import Tokenizer

from tunesmith_server.engine import Event, FailedEvent, Request, TokenEvent
from tunesmith_server.engine import Sequence as EngineSequence
from tunesmith_server.errors import (
    ApiError,
    ContextLengthError,
    EngineClosedError,
    InvalidRequestError,
    OverloadedError,
    QueueFullError,
    UnavailableError,
)
from tunesmith_server.metrics import Metrics
from tunesmith_server.protocol import CompletionRequest, GenerationRequest
from tunesmith_server.sampling import TokenLogprobs
from tunesmith_server.service import Service
from tunesmith_server.stops import StopMatcher
from tunesmith_server.tokens import TextStream

_RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True)
class Scored:
    """A token with its log probabilities."""

    token: int
    logprobs: TokenLogprobs


@dataclass(frozen=True)
class Piece:
    """What one token added to a choice. `text` may be empty: half a character, or the beginning of a stop string."""

    index: int
    text: str
    scored: Scored | None = None
    finish: Literal["stop", "length"] | None = None


@dataclass
class _Choice:
    text: TextStream
    stops: StopMatcher
    last: float
    started: bool = False


@dataclass
class Usage:
    """Token counts of a request; `completion_tokens` grows while it runs."""

    prompt_tokens: int
    completion_tokens: int = 0

    def as_json(self) -> dict[str, int]:
        """OpenAI's `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


def sequences(
    service: Service, request: GenerationRequest, prompts: Sequence[Sequence[int]], default_limit: int | None
) -> tuple[EngineSequence, ...]:
    """The engine's work for `prompts`: `n` sequences each, choices numbered through.

    Raises:
        ContextLengthError: a prompt and its answer do not fit the context.
        InvalidRequestError: more sequences than can ever be accepted, or a bias for a token that does not exist.
    """
    params = request.sampling(service.defaults)
    if bad := [token for token in params.logit_bias if token >= service.vocabulary]:
        raise InvalidRequestError(f"Invalid 'logit_bias': the model has no token {bad[0]}.", param="logit_bias")
    if len(prompts) * request.n > service.max_sequences:
        raise InvalidRequestError(
            f"{len(prompts)} prompts with n={request.n} are more than the {service.max_sequences} choices possible.",
            param="n",
        )
    limits = [_token_limit(service, request, len(prompt), request.token_limit or default_limit) for prompt in prompts]
    return tuple(
        EngineSequence(at * request.n + choice, tuple(prompt), params, limits[at], request.seed)
        for at, prompt in enumerate(prompts)
        for choice in range(request.n)
    )


def _token_limit(service: Service, request: GenerationRequest, prompt: int, asked: int | None) -> int:
    context = service.max_context
    if prompt >= context:
        raise ContextLengthError(
            f"The maximum context length is {context} tokens, and the prompt has {prompt}. Shorten it.",
            param="prompt" if isinstance(request, CompletionRequest) else "messages",
        )
    if asked is not None and prompt + asked > context:
        raise ContextLengthError(
            f"The maximum context length is {context} tokens; the prompt has {prompt} and {asked} more were asked for.",
            param="max_tokens",
        )
    return context - prompt if asked is None else asked


class Generation:
    """One request in the engine. Iterate `pieces` once; leaving it early cancels what is left."""

    def __init__(
        self,
        service: Service,
        request: Request,
        *,
        prompt_tokens: int,
        stops: Sequence[str],
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._service, self._request, self._metrics, self._clock = service, request, metrics, clock
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        now = clock()
        self._open = {one.index: _choice(service.tokenizer, stops, now) for one in request.sequences}
        self.usage = Usage(prompt_tokens)
        self._submit(asyncio.get_running_loop())

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        def sink(event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, event)

        try:
            self._service.engine.submit(self._request, sink)
        except QueueFullError as error:
            raise OverloadedError(f"The queue is full: {error}.", retry_after_seconds=_RETRY_AFTER_SECONDS) from error
        except EngineClosedError as error:
            raise UnavailableError("The server is shutting down.") from error
        self._metrics.prompt_tokens.inc(self.usage.prompt_tokens)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Pieces of all choices as they come.

        Raises:
            ApiError: the engine failed or is closing.
        """
        try:
            while self._open:
                event = await self._events.get()
                choice = self._open.get(event.index)
                if choice is None:
                    continue  # a token that was on its way when the choice met its stop string
                if isinstance(event, FailedEvent):
                    raise UnavailableError(event.message) if event.closed else ApiError(event.message)
                yield self._piece(choice, event)
        finally:
            if self._open:
                self._service.engine.cancel(self._request.id)

    def _piece(self, choice: _Choice, event: TokenEvent) -> Piece:
        self._observe(choice)
        scored = event.logprobs and Scored(event.token, event.logprobs)
        text = choice.stops.feed(choice.text.feed(event.token))
        finish = event.finish
        if choice.stops.matched is None and finish:
            text += choice.stops.feed(choice.text.flush())
            text += choice.stops.flush() if choice.stops.matched is None else ""
        if choice.stops.matched is not None:
            finish = "stop"
        if finish:
            del self._open[event.index]
            if event.finish is None:
                self._service.engine.cancel(self._request.id, event.index)
        return Piece(event.index, text, scored or None, finish)

    def _observe(self, choice: _Choice) -> None:
        now = self._clock()
        histogram = self._metrics.inter_token if choice.started else self._metrics.time_to_first_token
        histogram.observe(now - choice.last)
        choice.last, choice.started = now, True
        self.usage.completion_tokens += 1
        self._metrics.generation_tokens.inc()


def _choice(tokenizer: Tokenizer, stops: Sequence[str], now: float) -> _Choice:
    return _Choice(TextStream(tokenizer), StopMatcher(stops), now)


@dataclass
class Answer:
    """A choice put together from its pieces."""

    text: str = ""
    scored: list[Scored] = field(default_factory=list)
    finish: str | None = None


async def collect(generation: Generation, choices: int) -> list[Answer]:
    """Wait for all choices."""
    answers = [Answer() for _ in range(choices)]
    async for piece in generation.pieces():
        answer = answers[piece.index]
        answer.text += piece.text
        answer.finish = piece.finish
        if piece.scored is not None:
            answer.scored.append(piece.scored)
    return answers
