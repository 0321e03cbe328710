"""Tests of the routes with OpenAI's own client against a live server."""

import httpx
import openai
import pytest

CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "turn on the light"}]
PREFIXES = ["/v1", "/openai/v1"]


def chat(client, **changes):
    """A greedy chat completion."""
    arguments = {"model": "tiny", "messages": CHAT, "temperature": 0, "max_tokens": 12, **changes}
    return client.chat.completions.create(**arguments)


def joined(stream, index=0):
    """The text and the last finish reason of a streamed choice."""
    text, finish = "", None
    for chunk in stream:
        for choice in chunk.choices:
            if choice.index == index:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
    return text, finish


def test_a_chat_is_continued(client):
    """A chat completion has text, a reason and token counts."""
    answer = chat(client)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_a_stream_says_the_same(client):
    """Streamed pieces are the plain answer; the usage comes last, on its own, when asked for."""
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    plain = chat(client)
    assert joined(chunks) == (plain.choices[0].message.content, "length")
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_choices_are_streamed_side_by_side(client):
    """Greedy choices of one request are equal, each with its own index and end."""
    chunks = list(chat(client, stream=True, n=3))
    texts = [joined(chunks, index) for index in range(3)]
    assert texts[0] == texts[1] == texts[2] == (chat(client).choices[0].message.content, "length")


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer(client, stream):
    """Text before the stop string is given, the stop string and what follows is not."""
    whole = chat(client, max_tokens=60).choices[0].message.content
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    answer = chat(client, max_tokens=60, stop=[stop, "never to be seen"], stream=stream)
    text, finish = joined(answer) if stream else (answer.choices[0].message.content, answer.choices[0].finish_reason)
    assert (text, finish) == (whole[: whole.index(stop)], "stop")


def test_log_probabilities_are_given_per_token(client):
    """Each token has its log probability, its bytes and as many alternatives as asked for, streamed or not."""
    content = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(content) == 12
    assert all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in content)
    assert all(one.top_logprobs[0].token == one.token for one in content)
    streamed = [
        one
        for chunk in chat(client, logprobs=True, top_logprobs=2, stream=True)
        for choice in chunk.choices
        if choice.logprobs
        for one in choice.logprobs.content
    ]
    assert [one.bytes for one in streamed] == [one.bytes for one in content]


def test_a_seed_repeats_an_answer(client):
    """The same seed gives the same text, other choices of it differ."""
    one, two = (chat(client, temperature=1.5, seed=4, n=2, max_tokens=30) for _ in range(2))
    assert [choice.message.content for choice in one.choices] == [choice.message.content for choice in two.choices]
    assert one.choices[0].message.content != one.choices[1].message.content


def test_a_bias_forces_a_token(client, tokenizer):
    """A bias of 100 makes a token certain."""
    token = tokenizer.encode("light", add_special_tokens=False).ids[0]
    text = chat(client, logit_bias={str(token): 100}, max_tokens=3).choices[0].message.content
    assert text == tokenizer.decode([token] * 3)


def test_completions_take_texts_and_tokens(client, tokenizer):
    """A text and its tokens are continued alike; several prompts give choices in order."""
    arguments = {"model": "tiny", "temperature": 0, "max_tokens": 6}
    texts = ["turn on", "set the heating"]
    single = [client.completions.create(prompt=text, **arguments).choices[0].text for text in texts]
    several = client.completions.create(prompt=texts, **arguments)
    tokens = [tokenizer.encode(text).ids for text in texts]
    by_tokens = client.completions.create(prompt=tokens, n=1, **arguments)
    assert [choice.text for choice in several.choices] == single
    assert [choice.text for choice in by_tokens.choices] == single
    assert several.usage.prompt_tokens == sum(map(len, tokens))
    streamed = client.completions.create(prompt=tokens[0], stream=True, **arguments)
    assert "".join(chunk.choices[0].text for chunk in streamed) == single[0]


def test_completions_have_sixteen_tokens_unless_told(client):
    """The default of the older route is OpenAI's."""
    answer = client.completions.create(model="tiny", prompt="turn on", temperature=0, logit_bias={"3": -100})
    assert answer.usage.completion_tokens == 16


def test_completions_give_log_probabilities_in_the_older_shape(client):
    """Tokens, values, alternatives and offsets have one entry per token."""
    logprobs = (
        client.completions.create(model="tiny", prompt="turn", temperature=0, logprobs=2, max_tokens=5)
        .choices[0]
        .logprobs
    )
    assert {
        len(logprobs.tokens),
        len(logprobs.token_logprobs),
        len(logprobs.top_logprobs),
        len(logprobs.text_offset),
    } == {5}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_model_is_listed(server, prefix):
    """Both prefixes list the model with what it runs on."""
    with openai.OpenAI(base_url=server.url + prefix, api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        model = client.models.retrieve("tiny")
        assert chat(client).model == "tiny"
    assert model.metadata["active_providers"] == ["CPUExecutionProvider"]
    assert model.metadata["provider_degraded"] is False


@pytest.mark.parametrize(
    ("changes", "error", "param", "code"),
    [
        ({"model": "other"}, openai.NotFoundError, "model", "model_not_found"),
        ({"temperature": -1}, openai.BadRequestError, "temperature", "invalid_value"),
        ({"messages": []}, openai.BadRequestError, "messages", "invalid_value"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            openai.BadRequestError,
            "messages[0].role",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": "on " * 600}]},
            openai.BadRequestError,
            "messages",
            "context_length_exceeded",
        ),
        ({"max_tokens": 511}, openai.BadRequestError, "max_tokens", "context_length_exceeded"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            "tools",
            "unsupported_parameter",
        ),
        (
            {"response_format": {"type": "json_object"}},
            openai.BadRequestError,
            "response_format",
            "unsupported_parameter",
        ),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "temprature", "unknown_parameter"),
        ({"logit_bias": {"320": 1}}, openai.BadRequestError, "logit_bias", None),
        ({"n": 128}, openai.BadRequestError, "n", None),
    ],
)
def test_a_bad_request_names_the_field(client, changes, error, param, code):
    """Errors have OpenAI's shape, so that the client raises its own classes."""
    with pytest.raises(error) as caught:
        chat(client, **changes)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("prompt", ["", [320]])
def test_a_prompt_without_meaning_is_refused(client, prompt):
    """An empty text and a token that does not exist are bad prompts."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt=prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"x" * 200_000, 413),
        ("GET", "/v1/nothing", None, 404),
        ("GET", "/v1/chat/completions", None, 405),
        ("GET", "/v1/models/other", None, 404),
    ],
)
def test_what_is_no_request_gets_an_openai_error(server, method, path, content, status):
    """Malformed JSON, a large body and wrong paths are answered with the error object."""
    answer = httpx.request(method, server.url + path, content=content)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_large_body_without_a_length_is_refused(server):
    """A chunked body is counted while it is read."""
    answer = httpx.post(f"{server.url}/v1/completions", content=(b"x" * 1000 for _ in range(200)), timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"])
def test_a_loaded_server_is_healthy(server, path):
    """Every health path that a gateway may know answers."""
    assert httpx.get(server.url + path).status_code == 200


def test_metrics_tell_what_happened(server, client):
    """Counters and histograms grow with requests; gauges return to zero."""
    names = [
        "tunesmith_prompt_tokens_total",
        "tunesmith_generation_tokens_total",
        "tunesmith_time_to_first_token_seconds_count",
        "tunesmith_inter_token_latency_seconds_count",
        "tunesmith_request_latency_seconds_count",
        "tunesmith_requests_total",
    ]
    before = {name: server.metric(name) for name in names}
    usage = chat(client, max_tokens=7).usage
    grown = [server.metric(name) - before[name] for name in names]
    assert grown == [usage.prompt_tokens, 7, 1, 6, 1, 1]
    server.wait_until(lambda: server.metric("tunesmith_requests_running") == 0)
    assert server.metric("tunesmith_queue_depth") == 0
    assert server.metric("tunesmith_kv_cache_usage_ratio") == 0
    assert server.metric("tunesmith_provider_degraded") == 0


def test_prompts_are_not_logged(server, client):
    """The log has a line per request, with no word of it."""
    secret = "correct horse battery staple"
    answer = client.with_raw_response.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": secret}], max_tokens=2
    )
    line = server.wait_for("request")
    while line["request_id"] != answer.headers["x-request-id"]:
        line = server.wait_for("request")
    assert (line["status"], line["outcome"], line["path"]) == (200, "success", "/v1/chat/completions")
    assert not any("horse" in str(value) for one in server.log for value in one.values())
