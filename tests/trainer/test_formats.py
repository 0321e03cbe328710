"""The table of formats: recognised, converted, refused."""

import pytest

from tunesmith_api.enums import DataFormat
from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.formats import FORMATS, Example, RowError, Turn, detect_format

PAIR = (Turn("user", "hi"), Turn("assistant", "hello"))
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]

GOOD = [
    (DataFormat.MESSAGES, {"messages": MESSAGES}, Example(PAIR)),
    (
        DataFormat.SHARE_GPT,
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        Example(PAIR),
    ),
    (DataFormat.ALPACA, {"instruction": "hi", "input": "", "output": "hello"}, Example(PAIR)),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "hi", "completion": "hello"}, Example(PAIR)),
    (DataFormat.TEXT, {"text": "hi"}, Example(text="hi")),
]
NONE = Columns()


@pytest.mark.parametrize(("format_", "row", "example"), GOOD)
def test_every_format_is_detected_and_converted(format_, row, example):
    """A row of each format is recognised by its columns and becomes the same example."""
    assert detect_format([row], NONE) is format_
    assert FORMATS[format_].convert(row, NONE) == example


def test_the_table_covers_every_supported_format():
    """Each format that the contract supports has a row in the table and a case above."""
    assert {case[0] for case in GOOD} == set(FORMATS)


def test_columns_can_have_other_names():
    """Renamed columns are found by detection and by conversion."""
    columns = Columns(prompt="question", completion="answer")
    row = {"question": "hi", "answer": "hello", "id": 3}
    assert detect_format([row], columns) is DataFormat.ALPACA
    assert FORMATS[DataFormat.PROMPT_COMPLETION].convert(row, columns) == Example(PAIR)


def test_a_renamed_column_of_messages_is_told_apart_by_its_keys():
    """`columns.messages` names a column of either layout; the keys inside decide."""
    columns = Columns(messages="talk")
    assert detect_format([{"talk": MESSAGES}], columns) is DataFormat.MESSAGES
    assert detect_format([{"talk": [{"from": "human", "value": "hi"}]}], columns) is DataFormat.SHARE_GPT


def test_alpaca_input_and_system_join_the_prompt():
    """The input follows the instruction after an empty line, and the system text comes first."""
    row = {"system": "be brief", "instruction": "sum", "input": "1 2", "output": "3"}
    turns = FORMATS[DataFormat.ALPACA].convert(row, NONE).turns
    assert turns == (Turn("system", "be brief"), Turn("user", "sum\n\n1 2"), Turn("assistant", "3"))


def test_prompt_and_completion_may_be_messages():
    """Lists of messages in prompt and completion are one conversation."""
    row = {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}
    assert FORMATS[DataFormat.PROMPT_COMPLETION].convert(row, NONE) == Example(PAIR)


def test_unknown_columns_have_no_format():
    """Rows that fit nothing are not guessed at."""
    assert detect_format([{"a": "b"}], NONE) is None


BAD = [
    (DataFormat.MESSAGES, {"messages": None}, "messages is null"),
    (DataFormat.MESSAGES, {"messages": []}, "messages is no list of messages"),
    (DataFormat.MESSAGES, {"messages": MESSAGES[:1]}, "has no answer"),
    (DataFormat.MESSAGES, {"messages": MESSAGES[::-1]}, "must be user, assistant in turn"),
    (DataFormat.MESSAGES, {"messages": [*MESSAGES, *MESSAGES[1:]]}, "must be user, assistant in turn"),
    (DataFormat.MESSAGES, {"messages": [{"role": "system", "content": "x"}]}, "has no answer"),
    (DataFormat.MESSAGES, {"messages": [MESSAGES[0], {"role": "assistant"}]}, r"messages\[1\].content is null"),
    (DataFormat.MESSAGES, {"messages": [MESSAGES[0], {"role": "assistant", "content": " "}]}, "content is empty"),
    (DataFormat.MESSAGES, {"messages": [{"content": "x"}]}, r"messages\[0\].role is missing"),
    (DataFormat.SHARE_GPT, {"conversations": [{"from": "bot", "value": "x"}]}, "has roles bot"),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "x"}, "has no column 'completion'"),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "x", "completion": None}, "completion is null"),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "x", "completion": ""}, "completion is empty"),
    (DataFormat.PROMPT_COMPLETION, {"prompt": 3, "completion": "x"}, "prompt is int, not text"),
    (DataFormat.TEXT, {"text": "\n"}, "text is empty"),
]


@pytest.mark.parametrize(("format_", "row", "message"), BAD)
def test_a_bad_row_says_what_is_wrong(format_, row, message):
    """Every way that a row can be bad has a sentence of its own."""
    with pytest.raises(RowError, match=message):
        FORMATS[format_].convert(row, NONE)
