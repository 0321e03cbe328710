"""The requests that the server understands, as pydantic models: types, bounds and the error for each field."""

import json
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from tunesmith_server.errors import InvalidRequestError
from tunesmith_server.fields import Rule, used_fields
from tunesmith_server.sampling import SamplingParams

Stop = Annotated[str, Field(min_length=1)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
MAX_CHOICES = 128


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextPart(_Model):
    """A piece of a message; only text can be read."""

    type: Literal["text"]
    text: str


class Message(_Model):
    """One message of a chat. `developer` means `system`; `name` is passed on to the chat template."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def for_template(self) -> dict[str, str]:
        """What the chat template sees."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        message = {"role": "system" if self.role == "developer" else self.role, "content": text}
        return message if self.name is None else {**message, "name": self.name}


class StreamOptions(_Model):
    """`include_usage` adds a last chunk with token counts; obfuscation is a hosted service's padding and never sent."""

    include_usage: bool = False
    include_obfuscation: bool = False


class GenerationRequest(_Model):
    """What chats and completions share; None means the model's default."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] = []
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    logit_bias: Mapping[str, Bias] = {}
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0

    @field_validator("logit_bias")
    @classmethod
    def _keys_are_tokens(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if bad := [key for key in value if not key.isdecimal()]:
            raise ValueError(f"keys must be token ids, not {bad[0]!r}")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def token_limit(self) -> int | None:
        """Tokens to generate at most."""
        return self.max_tokens

    @property
    def logprob_count(self) -> int | None:
        """How many alternatives to report per token; None for no log probabilities."""
        raise NotImplementedError

    def sampling(self, defaults: Mapping[str, float | int]) -> SamplingParams:
        """How to sample.

        The model's `defaults` hold as a whole, for a request that says nothing about sampling: a model made for greedy
        answers has `top_k` 1, which would make a request's own temperature meaningless.
        """
        chosen = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        values = {name: value for name, value in chosen.items() if value is not None} or defaults
        return SamplingParams(
            temperature=float(values.get("temperature", 1.0)),
            top_p=float(values.get("top_p", 1.0)),
            top_k=int(values.get("top_k", 0)),
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
            top_logprobs=self.logprob_count,
        )


class ChatRequest(GenerationRequest):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def token_limit(self) -> int | None:
        """`max_completion_tokens`, or its older name."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def logprob_count(self) -> int | None:
        """`top_logprobs` when `logprobs` is set."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`: a text, several texts, tokens, or several token lists."""

    prompt: str | Annotated[list[str], Field(min_length=1)] | Tokens | Annotated[list[Tokens], Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def logprob_count(self) -> int | None:
        """`logprobs`."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry per prompt."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [one for one in self.prompt if not isinstance(one, int)]


R = TypeVar("R", bound=GenerationRequest)


def parse(body: bytes, kind: type[R], rules: Mapping[str, Rule]) -> R:
    """The request in `body`.

    Raises:
        InvalidRequestError: not JSON, or a field is wrong; `param` names the first wrong one.
    """
    try:
        content = json.loads(body)
    except ValueError as error:
        raise InvalidRequestError(f"The request body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(content, dict):
        raise InvalidRequestError("The request body must be a JSON object.", code="invalid_json")
    try:
        request = kind.model_validate(used_fields(content, rules))
    except ValidationError as error:
        raise _first_error(error, kind) from error
    if isinstance(request, ChatRequest) and request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequestError("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError("'stream_options' needs 'stream': true.", param="stream_options")
    return request


def _first_error(error: ValidationError, kind: type[BaseModel]) -> InvalidRequestError:
    first = _most_telling(error)
    param = _path(first["loc"], kind)
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return InvalidRequestError(
            f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )
    message = first["msg"].removeprefix("Value error, ")
    shown = json.dumps(first["input"], default=str)
    value = f" (got {shown})" if len(shown) <= 40 and first["type"] != "missing" else ""
    return InvalidRequestError(f"Invalid '{param}': {message}{value}.", param=param, code="invalid_value")


def _most_telling(error: ValidationError) -> ErrorDetails:
    """Of the first wrong field's errors (one per member of a union) the deepest, and rather a bound than a type."""
    errors = error.errors(include_url=False, include_context=False)
    of_field = [one for one in errors if one["loc"][:1] == errors[0]["loc"][:1]]
    return max(of_field, key=lambda one: (len(one["loc"]), not one["type"].endswith("_type")))


def _path(location: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """`messages[0].role` from pydantic's location, without the names of union members that it puts in between."""
    path = str(location[0]) if location else ""
    names = {*Message.model_fields, *TextPart.model_fields, *StreamOptions.model_fields}
    for part in location[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in names and kind is not CompletionRequest:
            path += f".{part}"
    return path
