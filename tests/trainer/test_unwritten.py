"""What a chat template leaves out of a conversation, told for templates that know tools in part."""

import json
from pathlib import Path

import pytest

from tunesmith_api.enums import Task
from tunesmith_trainer.examples import Conversation, PlainText, Turn
from tunesmith_trainer.fields import RowError
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.unwritten import TemplateCheck, unwritten

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
TOOLS = json.dumps([{"type": "function", "function": {"name": "look"}}])
CALLS = json.dumps([{"type": "function", "function": {"name": "look", "arguments": {}}}])
#: The tool's name is said by the user too: that a text has it somewhere proves nothing.
ASKED = Turn("user", "look")
CALLED = (ASKED, Turn("assistant", "", CALLS))
ANSWERED = (*CALLED, Turn("tool", "look"), Turn("assistant", "blue"))

OPENED = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
ROLES = "{% for m in messages %}{% if m.role != 'tool' %}<|{{ m.role }}|>{{ m.content }}"
TOLD = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
CALLING = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
RESULTS = "<|end|>{% else %}<|tool|>{{ m.content }}{% endif %}{% endfor %}"
DEAF = "<|end|>{% endif %}{% endfor %}"
#: Refuses an answer without text that calls nothing.
STRICT = "{% if m.role == 'assistant' and not (m.content or m.tool_calls) %}{{ raise_exception('empty') }}{% endif %}"
#: Opens an answer with a thought that earlier turns do not have.
THINKING = "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
#: Knows turns of the user and of the assistant only, as Phi-3-medium's does.
TWO_ROLES = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|>"
    "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}<|end|>{% endif %}{% endfor %}" + OPENED
)
#: Has a system text of its own where there is none, as Qwen2's does.
DEFAULT = "{% if messages[0].role != 'system' %}<|system|>be brief<|end|>{% endif %}"
BRIEF = (Turn("system", "be brief"), ASKED, ANSWERED[3])
THOUGHT = "{{ m.reasoning_content }}{{ m.content }}"
REASONED = Conversation((ASKED, Turn("assistant", "blue", reasoning="it is")))
FULL = TOLD + ROLES + CALLING + RESULTS + OPENED

CASES = [
    ("full", FULL, Conversation(ANSWERED, TOOLS), ""),
    ("full, call last", FULL, Conversation(CALLED, TOOLS), ""),
    ("no tools", ROLES + CALLING + RESULTS + OPENED, Conversation(ANSWERED, TOOLS), "tools"),
    ("no tools, none given", ROLES + CALLING + RESULTS + OPENED, Conversation(ANSWERED), ""),
    ("no calls", TOLD + ROLES + RESULTS + OPENED, Conversation(ANSWERED, TOOLS), "tool_calls"),
    ("no results", TOLD + ROLES + CALLING + DEAF + OPENED, Conversation(ANSWERED, TOOLS), "results of tools"),
    ("no results, none given", TOLD + ROLES + CALLING + DEAF + OPENED, Conversation(CALLED, TOOLS), ""),
    ("strict", FULL.replace(CALLING, STRICT + CALLING), Conversation(ANSWERED, TOOLS), ""),
    ("thinking", FULL.replace(OPENED, THINKING), Conversation(CALLED, TOOLS), "tool_calls in its last answer"),
    ("thinking, text last", FULL.replace(OPENED, THINKING), Conversation(ANSWERED, TOOLS), ""),
    ("no system text", TWO_ROLES, Conversation(BRIEF), "a system text"),
    ("no system text, none given", TWO_ROLES, Conversation((*BRIEF[1:], *BRIEF[1:])), ""),
    ("the default system text", DEFAULT + FULL, Conversation(BRIEF), ""),
    ("reasoning", FULL.replace("{{ m.content }}", THOUGHT, 1), REASONED, ""),
    ("no reasoning", FULL, REASONED, "reasoning_content"),
    (
        "reasoning, thinking",
        FULL.replace("{{ m.content }}", THOUGHT, 1).replace(OPENED, THINKING),
        REASONED,
        "reasoning_content in its last answer",
    ),
    ("nothing beside texts", "{{ raise_exception('not asked for') }}", Conversation((ASKED, ANSWERED[3])), ""),
]


@pytest.fixture
def tokenizer():
    """The example's tokenizer."""
    return load_tokenizer(MODEL)


@pytest.mark.parametrize(
    ("template", "talk", "left_out"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_a_template_leaves_out_is_named(tokenizer, template, talk, left_out):
    """Tools, calls and results, each by whether the text would be another without it."""
    tokenizer.chat_template = template
    assert unwritten(tokenizer, talk) == left_out


@pytest.mark.parametrize("beside", [{"turns": ANSWERED}, {"tools": TOOLS}, {"turns": (Turn("system", "x"), *CALLED)}])
def test_text_generation_without_a_template_takes_pairs_only(tokenizer, beside):
    """What only a template could write is refused with the way out; a pair and a text need none."""
    tokenizer.chat_template = None
    pair = Conversation((ASKED, ANSWERED[3]))
    check = TemplateCheck(tokenizer, Task.TEXT_GENERATION)
    check(pair)
    check(PlainText("x"))
    with pytest.raises(RowError, match=r"takes a chat template, and spec\.model has none; use a model with one"):
        check(Conversation(**{"turns": pair.turns, **beside}))


@pytest.mark.parametrize(
    ("template", "talk", "beside", "reason", "way_out"),
    [
        (
            "{{ raise_exception('Roles must alternate') }}",
            Conversation(ANSWERED, TOOLS),
            "tools and tool_calls and results of tools",
            "Roles must alternate",
            "use a model whose template knows tools, or leave such rows out",
        ),
        (
            FULL.replace("c.function.name", "'call ' + c.function.arguments"),
            Conversation(CALLED),
            "tool_calls",
            "can only concatenate str",
            "use a model whose template knows tools, or leave such rows out",
        ),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
            Conversation(BRIEF),
            "a system text",
            "System role not supported",
            "use a model whose template knows system texts, or begin the first user's text with it",
        ),
    ],
)
def test_a_row_that_a_template_refuses_is_told_by_its_number(tokenizer, template, talk, beside, reason, way_out):
    """Gemma's refuses system texts and the turns of tools; DeepSeek's joins the arguments as if they were a text."""
    tokenizer.chat_template = template
    with pytest.raises(RowError, match=f"^has {beside}, but .* refuses the messages: {reason}.*; {way_out}$"):
        TemplateCheck(tokenizer, Task.CHAT)(talk)


def test_a_system_text_that_would_go_unread_is_refused(tokenizer):
    """A served model would not read it either; the way out is to have it where the template writes it."""
    tokenizer.chat_template = TWO_ROLES
    message = r"^has a system text, which .* leaves out; .* or begin the first user's text with it$"
    with pytest.raises(RowError, match=message):
        TemplateCheck(tokenizer, Task.CHAT)(Conversation(BRIEF))
