"""Tests of chat templates: equal to transformers', safe, and clear about what they refuse."""

from datetime import UTC, datetime

import pytest

from tunesmith_server.errors import InvalidRequestError, ModelError
from tunesmith_server.template import ChatTemplate

NOW = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
CHAT = [
    {"role": "system", "content": 'You <turn> things & "dim" \'em.'},
    {"role": "user", "content": "  lights on, café ☕\n"},
    {"role": "assistant", "content": "done"},
    {"role": "user", "content": "off"},
]
LLAMA_LIKE = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|system|>" + system }}
{% for message in messages %}
    {% if loop.index0 == 7 %}{% break %}{% endif %}
{{ '<|' + message.role + '|>' }}{{ message.content | tojson }}
    {% generation %}x{% endgeneration %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""
NAMESPACE = """{% set ns = namespace(n=0) %}
{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}:{{ m['content'].split(',')[0] }}
{% endfor %}{{ tools is none }} {{ dict(a=1) | tojson(indent=2) }}{{ undefined_thing }}"""


@pytest.mark.torch
@pytest.mark.parametrize("source", ["plain", "tiny", LLAMA_LIKE, NAMESPACE])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_prompts_equal_transformers(models, source, count):
    """The rendered prompt is transformers' `apply_chat_template`, character by character."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - only the tests marked `torch` may import it

    own = source in ("plain", "tiny")
    reference = AutoTokenizer.from_pretrained(models / (source if own else "plain") / "torch")
    source = reference.chat_template if own else source
    template = ChatTemplate(source, reference.special_tokens_map, lambda: NOW)
    wanted = reference.apply_chat_template(
        CHAT[:count], chat_template=source, tokenize=False, add_generation_prompt=True
    )
    assert template.render(CHAT[:count]) == wanted


def test_the_clock_is_the_given_one():
    """`strftime_now` reads the injected clock."""
    assert ChatTemplate("{{ strftime_now('%d %b %Y') }}", {}, lambda: NOW).render(CHAT) == "21 Nov 2026"


def test_a_refusal_of_the_template_is_the_clients_error():
    """What a template raises comes back as a bad request about the messages."""
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {}, lambda: NOW)
    with pytest.raises(InvalidRequestError, match="roles must alternate") as caught:
        template.render(CHAT)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(source):
    """Templates come with models from anywhere: they reach no internals and change no messages."""
    messages = [dict(message) for message in CHAT]
    with pytest.raises(InvalidRequestError):
        ChatTemplate(source, {}, lambda: NOW).render(messages)
    assert messages == CHAT


def test_a_template_that_does_not_parse_stops_the_server():
    """A syntax error is found at load, with its line."""
    with pytest.raises(ModelError, match="line 2"):
        ChatTemplate("fine\n{% if %}", {}, lambda: NOW)
