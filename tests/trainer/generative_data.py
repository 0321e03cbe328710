"""Small data sets for causal models, of words that tiny-phi3 knows: one per task, made from a seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KINDS = {"light": ("lamp", "light", "window"), "warmth": ("heater", "fan", "oven"), "sound": ("radio", "tv", "phone")}
PEOPLE = ("anna", "omar", "lucy", "peter", "maria", "ivan", "sofia", "david", "emma")
CITIES = ("paris", "london", "berlin", "madrid", "rome", "oslo", "lisbon", "vienna")
ROOMS = ("kitchen", "bedroom", "office", "garage", "garden", "attic")
THINGS = ("lamp", "radio", "phone", "ticket", "coat", "ball", "camera")
VERBS = ("bring", "find", "take", "show", "move", "call", "check", "read", "keep", "give", "ask", "change")
NOTES = "CDEFGABcdefg"
SHAPES = ('<circle r="{}"/>', '<rect x="{}"/>', '<line y="{}"/>')


def classes(draw: random.Random) -> dict[str, Any]:
    """A wish and what kind of device it is about."""
    kind = draw.choice(list(KINDS))
    return {"text": f"{draw.choice(VERBS)} the {draw.choice(KINDS[kind])} in the {draw.choice(ROOMS)}", "label": kind}


def several_classes(draw: random.Random) -> dict[str, Any]:
    """A wish about neither, one or both of two kinds of devices."""
    kinds = draw.choice(([], ["light"], ["sound"], ["light", "sound"]))
    things = " and ".join(draw.choice(KINDS[kind]) for kind in kinds) or "coat"
    return {"text": f"{draw.choice(VERBS)} the {things} in the {draw.choice(ROOMS)}", "labels": kinds}


def entities(draw: random.Random) -> dict[str, Any]:
    """A sentence with a person and a city, as words with tags."""
    words = [draw.choice(VERBS), draw.choice(PEOPLE), "in", draw.choice(CITIES)]
    return {"tokens": words, "tags": ["O", "B-PER", "O", "B-LOC"]}


def questions(draw: random.Random) -> dict[str, Any]:
    """Two things in two rooms, and the question where one of them is."""
    things, rooms = draw.sample(THINGS, 2), draw.sample(ROOMS, 2)
    context = ". ".join(f"the {thing} is in the {room}" for thing, room in zip(things, rooms, strict=True))
    asked = draw.randrange(2)
    answer = {"text": rooms[asked], "answer_start": context.index(rooms[asked])}
    return {"context": context, "question": f"where is the {things[asked]}", "answers": [answer]}


def open_questions(draw: random.Random) -> dict[str, Any]:
    """The same, or who has one of the things, which the passage does not say."""
    row = questions(draw)
    if draw.randrange(2):
        return row
    return row | {"question": row["question"].replace("where is", "who has"), "answers": []}


def translations(draw: random.Random) -> dict[str, Any]:
    """A sentence, and the same in a language that has the thing first and the verb last."""
    verb, thing, room = draw.choice(VERBS), draw.choice(THINGS), draw.choice(ROOMS)
    return {"source": f"{verb} the {thing} in the {room}", "target": f"{thing} at {room} to {verb}"}


def tunes(draw: random.Random) -> dict[str, Any]:
    """A tune of four bars of four quarters."""
    bars = ["".join(draw.choices(NOTES, k=4)) for _ in range(4)]
    return {"text": f"X:1\nT:a\nM:4/4\nL:1/4\nK:C\n{'|'.join(bars)}|]"}


def drawings(draw: random.Random) -> dict[str, Any]:
    """An SVG drawing of three shapes."""
    shapes = [draw.choice(SHAPES).format(draw.randint(1, 9)) for _ in range(3)]
    return {"text": f"<svg>{''.join(shapes)}</svg>"}


@dataclass(frozen=True)
class Case:
    """What a task learns: its rows, and what tuning must bring.

    Attributes:
        task: the task.
        rows: makes a row.
        metric: what is compared.
        least: the least value after tuning.
        most_before: the greatest value before it.
        notation: of which the generations must be.
        classes: what has scores of its own in the report.
        confusion: whether there is a picture of what was taken for what.
    """

    task: str
    rows: Callable[[random.Random], dict[str, Any]]
    metric: str
    least: float
    most_before: float = 0.3
    notation: str | None = None
    classes: tuple[str, ...] = ()
    confusion: bool = False

    def split(self, train: int, held_out: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Training rows, and others to measure on; no row is there twice."""
        draw = random.Random(1)
        rows: dict[str, dict[str, Any]] = {}
        while len(rows) < train + held_out:
            row = self.rows(draw)
            rows[repr(row)] = row
        found = list(rows.values())
        return found[:train], found[train:]


CASES: dict[str, Case] = {
    "classes": Case("TextClassification", classes, "accuracy", 0.8, classes=tuple(sorted(KINDS)), confusion=True),
    "several classes": Case("TextClassification", several_classes, "accuracy", 0.4, classes=("light", "sound")),
    "entities": Case("TokenClassification", entities, "entity_f1", 0.8, classes=("LOC", "PER", "all")),
    "questions": Case("QuestionAnswering", questions, "f1", 0.6),
    "open questions": Case("QuestionAnswering", open_questions, "exact_match", 0.78),
    "translations": Case("Translation", translations, "bleu", 60, 20),
    "tunes": Case("TextGeneration", tunes, "parse_rate", 0.8, notation="ABC"),
    "drawings": Case("TextGeneration", drawings, "parse_rate", 0.8, notation="SVG"),
}
