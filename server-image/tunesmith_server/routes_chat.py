"""`POST /v1/chat/completions`."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from tunesmith_server.context import context_of
from tunesmith_server.engine import Request
from tunesmith_server.errors import InvalidRequestError
from tunesmith_server.fields import CHAT
from tunesmith_server.generation import Answer, Generation, Piece, Scored, collect, sequences
from tunesmith_server.protocol import ChatRequest, parse
from tunesmith_server.responses import EventStream, JsonAnswer, sse
from tunesmith_server.service import Service
from tunesmith_server.tokens import encode_aside

router = APIRouter()


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(http: HttpRequest) -> Response:
    """Continue a chat."""
    context = context_of(http)
    request = parse(await http.body(), ChatRequest, CHAT)
    context.check_model(request.model)
    service = context.service
    prompt = await _prompt(service, request)
    work = sequences(service, request, [prompt], None)
    completion_id = context.new_id("chatcmpl")
    generation = Generation(
        service,
        Request(completion_id, work),
        prompt_tokens=len(prompt),
        stops=request.stops,
        metrics=context.metrics,
        clock=time.monotonic,
    )
    envelope = {"id": completion_id, "created": int(time.time()), "model": service.name}
    if request.stream:
        return EventStream(_chunks(service, request, generation, envelope))
    return JsonAnswer(lambda: _completion(service, request, generation, envelope))


async def _prompt(service: Service, request: ChatRequest) -> list[int]:
    if service.template is None:
        raise InvalidRequestError("This model has no chat template; use /v1/completions.", param="messages")
    text = service.template.render([message.for_template() for message in request.messages])
    tokens = await encode_aside(service.tokenizer, text, special=False)
    if not tokens:
        raise InvalidRequestError("The chat template made an empty prompt of the messages.", param="messages")
    return tokens


async def _completion(
    service: Service, request: ChatRequest, generation: Generation, envelope: dict[str, Any]
) -> dict[str, Any]:
    answers = await collect(generation, request.n)
    choices = [_choice(service, request, index, answer) for index, answer in enumerate(answers)]
    return {**envelope, "object": "chat.completion", "choices": choices, "usage": generation.usage.as_json()}


def _choice(service: Service, request: ChatRequest, index: int, answer: Answer) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "finish_reason": answer.finish,
        "logprobs": _logprobs(service, answer.scored) if request.logprobs else None,
    }


async def _chunks(
    service: Service, request: ChatRequest, generation: Generation, envelope: dict[str, Any]
) -> AsyncIterator[bytes]:
    head = {**envelope, "object": "chat.completion.chunk"}
    usage = {"usage": None} if request.includes_usage else {}
    opened: set[int] = set()
    async for piece in generation.pieces():
        if piece.index not in opened:
            opened.add(piece.index)
            yield sse({**head, "choices": [_delta(piece.index, {"role": "assistant", "content": ""})], **usage})
        if piece.text or piece.scored:
            yield sse({**head, "choices": [_content(service, piece)], **usage})
        if piece.finish:
            yield sse({**head, "choices": [_delta(piece.index, {}, piece.finish)], **usage})
    if request.includes_usage:
        yield sse({**head, "choices": [], "usage": generation.usage.as_json()})


def _content(service: Service, piece: Piece) -> dict[str, Any]:
    delta = _delta(piece.index, {"content": piece.text})
    return {**delta, "logprobs": _logprobs(service, [piece.scored])} if piece.scored else delta


def _delta(index: int, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}


def _logprobs(service: Service, scored: Sequence[Scored]) -> dict[str, Any]:
    content = [
        {
            **_named(service, one.token, one.logprobs.logprob),
            "top_logprobs": [_named(service, token, logprob) for token, logprob in one.logprobs.top],
        }
        for one in scored
    ]
    return {"content": content, "refusal": None}


def _named(service: Service, token: int, logprob: float) -> dict[str, Any]:
    raw = service.token_bytes.of(token)
    return {"token": raw.decode(errors="replace"), "logprob": logprob, "bytes": list(raw)}
