"""`tunesmith chat`: talk to an endpoint by the OpenAI protocol, streamed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx

from tunesmith_api import ExitCode
from tunesmith_cli.errors import CliError

_EVENT = "data: "
_END = "[DONE]"


@dataclass
class Conversation:
    """A conversation with one model.

    Attributes:
        client: speaks to the endpoint; its base URL ends where /v1 begins.
        model: the model's name.
        options: fields of every request, such as temperature.
        messages: what was said.
    """

    client: httpx.Client
    model: str
    options: dict[str, float] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)

    def say(self, text: str) -> Iterator[str]:
        """Say something; yields the answer piece by piece and remembers both.

        Raises:
            CliError: the endpoint refuses or cannot be reached; nothing is remembered then.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        body = {"model": self.model, "messages": asked, "stream": True, **self.options}
        answer = ""
        try:
            with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
                _check(response)
                for piece in _pieces(response.iter_lines()):
                    answer += piece
                    yield piece
        except httpx.HTTPError as error:
            raise _unreachable(self.client, error) from error
        self.messages = [*asked, {"role": "assistant", "content": answer}]


def connect(url: str) -> httpx.Client:
    """A client of an endpoint, given with or without /v1."""
    base = url.rstrip("/").removesuffix("/v1")
    return httpx.Client(base_url=base if "://" in base else f"http://{base}", timeout=httpx.Timeout(10, read=300))


def first_model(client: httpx.Client) -> str:
    """The name of the first model that the endpoint serves.

    Raises:
        CliError: it cannot be reached, or serves none.
    """
    try:
        response = client.get("/v1/models")
        _check(response)
        models = response.json()["data"]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(client, error) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CliError(f"{client.base_url} does not speak the OpenAI protocol", ExitCode.SERVICE_UNAVAILABLE) from error
    if not models:
        raise CliError(f"{client.base_url} serves no model", ExitCode.SERVICE_UNAVAILABLE)
    return str(models[0]["id"])


def talk(conversation: Conversation, questions: Iterator[str], write: Callable[[str], None]) -> None:
    """Answer question after question."""
    for question in questions:
        for piece in conversation.say(question):
            write(piece)
        write("\n")


def _unreachable(client: httpx.Client, error: Exception) -> CliError:
    return CliError(f"{client.base_url}: {error or type(error).__name__}", ExitCode.SERVICE_UNAVAILABLE)


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    text = response.read().decode(errors="replace")
    try:
        text = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        text = text[:500]
    raise CliError(f"{response.request.url}: HTTP {response.status_code}: {text}", ExitCode.SERVICE_UNAVAILABLE)


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    """The text in server-sent events."""
    for line in lines:
        if not line.startswith(_EVENT) or line == _EVENT + _END:
            continue
        event = json.loads(line.removeprefix(_EVENT))
        if "error" in event:
            raise CliError(f"the endpoint stopped: {event['error'].get('message')}", ExitCode.SERVICE_UNAVAILABLE)
        for choice in event.get("choices", []):
            yield choice.get("delta", {}).get("content") or ""
