"""`POST /v1/completions`: plain continuation of one or several prompts."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tunesmith_server.context import context_of
from tunesmith_server.engine import Request
from tunesmith_server.errors import InvalidRequestError
from tunesmith_server.fields import COMPLETION
from tunesmith_server.generation import Answer, Generation, Scored, collect, sequences
from tunesmith_server.protocol import CompletionRequest, parse
from tunesmith_server.responses import EventStream, JsonAnswer, sse
from tunesmith_server.service import Service
from tunesmith_server.tokens import encode_aside

router = APIRouter()
_DEFAULT_TOKENS = 16  # OpenAI's default of max_tokens for this route


@router.post("/completions", response_model=None)
async def create_completion(http: HttpRequest) -> Response:
    """Continue texts or tokens."""
    context = context_of(http)
    request = parse(await http.body(), CompletionRequest, COMPLETION)
    context.check_model(request.model)
    service = context.service
    prompts = [await _tokens(service, prompt) for prompt in request.prompts]
    work = sequences(service, request, prompts, _DEFAULT_TOKENS)
    completion_id = context.new_id("cmpl")
    generation = Generation(
        service,
        Request(completion_id, work),
        prompt_tokens=sum(map(len, prompts)),
        stops=request.stops,
        metrics=context.metrics,
        clock=time.monotonic,
    )
    envelope = {"id": completion_id, "object": "text_completion", "created": int(time.time()), "model": service.name}
    if request.stream:
        return EventStream(_chunks(service, request, generation, envelope))
    return JsonAnswer(lambda: _completion(service, len(work), generation, envelope))


async def _tokens(service: Service, prompt: str | list[int]) -> list[int]:
    tokens = await encode_aside(service.tokenizer, prompt, special=True) if isinstance(prompt, str) else prompt
    if not tokens:
        raise InvalidRequestError("The prompt is empty.", param="prompt")
    if max(tokens) >= service.vocabulary:
        raise InvalidRequestError(f"The model has no token {max(tokens)}.", param="prompt")
    return tokens


async def _completion(
    service: Service, choices: int, generation: Generation, envelope: dict[str, Any]
) -> dict[str, Any]:
    answers = await collect(generation, choices)
    shown = [_choice(service, index, answer) for index, answer in enumerate(answers)]
    return {**envelope, "choices": shown, "usage": generation.usage.as_json()}


def _choice(service: Service, index: int, answer: Answer) -> dict[str, Any]:
    logprobs = _logprobs(service, answer.scored, 0) if answer.scored else None
    return {"index": index, "text": answer.text, "finish_reason": answer.finish, "logprobs": logprobs}


async def _chunks(
    service: Service, request: CompletionRequest, generation: Generation, envelope: dict[str, Any]
) -> AsyncIterator[bytes]:
    usage = {"usage": None} if request.includes_usage else {}
    offsets: dict[int, int] = {}
    async for piece in generation.pieces():
        if not (piece.text or piece.scored or piece.finish):
            continue
        offset = offsets.get(piece.index, 0)
        offsets[piece.index] = offset + len(piece.text)
        logprobs = _logprobs(service, [piece.scored], offset) if piece.scored else None
        choice = {"index": piece.index, "text": piece.text, "finish_reason": piece.finish, "logprobs": logprobs}
        yield sse({**envelope, "choices": [choice], **usage})
    if request.includes_usage:
        yield sse({**envelope, "choices": [], "usage": generation.usage.as_json()})


def _logprobs(service: Service, scored: Sequence[Scored], offset: int) -> dict[str, Any]:
    """OpenAI's older shape: four lists, one entry per token; offsets are in characters of the answer."""
    names = [_name(service, one.token) for one in scored]
    starts = [offset + sum(map(len, names[:at])) for at in range(len(names))]
    tops = [{_name(service, token): value for token, value in one.logprobs.top} for one in scored]
    return {
        "tokens": names,
        "token_logprobs": [one.logprobs.logprob for one in scored],
        "top_logprobs": tops,
        "text_offset": starts,
    }


def _name(service: Service, token: int) -> str:
    """A token's text, or vLLM's and OpenAI's `bytes:` notation for one that is no text by itself."""
    raw = service.token_bytes.of(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
