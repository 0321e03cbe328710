"""Write `train.jsonl` and `test.jsonl` of the small scenario examples, all about the same household.

python examples/make_scenarios.py
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "home-assistant"))

from make_data import ACTIONS, CLOSINGS, OPENINGS, ROOMS, Action, said  # noqa: E402 - found by the line above

SEED = 11
TRAIN_ROWS = 600
TEST_ROWS = 60

Row = dict[str, Any]

#: The class of a command by its device.
CLASSES = {
    "lighting": ("lamp", "light"),
    "climate": ("fan", "heater", "air conditioner", "thermostat"),
    "media": ("radio", "tv", "speaker"),
    "access": ("blinds", "curtains", "window", "garage door"),
}
#: German with umlauts spelt out: article and noun of each device, article and noun of each room after "in".
DEVICES = {
    "lamp": "die lampe",
    "light": "das licht",
    "fan": "den ventilator",
    "heater": "die heizung",
    "radio": "das radio",
    "tv": "den fernseher",
    "speaker": "den lautsprecher",
    "oven": "den ofen",
    "washing machine": "die waschmaschine",
    "alarm": "den alarm",
}
PLACES = {
    "kitchen": "der kueche",
    "bedroom": "dem schlafzimmer",
    "bathroom": "dem bad",
    "office": "dem buero",
    "hallway": "dem flur",
    "basement": "dem keller",
    "attic": "dem dachboden",
}
VERBS = {
    "turn on {device} {place}": "schalte {device} {place} ein",
    "turn off {device} {place}": "schalte {device} {place} aus",
    "check {device} {place}": "pruefe {device} {place}",
}
POLITE = {"": "", "please ": "bitte "}
HASTE = {"": "", " now": " jetzt"}
THINGS = ("lamp", "radio", "fan", "heater", "ladder", "broom", "bucket", "toolbox")
KEYS = ("C", "G", "D", "F", "Am", "Em")
SCALE = "CDEFGABcdefgab"


def command(rng: random.Random) -> tuple[Action, str, str, str, str]:
    """A spoken command: its action, device, room, spoken value (or nothing) and words."""
    action = rng.choice(ACTIONS)
    device, room = rng.choice(action.devices), rng.choice(ROOMS)
    value = said(rng.choice(list(action.values)), rng) if action.values is not None else ""
    sentence = rng.choice(action.phrasings).format(device=device, where=f"in the {room}", value=value)
    return action, device, room, value, rng.choice(OPENINGS) + sentence + rng.choice(CLOSINGS)


def log_line(rng: random.Random) -> Row:
    """Domain adaptation: a line of the household's log."""
    action, device, room, value, _ = command(rng)
    setting = f" = {value}" if value else ""
    at = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}"
    return {"text": f"[{at}] {room}/{device}: {action.name}{setting}; by {rng.choice(('voice', 'app', 'timer'))}; ok"}


def labelled(rng: random.Random) -> Row:
    """Text classification: what a command is about."""
    _, device, _, _, words = command(rng)
    label = next(name for name, devices in CLASSES.items() if device in devices)
    return {"text": words, "label": label}


def tagged(rng: random.Random) -> Row:
    """Named entities: device, room and value by their characters."""
    _, device, room, value, words = command(rng)
    named = (("DEVICE", f"the {device}", device), ("ROOM", f"in the {room}", room), ("VALUE", value, value))
    spans = []
    for label, around, text in named:
        if text:
            start = words.index(around) + len(around) - len(text)
            spans.append({"start": start, "end": start + len(text), "label": label})
    return {"text": words, "spans": sorted(spans, key=lambda span: span["start"])}


def pair(rng: random.Random) -> Row:
    """Translation: English to German."""
    english, german = rng.choice(list(VERBS.items()))
    device, room = rng.choice(list(DEVICES)), rng.choice(list(PLACES))
    polite, haste = rng.choice(list(POLITE)), rng.choice(list(HASTE))
    source = english.format(device=f"the {device}", place=f"in the {room}")
    target = german.format(device=DEVICES[device], place=f"in {PLACES[room]}")
    return {"source": polite + source + haste, "target": POLITE[polite] + target + HASTE[haste]}


def question(rng: random.Random) -> Row:
    """Question answering: where a thing is, by a passage that says it."""
    things, rooms = rng.sample(THINGS, 3), rng.sample(ROOMS, 3)
    context = " ".join(f"the {thing} is in the {room}." for thing, room in zip(things, rooms, strict=True))
    asked = rng.randrange(3)
    answer = rooms[asked]
    start = context.index(f"the {things[asked]} is in the ") + len(f"the {things[asked]} is in the ")
    answers = {"text": [answer], "answer_start": [start]}
    return {"context": context, "question": f"where is the {things[asked]}?", "answers": answers}


def tune(rng: random.Random) -> Row:
    """Creative notation: a four-bar melody in ABC, six quavers to the bar, that moves by small steps."""
    place = rng.randrange(3, 10)
    bars = []
    for _ in range(4):
        notes = ""
        for _ in range(6):
            place = min(max(place + rng.choice((-2, -1, -1, 1, 1, 2)), 0), len(SCALE) - 1)
            notes += SCALE[place]
        bars.append(f"{notes[:3]} {notes[3:]}")
    key, number = rng.choice(KEYS), rng.randrange(1, 1000)
    return {"text": f"X:{number}\nT:jig {number}\nM:6/8\nL:1/8\nK:{key}\n|:{'|'.join(bars)}:|"}


def drawing(rng: random.Random) -> Row:
    """Creative drawing: an icon of two shapes in SVG."""
    shapes = (
        f'<circle cx="{rng.randrange(3, 7)}" cy="{rng.randrange(3, 7)}" r="{rng.randrange(1, 4)}"/>',
        f'<rect x="{rng.randrange(5)}" y="{rng.randrange(5)}" width="{rng.randrange(1, 6)}" height="4"/>',
        f'<path d="M{rng.randrange(10)} {rng.randrange(10)}L{rng.randrange(10)} {rng.randrange(10)}"/>',
    )
    return {"text": f'<svg viewBox="0 0 9 9">{"".join(rng.sample(shapes, 2))}</svg>'}


SCENARIOS: dict[str, Callable[[random.Random], Row]] = {
    "domain-adaptation": log_line,
    "text-classification": labelled,
    "named-entities": tagged,
    "translation": pair,
    "question-answering": question,
    "creative-notation": tune,
    "creative-drawing": drawing,
}


def unique(make: Callable[[random.Random], Row], rng: random.Random) -> Iterator[str]:
    """Endless rows as lines, none of them twice."""
    seen: set[str] = set()
    while True:
        line = json.dumps(make(rng), separators=(",", ":"))
        if line not in seen:
            seen.add(line)
            yield line


def files(scenario: str, *, train: int = TRAIN_ROWS, test: int = TEST_ROWS) -> dict[str, str]:
    """The text of a scenario's files by name."""
    rng = random.Random(f"{SEED}/{scenario}")
    lines = unique(SCENARIOS[scenario], rng)
    sizes = {"train.jsonl": train, "test.jsonl": test}
    return {name: "".join(next(lines) + "\n" for _ in range(rows)) for name, rows in sizes.items()}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    out = parser.parse_args().out
    for scenario in SCENARIOS:
        for name, text in files(scenario).items():
            (out / scenario / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
