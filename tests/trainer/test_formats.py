"""The table of formats: recognised, converted, refused."""

import json
from pathlib import Path

import pytest

from tunesmith_api.enums import DataFormat, Task
from tunesmith_api.finetunejob import Columns
from tunesmith_api.tasks import COLUMNS, formats_of, tasks_of
from tunesmith_trainer.errors import BadConfigError, BadDataError
from tunesmith_trainer.examples import (
    Answer,
    Conversation,
    Labeled,
    Pair,
    PlainText,
    Question,
    Span,
    TokenLabeled,
    Turn,
)
from tunesmith_trainer.formats import FORMATS, RowError, detect_format
from tunesmith_trainer.rows import Request, choose_format
from tunesmith_trainer.tables import Split

PAIR = (Turn("user", "hi"), Turn("assistant", "hello"))
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
TOOLS = [{"type": "function", "function": {"name": "look"}}]
CALLS = [{"type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}]
WITH_IDS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "", "tool_calls": [CALLS[0] | {"id": "a1"}]},
    {"role": "tool", "name": "look", "tool_call_id": "a1", "content": ""},
    {"role": "assistant", "content": "hello", "reasoning_content": "nothing there", "name": None, "weight": 1},
]
CALLED = json.dumps([{"type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}])
WITH_TOOLS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": "blue"},
    {"role": "assistant", "content": "hello", "tool_calls": None},
]
CALLED_TALK = Conversation((PAIR[0], Turn("assistant", "", CALLED), Turn("tool", "blue"), PAIR[1]), json.dumps(TOOLS))
SHARE_GPT_TALK = [
    {"from": "human", "value": "hi"},
    {"from": "gpt", "value": None, "tool_calls": CALLS},
    {"from": "tool", "value": "blue"},
    {"from": "gpt", "value": "hello"},
]
CALL = CALLS[0]["function"]
#: One conversation in every way in which ShareGPT rows write calls.
SHARE_GPT_CALLS = [
    SHARE_GPT_TALK,
    *(
        [
            SHARE_GPT_TALK[0],
            {"from": "function_call", "value": written},
            {"from": "observation", "value": "blue"},
            SHARE_GPT_TALK[3],
        ]
        for written in (json.dumps(CALL), json.dumps([CALL | {"arguments": {"at": "it"}}]), CALL)
    ),
]
CONTEXT = "Ada wrote the notes. Ada was first."
ENTITIES = TokenLabeled("Ada L. ran", ((0, 3), (4, 6), (7, 10)), ("B-PER", "I-PER", "O"))
NONE = Columns()

GOOD = [
    (DataFormat.MESSAGES, {"messages": MESSAGES}, Conversation(PAIR)),
    (
        DataFormat.MESSAGES,
        {"messages": MESSAGES, "system": "be brief", "tools": json.dumps(TOOLS)},
        Conversation((Turn("system", "be brief"), *PAIR), json.dumps(TOOLS)),
    ),
    (
        DataFormat.MESSAGES,
        {"messages": [*MESSAGES, *MESSAGES], "system": None, "tools": None},
        Conversation((*PAIR, *PAIR)),
    ),
    (
        DataFormat.MESSAGES,
        {"messages": WITH_TOOLS, "tools": TOOLS},
        CALLED_TALK,
    ),
    (
        DataFormat.MESSAGES,
        {"messages": WITH_IDS},
        Conversation(
            (
                PAIR[0],
                Turn("assistant", "", json.dumps([json.loads(CALLED)[0] | {"id": "a1"}])),
                Turn("tool", "", name="look", tool_call_id="a1"),
                Turn("assistant", "hello", reasoning="nothing there"),
            )
        ),
    ),
    (
        DataFormat.MESSAGES,
        {"messages": [MESSAGES[0], MESSAGES[1] | {"weight": 0}, *MESSAGES]},
        Conversation((PAIR[0], Turn("assistant", "hello", learnt=False), *PAIR)),
    ),
    (DataFormat.MESSAGES, {"messages": WITH_TOOLS[:2]}, Conversation((PAIR[0], Turn("assistant", "", CALLED)))),
    (
        DataFormat.SHARE_GPT,
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        Conversation(PAIR),
    ),
    *((DataFormat.SHARE_GPT, {"conversations": talk, "tools": TOOLS}, CALLED_TALK) for talk in SHARE_GPT_CALLS),
    (
        DataFormat.SHARE_GPT,
        {"conversations": [SHARE_GPT_TALK[0], {"from": "function_call", "value": CALL | {"id": "a1"}}]},
        Conversation((PAIR[0], Turn("assistant", "", json.dumps([{"id": "a1"} | json.loads(CALLED)[0]])))),
    ),
    (
        DataFormat.SHARE_GPT,
        {"conversations": [SHARE_GPT_TALK[0], {"from": "gpt", "value": "wait", "tool_calls": CALLS}]},
        Conversation((PAIR[0], Turn("assistant", "wait", CALLED))),
    ),
    (DataFormat.ALPACA, {"instruction": "hi", "input": "", "output": "hello"}, Conversation(PAIR)),
    (
        DataFormat.ALPACA,
        {"system": "be brief", "instruction": "sum", "input": "1 2", "output": "3"},
        Conversation((Turn("system", "be brief"), Turn("user", "sum\n\n1 2"), Turn("assistant", "3"))),
    ),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "hi", "completion": "hello"}, Conversation(PAIR)),
    (DataFormat.PROMPT_COMPLETION, {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}, Conversation(PAIR)),
    (
        DataFormat.PROMPT_COMPLETION,
        {"prompt": "hi", "completion": "hello", "system": "be brief", "tools": TOOLS},
        Conversation((Turn("system", "be brief"), *PAIR), json.dumps(TOOLS)),
    ),
    (DataFormat.TEXT, {"text": "hi"}, PlainText("hi")),
    (DataFormat.LABELED_TEXT, {"text": "hi", "label": "greeting"}, Labeled("hi", ("greeting",))),
    (DataFormat.LABELED_TEXT, {"text": "hi", "label": 3}, Labeled("hi", ("3",))),
    (DataFormat.LABELED_TEXT, {"text": "hi", "label": True}, Labeled("hi", ("true",))),
    (DataFormat.LABELED_TEXT, {"text": "hi", "labels": ["b", "a", "b"]}, Labeled("hi", ("b", "a"), multiple=True)),
    (DataFormat.LABELED_TEXT, {"text": "hi", "labels": []}, Labeled("hi", (), multiple=True)),
    (DataFormat.TOKEN_LABELS, {"tokens": ["Ada", "L.", "ran"], "tags": ["B-PER", "I-PER", "O"]}, ENTITIES),
    (DataFormat.TOKEN_LABELS, {"tokens": ["Ada", "L.", "ran"], "ner_tags": ["I-PER", "I-PER", "O"]}, ENTITIES),
    (
        DataFormat.TOKEN_LABELS,
        {"tokens": ["Ada", "L.", "ran"], "tags": ["PER", "PER", "O"]},
        TokenLabeled(ENTITIES.text, ENTITIES.words, ENTITIES.tags, plain=True),
    ),
    (
        DataFormat.TOKEN_LABELS,
        {"text": "Ada ran.", "spans": [{"start": 0, "end": 2, "label": "X"}, {"start": 4, "end": 8, "label": "Y"}]},
        TokenLabeled("Ada ran.", ((0, 2), (2, 3), (4, 7), (7, 8)), ("B-X", "O", "B-Y", "I-Y")),
    ),
    (
        DataFormat.TOKEN_LABELS,
        {"text": "Ada ran", "entities": [[4, 7, "Y"], [0, 4, "X"]]},
        TokenLabeled("Ada ran", ((0, 3), (4, 7)), ("B-X", "B-Y")),
    ),
    (DataFormat.TOKEN_LABELS, {"text": "x", "spans": []}, TokenLabeled("x", ((0, 1),), ("O",))),
    (
        DataFormat.SQUAD,
        {"context": CONTEXT, "question": "who?", "answers": {"text": ["Ada", "Ada"], "answer_start": [0, 21]}},
        Question(CONTEXT, "who?", (Answer("Ada", 0), Answer("Ada", 21))),
    ),
    (
        DataFormat.SQUAD,
        {"context": CONTEXT, "question": "who?", "answers": [{"text": "Ada", "answer_start": 0}] * 2},
        Question(CONTEXT, "who?", (Answer("Ada", 0),)),
    ),
    (DataFormat.SQUAD, {"context": "c", "question": "q", "answers": []}, Question("c", "q", ())),
    (
        DataFormat.SQUAD,
        {"context": "c", "question": "q", "answers": {"text": [], "answer_start": []}},
        Question("c", "q", ()),
    ),
    (
        DataFormat.SQUAD,
        {"context": "c", "question": "q", "is_impossible": True, "plausible_answers": [{"text": "x"}]},
        Question("c", "q", ()),
    ),
    (DataFormat.PARALLEL_TEXT, {"source": "hi", "target": "hallo"}, Pair("hi", "hallo")),
]
#: Rows as CSV and TSV have them: every cell is text, in which lists and objects are JSON.
CELLS = [
    (DataFormat.LABELED_TEXT, {"text": "hi", "labels": '["b", "a"]'}, Labeled("hi", ("b", "a"), multiple=True)),
    (DataFormat.LABELED_TEXT, {"text": "hi", "label": "[0]"}, Labeled("hi", ("0",), multiple=True)),
    (DataFormat.LABELED_TEXT, {"text": "hi", "labels": " []"}, Labeled("hi", (), multiple=True)),
    (DataFormat.LABELED_TEXT, {"text": "hi", "label": "[Question]"}, Labeled("hi", ("[Question]",))),
    (DataFormat.LABELED_TEXT, {"text": "hi", "label": "{}"}, Labeled("hi", ("{}",))),
    (DataFormat.TOKEN_LABELS, {"tokens": '["Ada","L.","ran"]', "tags": '["B-PER","I-PER","O"]'}, ENTITIES),
    (
        DataFormat.TOKEN_LABELS,
        {"text": "Ada ran", "spans": '[{"start": 4, "end": 7, "label": "Y"}]'},
        TokenLabeled("Ada ran", ((0, 3), (4, 7)), ("O", "B-Y")),
    ),
    (
        DataFormat.SQUAD,
        {"context": CONTEXT, "question": "who?", "answers": '{"text": ["Ada"], "answer_start": [21]}'},
        Question(CONTEXT, "who?", (Answer("Ada", 21),)),
    ),
    (DataFormat.SQUAD, {"context": "c", "question": "q", "answers": "[]"}, Question("c", "q", ())),
    (
        DataFormat.MESSAGES,
        {"messages": json.dumps(WITH_TOOLS), "tools": json.dumps(TOOLS), "system": ""},
        CALLED_TALK,
    ),
    (DataFormat.SHARE_GPT, {"conversations": json.dumps(SHARE_GPT_TALK), "tools": json.dumps(TOOLS)}, CALLED_TALK),
    (DataFormat.SQUAD, {"context": "c", "question": "q", "is_impossible": "True"}, Question("c", "q", ())),
]


@pytest.mark.parametrize(("format_", "row", "example"), [*GOOD, *CELLS])
def test_every_format_is_detected_and_converted(format_, row, example):
    """A row of each layout is recognised by its columns, among the formats of each task that takes it."""
    assert FORMATS[format_].convert(row, NONE) == example
    for task in tasks_of(format_):
        assert detect_format([row], NONE, formats_of(task)) is format_


def test_the_table_covers_every_format_of_the_contract():
    """Each format has a row in the table and a case above."""
    assert {case[0] for case in GOOD} == set(FORMATS) == set(DataFormat) - {DataFormat.AUTO}


#: A system text and tools under names of their own, beside columns of the usual names that are not read.
BESIDE = {"persona": "be kind", "functions": '[{"name": "look"}]', "system": "be rude", "tools": '[{"name": "push"}]'}
TOLD = Conversation((Turn("system", "be kind"), *PAIR), '[{"name": "look"}]')
SHARED = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
RENAMED = [
    (DataFormat.PROMPT_COMPLETION, {"prompt": "q", "completion": "a"}, {"q": "hi", "a": "hello"}, Conversation(PAIR)),
    (DataFormat.ALPACA, {"prompt": "q", "completion": "a"}, {"q": "hi", "a": "hello"}, Conversation(PAIR)),
    (DataFormat.MESSAGES, {"messages": "talk"}, {"talk": MESSAGES}, Conversation(PAIR)),
    (DataFormat.MESSAGES, {"messages": "talk"}, {"talk": json.dumps(MESSAGES)}, Conversation(PAIR)),
    (
        DataFormat.SHARE_GPT,
        {"messages": "talk"},
        {"talk": json.dumps([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}])},
        Conversation(PAIR),
    ),
    *(
        (format_, columns | {"system": "persona", "tools": "functions"}, row | BESIDE, TOLD)
        for format_, columns, row in (
            (DataFormat.MESSAGES, {}, {"messages": MESSAGES}),
            (DataFormat.SHARE_GPT, {}, {"conversations": SHARED}),
            (DataFormat.ALPACA, {"prompt": "q", "completion": "a"}, {"q": "hi", "a": "hello"}),
            (DataFormat.PROMPT_COMPLETION, {"prompt": "q", "completion": "a"}, {"q": "hi", "a": "hello"}),
        )
    ),
    (
        DataFormat.ALPACA,
        {"input": "context"},
        {"instruction": "say", "context": "twice", "input": "never", "output": "ok"},
        Conversation((Turn("user", "say\n\ntwice"), Turn("assistant", "ok"))),
    ),
    (DataFormat.TEXT, {"text": "body"}, {"body": "hi"}, PlainText("hi")),
    (DataFormat.LABELED_TEXT, {"text": "body", "label": "kind"}, {"body": "hi", "kind": "a"}, Labeled("hi", ("a",))),
    (DataFormat.LABELED_TEXT, {"label": "labels"}, {"text": "hi", "labels": "a"}, Labeled("hi", ("a",))),
    (
        DataFormat.TOKEN_LABELS,
        {"tokens": "words", "tags": "pos"},
        {"words": ["x"], "pos": ["O"]},
        TokenLabeled("x", ((0, 1),), ("O",)),
    ),
    (
        DataFormat.TOKEN_LABELS,
        {"text": "body", "tags": "marks"},
        {"body": "x", "marks": [[0, 1, "A"]]},
        TokenLabeled("x", ((0, 1),), ("B-A",)),
    ),
    (
        DataFormat.SQUAD,
        {"context": "c", "question": "q", "answers": "a"},
        {"c": "x", "q": "y", "a": []},
        Question("x", "y", ()),
    ),
    (
        DataFormat.SQUAD,
        {"impossible": "none"},
        {"context": "x", "question": "y", "none": True, "is_impossible": False},
        Question("x", "y", ()),
    ),
    (DataFormat.PARALLEL_TEXT, {"source": "en", "target": "de"}, {"en": "a", "de": "b"}, Pair("a", "b", "en", "de")),
    (
        DataFormat.PARALLEL_TEXT,
        {"source": "en", "target": "de", "translation": "texts"},
        {"texts": {"en": "a", "de": "b"}, "translation": "none"},
        Pair("a", "b", "en", "de"),
    ),
    (
        DataFormat.PARALLEL_TEXT,
        {"source": "de", "target": "en"},
        {"translation": {"en": "a", "de": "b", "fr": None}},
        Pair("b", "a", "de", "en"),
    ),
    (
        DataFormat.PARALLEL_TEXT,
        {"source": "English", "target": "German"},
        {"source": "a", "target": "b"},
        Pair("a", "b", "English", "German"),
    ),
    (
        DataFormat.PARALLEL_TEXT,
        {"source": "target", "target": "source"},
        {"source": "a", "target": "b"},
        Pair("b", "a", "target", "source"),
    ),
    (
        DataFormat.PARALLEL_TEXT,
        {"source": "en", "target": "de"},
        {"translation": {"en": "a", "de": "b"}, "source": "news", "target": "web"},
        Pair("a", "b", "en", "de"),
    ),
    (
        DataFormat.PARALLEL_TEXT,
        {"source": "en", "target": "de"},
        {"translation": '{"en": "a", "de": "b"}'},
        Pair("a", "b", "en", "de"),
    ),
]


@pytest.mark.parametrize(("format_", "columns", "row", "example"), RENAMED)
def test_columns_can_have_other_names(format_, columns, row, example):
    """Renamed columns are found by detection and by conversion; a language of `translation` is named like a column."""
    asked = Columns(**columns)
    assert FORMATS[format_].convert(row, asked) == example
    assert detect_format([row], asked, [format_]) is format_


def test_every_column_of_every_format_can_have_another_name():
    """Each is renamed in one of the cases above, and each of the contract's names is some format's."""
    renamed = {
        format_: {field for case, columns, *_ in RENAMED if case is format_ for field in columns} for format_ in FORMATS
    }
    assert renamed == {name: set(fields) for name, fields in COLUMNS.items()}
    assert {field for fields in COLUMNS.values() for field in fields} == set(Columns.model_fields)


@pytest.mark.parametrize(
    ("columns", "beside", "message"),
    [
        (Columns(tools="functions"), {"functions": "{"}, "functions is no JSON"),
        (Columns(tools="functions"), {"functions": [1]}, "functions is no list of objects"),
        (Columns(system="persona"), {"persona": "\ud800"}, "persona has '\\\\ud800' at character 0"),
    ],
)
def test_a_renamed_column_beside_turns_is_named_when_it_is_bad(columns, beside, message):
    """A message has the name that the data have."""
    with pytest.raises(RowError, match=message):
        FORMATS[DataFormat.MESSAGES].convert({"messages": MESSAGES} | beside, columns)


def test_a_renamed_column_of_messages_is_told_apart_by_its_keys():
    """`columns.messages` names a column of either layout; the keys inside decide."""
    columns = Columns(messages="talk")
    assert detect_format([{"talk": MESSAGES}], columns) is DataFormat.MESSAGES
    assert detect_format([{"talk": [{"from": "human", "value": "hi"}]}], columns) is DataFormat.SHARE_GPT


def test_the_task_decides_between_formats_that_share_columns():
    """A labelled text is plain text for text generation."""
    row = {"text": "x", "label": "y"}
    assert detect_format([row], NONE) is DataFormat.LABELED_TEXT
    assert detect_format([row], NONE, [DataFormat.TEXT]) is DataFormat.TEXT


def test_unknown_columns_have_no_format():
    """Rows that fit nothing are not guessed at."""
    assert detect_format([{"a": "b"}], NONE) is None


def test_character_spans_survive_the_cut_into_words():
    """Whatever the spans, the words' entities are the spans again: nothing is rounded to a word."""
    text = "Grüße, Anna-Lena (25) aus São Paulo!"
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if text[start] != " " and text[end - 1] != " ":
                row = {"text": text, "spans": [{"start": start, "end": end, "label": "X"}]}
                example = FORMATS[DataFormat.TOKEN_LABELS].convert(row, NONE)
                assert example.spans == (Span(start, end, "X"),)
                assert "".join(example.tokens) == text.replace(" ", "")


def spans(*found):
    """A row with character spans."""
    return {"text": "Ada ran", "spans": list(found)}


def answered(**answer):
    """A row with one answer."""
    return {"context": CONTEXT, "question": "q", "answers": [answer]}


M, L, T, Q, P = (
    DataFormat.MESSAGES,
    DataFormat.LABELED_TEXT,
    DataFormat.TOKEN_LABELS,
    DataFormat.SQUAD,
    DataFormat.PARALLEL_TEXT,
)
BAD = [
    (M, {"messages": None}, "messages is null"),
    (M, {"messages": []}, "messages is no list of messages"),
    (M, {"messages": "x"}, "messages is no list of messages: 'x'"),
    (M, {"messages": ["x"]}, r"messages\[0\] is no object"),
    (M, {"messages": MESSAGES[:1]}, "has no answer"),
    (M, {"messages": MESSAGES[::-1]}, "roles are assistant, user; they must be user, assistant in turn"),
    (M, {"messages": [*MESSAGES, *MESSAGES[1:]]}, "must be user, assistant in turn"),
    (M, {"messages": [{"role": "system", "content": "x"}]}, "has no answer"),
    (M, {"messages": [MESSAGES[0], {"role": "tool", "content": "x"}]}, "tool after tool_calls"),
    (M, {"messages": [*WITH_TOOLS[:2], *WITH_TOOLS[3:]]}, "must be user, assistant in turn, tool after tool_calls"),
    (M, {"messages": [MESSAGES[0], {"role": "assistant"}]}, r"messages\[1\].content is null"),
    (M, {"messages": [MESSAGES[0], {"role": "assistant", "content": " "}]}, "content is empty"),
    (M, {"messages": [MESSAGES[0], {"role": "assistant", "content": [1]}]}, r"content is list, not text: \[1\]"),
    (M, {"messages": [MESSAGES[0], {"role": "assistant", "tool_calls": "x"}]}, "tool_calls is no list of objects"),
    (M, {"messages": [*WITH_IDS[:2], WITH_IDS[2] | {"content": None}]}, r"messages\[2\].content is null"),
    (
        M,
        {"messages": [*WITH_IDS[:2], WITH_IDS[2] | {"tool_call_id": 7}]},
        r"messages\[2\].tool_call_id is int, not text",
    ),
    (M, {"messages": [MESSAGES[0], MESSAGES[1] | {"reasoning_content": [1]}]}, "reasoning_content is list, not text"),
    (
        M,
        {"messages": [MESSAGES[0], MESSAGES[1] | {"weight": 0.5}]},
        r"weight is 0.5; an answer is learnt \(1\) or only",
    ),
    (M, {"messages": [MESSAGES[0], MESSAGES[1] | {"weight": 0}]}, "has weight 0 on its last answer; end the row with"),
    (M, {"messages": [{"content": "x"}]}, r"messages\[0\].role is missing"),
    (M, {"messages": MESSAGES, "tools": "{"}, "tools is no JSON"),
    (M, {"messages": MESSAGES, "tools": ["x"]}, "tools is no list of objects"),
    (DataFormat.SHARE_GPT, {"conversations": [{"from": "bot", "value": "x"}]}, "has roles bot"),
    *(
        (
            DataFormat.SHARE_GPT,
            {"conversations": [SHARE_GPT_TALK[0], {"from": "function_call", "value": value}]},
            r"conversations\[1\].value is .*, not the JSON of a call: name, arguments",
        )
        for value in ("look at it", "[]", '{"arguments": {}}', None, 3)
    ),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "x"}, "has no column 'completion'"),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "x", "completion": None}, "completion is null"),
    (DataFormat.PROMPT_COMPLETION, {"prompt": "x", "completion": ""}, "completion is empty"),
    (DataFormat.PROMPT_COMPLETION, {"prompt": 3, "completion": "x"}, "prompt is int, not text: 3"),
    (DataFormat.TEXT, {"text": "\n"}, "text is empty"),
    (L, {"text": "x"}, "has no column 'label'"),
    (L, {"text": "x", "label": None}, "label is null"),
    (L, {"text": "x", "label": ""}, "label is empty"),
    (L, {"text": "x", "label": -1}, "label is -1, the mark of a row without a label; leave such rows out"),
    (L, {"text": "x", "label": 0.5}, "label is float, not text: 0.5"),
    (L, {"text": "x", "labels": ["a", None]}, r"labels\[1\] is null"),
    (L, {"text": "x", "labels": '["a", ""]'}, r"labels\[1\] is empty"),
    (
        L,
        {"text": "x", "labels": "a,b"},
        r"labels is text, not a list: 'a,b'; write a JSON list such as \[\"a\", \"b\"\], or name the column in spec",
    ),
    (L, {"text": "x", "labels": "['a', 'b']"}, "labels is text, not a list: .*; write a JSON list"),
    (L, {"text": "x", "labels": "[" * 100_000}, "labels is text, not a list"),
    (T, {"tokens": ["a"]}, "has no column 'tags'"),
    (T, {"tokens": [], "tags": []}, "tokens is empty"),
    (T, {"tokens": "a b", "tags": ["O", "O"]}, "tokens is str, not a list: 'a b'; write a JSON list"),
    (T, {"tokens": ["a", "b"], "tags": ["O"]}, "tags has 1 entries, tokens has 2; each token needs one tag"),
    (T, {"tokens": ["a", ""], "tags": ["O", "O"]}, r"tokens\[1\] is empty"),
    (T, {"tokens": ["a", "b"], "tags": ["B-X", "X"]}, r"tags\[1\] is 'X', which is neither O nor B-name nor I-name"),
    (T, {"tokens": ["a"], "ner_tags": [3]}, r"ner_tags\[0\] is the number 3; write the tag's name, such as B-PER"),
    (T, spans({"start": 4, "end": 9, "label": "X"}), r"spans\[0\] runs from 4 to 9, outside the text of 7 characters"),
    (T, spans({"start": 3, "end": 3, "label": "X"}), r"runs from 3 to 3, outside"),
    (T, spans({"start": "0", "end": 3, "label": "X"}), r"runs from '0' to 3; start and end are whole numbers"),
    (T, spans({"start": 3, "end": 4, "label": "X"}), r"spans\[0\] covers only blanks"),
    (T, spans({"start": 0, "end": 3}), r"spans\[0\].label is missing"),
    (T, spans([0, 3, "X"], [2, 5, "Y"]), "spans: X 0-3 and Y 2-5 overlap; keep one of them"),
    (T, spans("x"), r"spans\[0\] is 'x', not an object of start, end, label"),
    (Q, {"context": "c", "question": "q"}, "has no column 'answers'"),
    (Q, {"context": "", "question": "q", "answers": []}, "context is empty"),
    (Q, {"context": "c", "question": "q", "answers": None}, "answers is null"),
    (Q, {"context": "c", "question": "q", "answers": "x"}, "answers is 'x', not a list of text, answer_start"),
    (
        Q,
        {"context": "c", "question": "q", "answers": {"text": ["c"], "answer_start": []}},
        r"has 1 texts and answer_start \[\]; each text needs its place",
    ),
    (Q, answered(text="Ada"), "answer_start is None, not a whole number"),
    (
        Q,
        answered(text="Ada", answer_start=4),
        r"answers\[0\].answer_start is 4, where the context has 'wro', not 'Ada'; it stands at 0",
    ),
    (Q, answered(text="Bob", answer_start=-1), "where the context has .*, not 'Bob'; it stands nowhere in it"),
    (Q, answered(text="", answer_start=0), r"answers\[0\].text is empty"),
    (P, {"source": "a"}, "has no column 'target'"),
    (P, {"source": "a", "target": " "}, "target is empty"),
    (
        P,
        {"translation": {"en": "a", "de": "b"}},
        "translation has de, en; name the direction in columns.source and columns.target",
    ),
    (P, {"translation": "x"}, "translation is 'x', not an object with a text for each language"),
]


@pytest.mark.parametrize(("format_", "row", "message"), BAD)
def test_a_bad_row_says_what_is_wrong(format_, row, message):
    """Every way that a row can be bad has a sentence of its own, with the column, the value and the way out."""
    with pytest.raises(RowError, match=message):
        FORMATS[format_].convert(row, NONE)


def test_a_name_that_is_a_column_is_no_language():
    """Where one of the names is a column, the other one must be a column too: it may be misspelt."""
    row, columns = {"source": "news", "target": "web", "en": "a", "de": "b"}, Columns(source="en", target="ger")
    assert detect_format([row], columns, [P]) is None


def test_a_missing_language_is_named():
    """A translation that lacks one of the two languages says which."""
    with pytest.raises(RowError, match=r"translation\.fr is null"):
        FORMATS[P].convert({"translation": {"en": "a"}}, Columns(source="en", target="fr"))


def test_the_contract_knows_the_columns_of_every_format() -> None:
    """What may be named in `dataset.columns` is what the conversion reads."""
    assert {name: set(fields) for name, fields in COLUMNS.items()} == {
        name: set(found.renames.values()) for name, found in FORMATS.items()
    }


def test_a_renamed_column_that_no_row_has_is_refused(tmp_path: Path) -> None:
    """Also one that rows need not have: a misspelt name would leave every system text out."""
    request = Request("spec.dataset.train", tmp_path, Split.TRAIN, Task.CHAT, DataFormat.AUTO, Columns(system="persna"))
    with pytest.raises(
        BadDataError, match=r"columns.system: no row has a column 'persna'; they have: messages, persona"
    ):
        choose_format([{"messages": MESSAGES, "persona": "be kind"}], request)
    assert choose_format([{"messages": MESSAGES}, {"messages": MESSAGES, "persna": ""}], request) is DataFormat.MESSAGES


@pytest.mark.parametrize("asked", [DataFormat.AUTO, DataFormat.MESSAGES])
def test_a_column_that_the_format_has_not_is_refused(asked: DataFormat, tmp_path: Path) -> None:
    """A name in `dataset.columns` that nobody reads is told with the format's own."""
    request = Request("spec.dataset.train", tmp_path, Split.TRAIN, Task.CHAT, asked, Columns(label="intent"))
    with pytest.raises(BadConfigError, match=r"columns.label: 'intent' is not read: rows of format Messages have"):
        choose_format([{"messages": MESSAGES}], request)
