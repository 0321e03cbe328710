"""Tests of the requests' bounds and of the errors for them."""

import json

import pytest

from tunesmith_server.errors import InvalidRequestError
from tunesmith_server.fields import CHAT, COMPLETION
from tunesmith_server.protocol import ChatRequest, CompletionRequest, parse

USER = {"role": "user", "content": "hi"}


def chat(**changes):
    """Parse a chat request with changes."""
    return parse(json.dumps({"model": "m", "messages": [USER], **changes}).encode(), ChatRequest, CHAT)


def completion(**changes):
    """Parse a completion request with changes."""
    return parse(json.dumps({"model": "m", "prompt": "hi", **changes}).encode(), CompletionRequest, COMPLETION)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"seed": "x"}, "seed"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": "x"}}, "stream_options.include_usage"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{**USER, "tool_calls": []}]}, "messages[0]"),
    ],
)
def test_a_bad_chat_field_is_named(changes, param):
    """Each bound has an error whose `param` is the path of the field."""
    with pytest.raises(InvalidRequestError) as caught:
        chat(**changes)
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ""}, None),
        ({"prompt": []}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
    ],
)
def test_a_bad_completion_field_is_named(changes, param):
    """As for chats; an empty text is only found out by the tokenizer."""
    if param is None:
        assert completion(**changes).prompts == [""]
        return
    with pytest.raises(InvalidRequestError) as caught:
        completion(**changes)
    assert caught.value.param.split("[")[0] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"\xff", b'{"a": NaN'])
def test_a_body_that_is_no_json_object_is_refused(body):
    """Malformed JSON is a bad request with its own code."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, ChatRequest, CHAT)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(missing):
    """Required fields have a code of their own."""
    body = {"model": "m", "messages": [USER]}
    del body[missing]
    with pytest.raises(InvalidRequestError) as caught:
        parse(json.dumps(body).encode(), ChatRequest, CHAT)
    assert (caught.value.param, caught.value.code) == (missing, "missing_required_parameter")


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_prompts_come_in_four_shapes(prompt, prompts):
    """A text, texts, tokens or lists of tokens."""
    assert completion(prompt=prompt).prompts == prompts


def test_defaults_of_the_model_apply_to_a_silent_request():
    """A request silent about sampling gets the model's defaults, any other OpenAI's for what it leaves out."""
    defaults = {"temperature": 0.0, "top_k": 1}
    silent, own, bare = chat().sampling(defaults), chat(temperature=0.7).sampling(defaults), chat().sampling({})
    assert (silent.temperature, silent.top_k) == (0.0, 1)
    assert (own.temperature, own.top_k, own.top_p) == (0.7, 0, 1.0)
    assert (bare.temperature, bare.top_k) == (1.0, 0)


def test_parts_and_developer_messages_become_text_and_system():
    """Text parts are joined, and the newer role name is the template's system role."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(messages=[{"role": "developer", "content": parts}])
    assert request.messages[0].for_template() == {"role": "system", "content": "ab"}


def test_null_means_not_given():
    """Clients that send nulls get defaults."""
    request = chat(temperature=None, stop=None, n=None, tools=None, logit_bias=None, stream=None)
    assert (request.temperature, request.stops, request.n) == (None, (), 1)
