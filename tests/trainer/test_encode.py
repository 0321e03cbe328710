"""Tokenising: what is learnt, where prompts end, what is cut."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith_api.enums import Task
from tunesmith_trainer.encode import IGNORED, make_encoder
from tunesmith_trainer.errors import BadConfigError
from tunesmith_trainer.examples import Conversation, PlainText, Turn
from tunesmith_trainer.scoring import free_text
from tunesmith_trainer.tokenizer import end_of_turn, load_tokenizer, render

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
#: Writes calls of tools by their names.
CALLING = (
    "{% for m in messages %}{{ 'OPENED' if m.role == 'assistant' else '<|user|>' }}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}OPENED{% endif %}"
)
#: Writes what an assistant thought before its answer.
REASONING = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>"
    "{% endif %}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: Leaves the reasoning of earlier answers out, as Qwen3's does.
THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if loop.last %}{{ m.content }}{% else %}{{ m.content.split('</think>')[-1].strip() }}{% endif %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HISTORY = (Turn("user", "hi"), Turn("assistant", "turn on"), Turn("user", "lamp"), Turn("assistant", "turn off"))


@pytest.fixture
def tokenizer():
    """The example's tokenizer."""
    return load_tokenizer(MODEL)


def learnt(tokenizer, row):
    """The text of the labelled tokens."""
    return tokenizer.decode([label for label in row.labels if label != IGNORED])


def test_the_prompt_is_tokenised_as_the_server_will_see_it(tokenizer):
    """The tokens before the answer are those of the chat template with the assistant's opening."""
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([Conversation(HISTORY[:2])])
    prompt = render(tokenizer, HISTORY[:1], answer_next=True)
    assert row.input_ids[: row.prompt_tokens] == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert learnt(tokenizer, row) == "turn on<|end|>"


def test_every_answer_of_a_conversation_is_learnt(tokenizer):
    """Both answers have labels, each with the token that ends it; the users' turns have none."""
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([Conversation(HISTORY)])
    assert learnt(tokenizer, row) == "turn on<|end|>turn off<|end|>"
    assert (row.reference, row.unlearnt) == ("turn off", 0)


def test_an_answer_of_weight_0_is_read_only(tokenizer):
    """It stands in the row, so that the answer after it is learnt with it before it."""
    turns = (HISTORY[0], replace(HISTORY[1], learnt=False), *HISTORY[2:])
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([Conversation(turns)])
    ((whole,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([Conversation(HISTORY)])
    assert learnt(tokenizer, row) == "turn off<|end|>"
    assert row.input_ids == whole.input_ids


def test_templates_see_what_a_message_says_beside_its_text(tokenizer):
    """A tool's name and the call that it answers, the calls' ids, an answer's reasoning; what is not said is unset."""
    tokenizer.chat_template = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}"
    call = [{"id": "a1", "type": "function", "function": {"name": "look", "arguments": {}}}]
    turns = (
        HISTORY[0],
        Turn("assistant", "", json.dumps(call)),
        Turn("tool", "", name="look", tool_call_id="a1"),
        Turn("assistant", "turn on", reasoning="it is dark"),
    )
    # The library gives the reasoning by both of its names.
    seen = [json.loads(line) for line in render(tokenizer, turns, answer_next=False).splitlines()]
    assert seen == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": call},
        {"role": "tool", "content": "", "name": "look", "tool_call_id": "a1"},
        {"role": "assistant", "content": "turn on", "reasoning_content": "it is dark", "thinking": "it is dark"},
    ]


def test_reasoning_before_an_answer_is_learnt_with_it(tokenizer):
    """The reference is what the model is to write: the reasoning and the answer."""
    tokenizer.chat_template = REASONING
    talk = Conversation((HISTORY[0], Turn("assistant", "turn on", reasoning="it is dark")))
    for task in (Task.CHAT, Task.TEXT_GENERATION):
        ((row,),) = make_encoder(tokenizer, task, 128).encode([talk])
        assert learnt(tokenizer, row) == "<think>it is dark</think>turn on<|end|>"
        assert row.reference == "<think>it is dark</think>turn on"


def test_a_template_that_drops_earlier_turns_has_its_last_answer_learnt(tokenizer):
    """When the history is rendered differently, only the last answer can be trained on."""
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' or loop.last %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([Conversation(HISTORY)])
    assert learnt(tokenizer, row) == "turn off<|end|>"
    assert row.unlearnt == 1


@pytest.mark.parametrize("repeated", ["the lamp", "<think>warm</think> turn on"])
def test_a_users_turn_is_not_learnt_where_earlier_reasoning_is_dropped(tokenizer, repeated):
    """An answer that the template rewrites is left out, also when a later turn says what it said."""
    tokenizer.chat_template = THINKING
    first, last = "<think>warm</think> turn on", "<think>cold</think> turn off"
    turns = (Turn("user", "hi"), Turn("assistant", first), Turn("user", repeated), Turn("assistant", last))
    plain = (*HISTORY[:2], *turns[2:])
    ((row,), (other,)) = make_encoder(tokenizer, Task.CHAT, 128).encode([Conversation(turns), Conversation(plain)])
    assert learnt(tokenizer, row) == f"{last}<|end|>"
    assert learnt(tokenizer, other) == f"turn on<|end|>{last}<|end|>"


def test_only_answers_are_learnt_where_nothing_ends_a_turn(tokenizer):
    """Without a token that ends turns, an earlier answer ends with its words; the last one with the eos token."""
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}\n{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([Conversation(HISTORY)])
    assert learnt(tokenizer, row) == f"turn onturn off\n{tokenizer.eos_token}"


def test_reasoning_that_the_opening_begins_is_begun_once(tokenizer):
    """A prompt that ends with `<think>` is answered from there on."""
    opened = "{% if add_generation_prompt %}<|assistant|>\n<think>\n{% endif %}"
    tokenizer.chat_template = THINKING.partition("{% if add_generation_prompt")[0].replace("|>", "|>\n", 1) + opened
    talk = Conversation((HISTORY[0], Turn("assistant", "<think>\nwarm</think> turn on")))
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([talk])
    assert tokenizer.decode(row.input_ids).count("<think>") == 1
    assert learnt(tokenizer, row) == "warm</think> turn on<|end|>"


@pytest.mark.parametrize("said", ["", "wait"])
@pytest.mark.parametrize("opened", ["<|assistant|>", "<|assistant|>so "])
def test_an_answer_that_calls_a_tool_is_scored_as_it_is_written(tokenizer, opened, said):
    """The right call scores 1 and silence 0, though the row's answer has no text, or only what goes before the call.

    The prompt's end may be cut from the answer by a token that crosses it.
    """
    tokenizer.chat_template = CALLING.replace("OPENED", opened)
    talk = Conversation((Turn("user", "hi"), Turn("assistant", said, json.dumps([{"function": {"name": "on"}}]))))
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 128).encode([talk])
    assert learnt(tokenizer, row) == f"{said}on<|end|>"
    answers = [tokenizer.decode(row.input_ids[row.prompt_tokens :], skip_special_tokens=True), ""]
    scores = [free_text([answer], [row.reference]).scores.exact_match for answer in answers]
    assert scores == [1, 0]


def test_a_template_without_an_end_of_turn_stops_at_the_eos_token(tokenizer):
    """The model learns to stop even when its template does not show how."""
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert end_of_turn(tokenizer) == tokenizer.eos_token


def test_chat_needs_a_template(tokenizer):
    """A base model without a template is told to use the other task."""
    tokenizer.chat_template = None
    with pytest.raises(BadConfigError, match=r"use spec\.task TextGeneration"):
        make_encoder(tokenizer, Task.CHAT, 128)


def test_a_pair_of_text_generation_is_joined_as_it_is(tokenizer):
    """Prompt and completion follow each other, then the eos token; no template is used, though there is one."""
    ((row,),) = make_encoder(tokenizer, Task.TEXT_GENERATION, 128).encode([Conversation(HISTORY[:2])])
    assert tokenizer.decode(row.input_ids) == f"hiturn on{tokenizer.eos_token}"
    assert learnt(tokenizer, row) == f"turn on{tokenizer.eos_token}"


def test_text_generation_takes_the_template_where_a_row_needs_it(tokenizer):
    """Several turns, a system text or tools go through it; texts and pairs beside them stay as they are, in order."""
    system = Conversation((Turn("system", "be brief"), *HISTORY[:2]))
    pair, text = Conversation(HISTORY[2:]), PlainText("the lamp")
    encoder = make_encoder(tokenizer, Task.TEXT_GENERATION, 128)
    rows = [row for (row,) in encoder.encode([pair, system, text, Conversation(HISTORY), pair])]
    eos = tokenizer.eos_token
    assert [learnt(tokenizer, row) for row in rows] == [
        f"turn off{eos}",
        "turn on<|end|>",
        f" lamp{eos}",
        "turn on<|end|>turn off<|end|>",
        f"turn off{eos}",
    ]
    assert tokenizer.decode(rows[1].input_ids[: rows[1].prompt_tokens]) == render(
        tokenizer, system.turns[:-1], answer_next=True
    )
    assert encoder.stop == "<|end|>"
    tokenizer.chat_template = None
    assert make_encoder(tokenizer, Task.TEXT_GENERATION, 128).stop == eos


@pytest.mark.parametrize("words", [1, 29, 30, 31, 59, 60, 61, 200])
def test_a_long_text_is_learnt_whole_in_several_rows(tokenizer, words):
    """Every token but the first is learnt once, with the token before it in its row; only its first row begins it."""
    text = " lamp" * words
    (rows,) = make_encoder(tokenizer, Task.TEXT_GENERATION, 31).encode([PlainText(text)])
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert [label for row in rows for label in row.labels if label != IGNORED] == ids[1:]
    assert [before for row in rows for before in row.input_ids[:-1]] == ids[:-1]
    assert all(row.labels == [IGNORED, *row.input_ids[1:]] for row in rows)
    assert all(len(row.input_ids) == 31 for row in rows[:-1])
    assert [row.continues for row in rows] == [False] + [True] * (len(rows) - 1)
    assert not any(row.truncated for row in rows)


def test_rows_are_cut_at_the_limit_or_dropped(tokenizer):
    """An answer is cut; a prompt that leaves no room for one gives nothing."""
    long_answer = Conversation((Turn("user", "hi"), Turn("assistant", "turn on " * 50)))
    ((row,),) = make_encoder(tokenizer, Task.CHAT, 32).encode([long_answer])
    assert (len(row.input_ids), row.truncated) == (32, True)
    long_prompt = Conversation((Turn("user", "turn on " * 50), Turn("assistant", "x")))
    assert make_encoder(tokenizer, Task.CHAT, 32).encode([long_prompt]) == [()]
