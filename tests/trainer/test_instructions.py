"""Instructions: what a causal model is asked per task, and how its answers are read back."""

import json

import pytest

from tunesmith_api.enums import ModelKind, Task
from tunesmith_api.tasks import TASKS
from tunesmith_trainer.examples import (
    ASSISTANT,
    USER,
    Answer,
    Conversation,
    Labeled,
    Pair,
    Question,
    Span,
    TokenLabeled,
    Turn,
)
from tunesmith_trainer.instructions import (
    ASKED_TASKS,
    Facts,
    Instruction,
    ask,
    fill,
    make_instruction,
    read_entities,
    read_labels,
)


def tagged(text, *tags):
    """A sentence of words apart by one blank, with their tags."""
    words, start = [], 0
    for word in text.split():
        words.append((start, start + len(word)))
        start += len(word) + 1
    return TokenLabeled(text, tuple(words), tags)


NICE = Labeled("nice", ("good",))
SENTENCE = tagged("Ann saw Ann Lee in Rome", "B-PER", "O", "B-PER", "I-PER", "O", "B-LOC")
SQUAD = [
    Question("Rome is old .", "What is old ?", (Answer("Rome", 0), Answer("Rome is", 0), Answer("Rome", 0))),
    Question("Rome is old .", "Who ?", ()),
]
PAIR = Pair("hello", "hallo", "English", "German")

LANGUAGES = Facts(source="English", target="German")
CLASSES = Facts(("bad", "good"))
TAGS = Facts(("car", "red"), multiple=True)
KINDS = Facts(("LOC", "PER"))
SQUAD_PROMPT = """Answer with words of the text, or "unanswerable".

Text: Rome is old .

Question: """

#: Task, what is known of the rows, the example that is asked, and prompt, answer and reference.
ASKED = [
    (Task.TEXT_CLASSIFICATION, CLASSES, NICE, "Which label fits the text: bad, good\n\nText: nice", "good", '["good"]'),
    (
        Task.TEXT_CLASSIFICATION,
        TAGS,
        Labeled("red car", ("red", "car"), multiple=True),
        "Which of the labels fit the text? Answer with a JSON list: car, red\n\nText: red car",
        '["car","red"]',
        '["car","red"]',
    ),
    (
        Task.TOKEN_CLASSIFICATION,
        KINDS,
        SENTENCE,
        "List the entities of the text as JSON: LOC, PER\n\nText: Ann saw Ann Lee in Rome",
        '[{"text":"Ann","label":"PER"},{"text":"Ann Lee","label":"PER"},{"text":"Rome","label":"LOC"}]',
        None,
    ),
    (Task.QUESTION_ANSWERING, Facts(), SQUAD[0], f"{SQUAD_PROMPT}What is old ?", "Rome", '["Rome","Rome is"]'),
    (Task.QUESTION_ANSWERING, Facts(), SQUAD[1], f"{SQUAD_PROMPT}Who ?", "unanswerable", "[]"),
    (
        Task.QUESTION_ANSWERING,
        Facts(),
        Conversation((Turn(USER, "Who?"), Turn(ASSISTANT, "Ann"))),
        "Who?",
        "Ann",
        '["Ann"]',
    ),
    (Task.TRANSLATION, LANGUAGES, PAIR, "Translate from English to German:\n\nhello", "hallo", "hallo"),
    (Task.TRANSLATION, Facts(), PAIR, "Translate:\n\nhello", "hallo", "hallo"),
]


@pytest.mark.parametrize(("task", "facts", "example", "prompt", "answer", "reference"), ASKED)
def test_what_a_model_is_asked(task, facts, example, prompt, answer, reference):
    """Prompt, answer and reference of one example; the instruction survives its JSON form."""
    instruction = make_instruction(task, facts, chats=True)
    asked = ask(Instruction.model_validate_json(instruction.model_dump_json()), example)
    assert (asked.prompt, asked.answer) == (prompt, answer)
    assert reference is None or asked.reference == reference
    assert [turn.content for turn in asked.conversation().turns] == [prompt, answer]


def test_a_model_without_a_chat_template_gets_a_cue():
    """Its prompt ends where the answer begins, with a blank; the reference has none."""
    asked = ask(make_instruction(Task.TEXT_CLASSIFICATION, CLASSES, chats=False), NICE)
    assert (asked.prompt[-9:], asked.answer, asked.reference) == ("\n\nAnswer:"[-9:], " good", '["good"]')


def test_every_task_of_causal_models_has_its_instruction():
    """All but Chat and TextGeneration, whose rows are prompts already."""
    causal = {task for task, kinds in TASKS.items() if ModelKind.CAUSAL in kinds}
    assert set(ASKED_TASKS) == causal - {Task.CHAT, Task.TEXT_GENERATION}


def test_many_labels_are_not_listed():
    """A prompt of hundreds of classes would be longer than its text."""
    many = Facts(tuple(f"c{place}" for place in range(61)))
    instruction = make_instruction(Task.TEXT_CLASSIFICATION, many, chats=True)
    assert instruction.template == "Which label fits the text\n\nText: {text}"
    assert len(instruction.labels) == 61


def test_braces_of_a_text_are_no_placeholders():
    """Values are put in once, whatever they hold."""
    assert fill("{a} {b} {c} {", {"a": "{b}", "b": "x{a}"}) == "{b} x{a} {c} {"


@pytest.mark.parametrize(
    ("answer", "multiple", "labels"),
    [
        (" good\n", False, {"good"}),
        ("Good", False, None),
        ("good bad", False, None),
        ("", False, None),
        ('["bad","good"]', True, {"good", "bad"}),
        ("[]", True, set()),
        ('["ugly"]', True, None),
        ('["good"', True, None),
        ('"good"', True, None),
        ("[" * 100_000, True, None),
        ("[[]]", True, None),
    ],
)
def test_labels_are_read_back(answer, multiple, labels):
    """An unknown label, or an answer of another form, is no answer."""
    instruction = make_instruction(Task.TEXT_CLASSIFICATION, Facts(("bad", "good"), multiple), chats=True)
    assert read_labels(answer, instruction) == (None if labels is None else frozenset(labels))


@pytest.mark.parametrize(
    ("answer", "spans"),
    [
        ('[{"text":"Ann Lee","label":"PER"}]', [Span(8, 15, "PER")]),
        ('[{"text":"Ann","label":"PER"},{"text":"Ann","label":"PER"}]', [Span(0, 3, "PER"), Span(8, 11, "PER")]),
        ('[{"text":"Rome","label":"LOC"},{"text":"Ann","label":"X"}]', [Span(19, 23, "LOC"), Span(0, 3, "X")]),
        ('[{"text":"Bob","label":"PER"}]', [Span(-1, -1, "PER")]),
        ("[]", []),
        ("Ann", []),
        ('["Ann"]', []),
        ('[{"text":"","label":"PER"}]', []),
        ('[{"text":"Ann"}]', []),
        ("[" * 100_000, []),
    ],
)
def test_entities_are_found_in_the_text(answer, spans):
    """In the order of the text; what does not stand there has no place, what is no list names nothing."""
    assert read_entities(answer, SENTENCE.text) == spans


def test_a_right_answer_gives_back_the_spans():
    """The answer that is learnt is read as the spans of the data set."""
    asked = ask(make_instruction(Task.TOKEN_CLASSIFICATION, KINDS, chats=True), SENTENCE)
    assert tuple(read_entities(asked.answer, SENTENCE.text)) == SENTENCE.spans
    assert json.loads(asked.reference) == {"text": SENTENCE.text, "answer": asked.answer}
