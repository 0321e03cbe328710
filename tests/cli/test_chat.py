"""Talking to an endpoint by the OpenAI protocol."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tunesmith_cli.chat import Conversation, connect, first_model, talk
from tunesmith_cli.errors import CliError


class Endpoint(BaseHTTPRequestHandler):
    """Serves one model, which says how many messages it got; a message `fail` is refused, `break` breaks off."""

    requests: list[dict[str, Any]]

    def do_GET(self) -> None:
        """The list of models."""
        self._send(200, json.dumps({"data": [{"id": "bot"}]}))

    def do_POST(self) -> None:
        """A streamed answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        last = body["messages"][-1]["content"]
        if last == "fail":
            self._send(400, json.dumps({"error": {"message": "no such thing"}}))
            return
        pieces = ["you sent ", str(len(body["messages"]))]
        events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
        if last == "break":
            events = [{"error": {"message": "out of steam"}}]
        self._send(200, "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n")

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """A listening endpoint."""
    Endpoint.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_a_url_is_taken_with_or_without_its_version(url: str, suffix: str) -> None:
    """People paste either."""
    with connect(url + suffix) as client:
        assert first_model(client) == "bot"


def test_a_conversation_remembers(url: str) -> None:
    """Each question carries what was said before, and the answer comes piece by piece."""
    written: list[str] = []
    with connect(url) as client:
        conversation = Conversation(client, "bot", {"temperature": 0})
        talk(conversation, iter(["one", "two"]), written.append)
    assert written == ["you sent ", "1", "\n", "you sent ", "3", "\n"]
    assert [message["content"] for message in conversation.messages] == ["one", "you sent 1", "two", "you sent 3"]
    assert Endpoint.requests[0]["temperature"] == 0


@pytest.mark.parametrize(("text", "said"), [("fail", "HTTP 400: no such thing"), ("break", "out of steam")])
def test_a_refusal_is_told_and_not_remembered(url: str, text: str, said: str) -> None:
    """The endpoint's own words are shown, and the conversation stays as it was."""
    with connect(url) as client:
        conversation = Conversation(client, "bot")
        with pytest.raises(CliError, match=said):
            list(conversation.say(text))
    assert not conversation.messages
