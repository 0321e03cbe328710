"""How a causal model is asked to do a task: one template per task, the same in training, evaluation and serving.

A task's `Instruction` is made once, with what is known of the training rows; its template goes into the model folder as
`task.json`, so that a client builds the very prompt that the model was tuned on: `template.replace("{text}", text)`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith_api.enums import Task
from tunesmith_trainer.examples import ASSISTANT, USER, Conversation, Labeled, Pair, Question, Span, TokenLabeled, Turn

#: The instruction beside the exported model.
TASK_FILE = "task.json"
#: What a model says of a question that its passage does not answer.
UNANSWERABLE = "unanswerable"
#: More classes than these are not listed in every prompt: the model knows them from training.
_LISTED_LABELS = 60
#: What follows the prompt of a model without a chat template; its answer then begins with a blank.
ANSWER_CUE = "\n\nAnswer:"


class Instruction(BaseModel):
    """What a model is asked; written as `task.json` beside the exported model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    """The task."""
    template: str
    """The prompt of one row; {text}, {context} and {question} stand for the row's own."""
    answer: str
    """What the answer looks like, for people."""
    labels: tuple[str, ...] = ()
    """The classes or the types of entities of the training rows, sorted."""
    multiple: bool = False
    """Whether a text may have any number of classes."""
    chats: bool = True
    """Whether the prompt is a user's message; else it is plain text, and the answer begins with a blank."""


@dataclass(frozen=True)
class Facts:
    """What is known of the training rows.

    Attributes:
        labels: names of the classes or of the kinds of entities, sorted.
        multiple: whether a text may have any number of classes.
        source: the language of the texts to translate; empty when it is not known.
        target: the language of their translations.
    """

    labels: tuple[str, ...] = ()
    multiple: bool = False
    source: str = ""
    target: str = ""


@dataclass(frozen=True)
class Asked:
    """One example as a causal model learns it.

    Attributes:
        prompt: what it is asked.
        answer: what it must say.
        reference: what a generated answer is compared with, in the form that the task's metrics read.
    """

    prompt: str
    answer: str
    reference: str

    def conversation(self) -> Conversation:
        """Prompt and answer as turns."""
        return Conversation((Turn(USER, self.prompt), Turn(ASSISTANT, self.answer)))


@dataclass(frozen=True)
class AskedTask:
    """One row of the table.

    Attributes:
        describe: makes the instruction of a job; its template ends where the row's own text does.
        ask: makes prompt and answer of an example.
    """

    describe: Callable[[Facts], Instruction]
    ask: Callable[[Instruction, Any], Asked]


def compact(value: Any) -> str:
    """JSON without blanks, as models write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its placeholders replaced; braces in the values and elsewhere stay as they are."""
    parts = template.split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        name, brace, rest = part.partition("}")
        filled.append(values[name] + rest if brace and name in values else "{" + part)
    return "".join(filled)


def _listed(labels: Sequence[str]) -> str:
    return f": {', '.join(labels)}" if len(labels) <= _LISTED_LABELS else ""


def _describe_classes(facts: Facts) -> Instruction:
    which = (
        "Which of the labels fit the text? Answer with a JSON list" if facts.multiple else "Which label fits the text"
    )
    return Instruction(
        task=Task.TEXT_CLASSIFICATION,
        template=f"{which}{_listed(facts.labels)}\n\nText: {{text}}",
        answer='JSON list of labels, such as ["a","b"]' if facts.multiple else "one label",
        labels=facts.labels,
        multiple=facts.multiple,
    )


def _ask_classes(instruction: Instruction, example: Labeled) -> Asked:
    prompt = fill(instruction.template, {"text": example.text})
    answer = compact(sorted(example.labels)) if instruction.multiple else example.labels[0]
    return Asked(prompt, answer, compact(sorted(example.labels)))


def _describe_entities(facts: Facts) -> Instruction:
    return Instruction(
        task=Task.TOKEN_CLASSIFICATION,
        template=f"List the entities of the text as JSON{_listed(facts.labels)}\n\nText: {{text}}",
        answer='JSON list in the order of the text: [{"text":"Paris","label":"LOC"}]',
        labels=facts.labels,
    )


def _ask_entities(instruction: Instruction, example: TokenLabeled) -> Asked:
    answer = compact([{"text": example.text[span.start : span.end], "label": span.label} for span in example.spans])
    reference = compact({"text": example.text, "answer": answer})
    return Asked(fill(instruction.template, {"text": example.text}), answer, reference)


def _describe_questions(_facts: Facts) -> Instruction:
    ask = f'Answer with words of the text, or "{UNANSWERABLE}".'
    return Instruction(
        task=Task.QUESTION_ANSWERING,
        template=f"{ask}\n\nText: {{context}}\n\nQuestion: {{question}}",
        answer=f"words of the text, or {UNANSWERABLE}",
    )


def _ask_question(instruction: Instruction, example: Question | Conversation) -> Asked:
    """A prompt with its completion is asked as it is: its author has chosen the words."""
    if isinstance(example, Conversation):
        prompt, answer = (turn.content for turn in example.turns)
        return Asked(prompt, answer, compact([answer]))
    prompt = fill(instruction.template, {"context": example.context, "question": example.question})
    known = list(dict.fromkeys(answer.text for answer in example.answers))
    return Asked(prompt, known[0] if known else UNANSWERABLE, compact(known))


def _describe_pairs(facts: Facts) -> Instruction:
    known = f" from {facts.source} to {facts.target}" if facts.source and facts.target else ""
    return Instruction(task=Task.TRANSLATION, template=f"Translate{known}:\n\n{{text}}", answer="the translation")


def _ask_pair(instruction: Instruction, example: Pair) -> Asked:
    return Asked(fill(instruction.template, {"text": example.source}), example.target, example.target)


#: Tasks that a causal model learns by an instruction; Chat and TextGeneration are learnt as their rows are.
ASKED_TASKS: dict[Task, AskedTask] = {
    Task.TEXT_CLASSIFICATION: AskedTask(_describe_classes, _ask_classes),
    Task.TOKEN_CLASSIFICATION: AskedTask(_describe_entities, _ask_entities),
    Task.QUESTION_ANSWERING: AskedTask(_describe_questions, _ask_question),
    Task.TRANSLATION: AskedTask(_describe_pairs, _ask_pair),
}


def make_source_instruction(task: Task, facts: Facts, model_type: str) -> Instruction:
    """The instruction of an encoder-decoder model: T5 knows tasks by a prefix, Marian reads the text alone."""
    described = ASKED_TASKS[task].describe(facts)
    if task is not Task.TRANSLATION:
        return described
    known = f"translate {facts.source} to {facts.target}: " if facts.source and facts.target else ""
    return described.model_copy(update={"template": ("" if model_type == "marian" else known) + "{text}"})


def make_instruction(task: Task, facts: Facts, *, chats: bool) -> Instruction:
    """The instruction of a job; a cue ends the prompts of a model without a chat template."""
    instruction = ASKED_TASKS[task].describe(facts)
    if chats:
        return instruction
    return instruction.model_copy(update={"template": instruction.template + ANSWER_CUE, "chats": False})


def ask(instruction: Instruction, example: Any) -> Asked:
    """Prompt, answer and reference of one example."""
    asked = ASKED_TASKS[instruction.task].ask(instruction, example)
    return asked if instruction.chats else replace(asked, answer=f" {asked.answer}")


def read_labels(answer: str, instruction: Instruction) -> frozenset[str] | None:
    """The classes that an answer names; None when it is not of the form asked for or names one that is not known."""
    text = answer.strip()
    if not instruction.multiple:
        return frozenset({text}) if text in instruction.labels else None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    known = isinstance(found, list) and all(isinstance(one, str) and one in instruction.labels for one in found)
    return frozenset(found) if known else None


def read_entities(answer: str, text: str) -> list[Span]:
    """The entities that an answer lists, as characters of the text; those that do not stand in it begin at -1.

    Each is looked for behind the one before it, then from the start. An answer that is not of the form asked for lists
    none.
    """
    try:
        listed = json.loads(answer)
    except (ValueError, RecursionError):
        return []
    if not isinstance(listed, list) or not all(_is_entity(one) for one in listed):
        return []
    spans: list[Span] = []
    place = 0
    for one in listed:
        start = text.find(one["text"], place)
        start = text.find(one["text"]) if start < 0 else start
        spans.append(Span(start, start + len(one["text"]) if start >= 0 else -1, one["label"]))
        place = max(place, spans[-1].end)
    return spans


def _is_entity(one: Any) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(key), str) and one[key] for key in ("text", "label"))
