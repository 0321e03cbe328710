"""Write `train.jsonl` and `test.jsonl`: household commands as people say them, and the action each one means.

python examples/home-assistant/make_data.py
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 20_261_121
TRAIN_ROWS = 500
TEST_ROWS = 200
ROOMS = (
    "kitchen", "bedroom", "bathroom", "office", "hallway", "basement", "attic", "nursery", "living room", "dining room",
)  # fmt: skip
EVERYWHERE = ("everywhere", "in the whole house")
OPENINGS = ("", "", "please ", "hey, ", "could you ", "can you ", "would you ", "i want you to ")
CLOSINGS = ("", "", "", " please", " now", " thanks", " for me")
TENS = {10: "ten", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty"}


@dataclass(frozen=True)
class Action:
    """One action: how it is asked for, of which devices, and the values it takes (`None` when it takes none)."""

    name: str
    phrasings: tuple[str, ...]
    devices: tuple[str, ...]
    values: range | None = None


SWITCHED = ("lamp", "light", "fan", "heater", "radio", "tv", "speaker", "air conditioner")
COVERS = ("blinds", "curtains", "window", "garage door")
ACTIONS = (
    Action(
        "turn_on",
        (
            "turn on the {device} {where}",
            "switch the {device} {where} on",
            "power up the {device} {where}",
            "{where} turn the {device} on",
        ),
        SWITCHED,
    ),
    Action(
        "turn_off",
        (
            "turn off the {device} {where}",
            "switch the {device} {where} off",
            "shut down the {device} {where}",
            "{where} turn the {device} off",
        ),
        SWITCHED,
    ),
    Action(
        "set_brightness",
        (
            "dim the {device} {where} to {value} percent",
            "set the {device} {where} to {value} percent",
            "{where} make the {device} {value} percent bright",
        ),
        ("lamp", "light"),
        range(5, 100),
    ),
    Action(
        "set_temperature",
        (
            "set the {device} {where} to {value} degrees",
            "make it {value} degrees {where} with the {device}",
            "{where} put the {device} at {value} degrees",
        ),
        ("heater", "thermostat", "air conditioner"),
        range(10, 31),
    ),
    Action(
        "set_volume",
        (
            "set the volume of the {device} {where} to {value}",
            "play the {device} {where} at volume {value}",
            "{where} put the {device} at volume {value}",
        ),
        ("radio", "tv", "speaker"),
        range(100),
    ),
    Action("open", ("open the {device} {where}", "{where} open up the {device}", "raise the {device} {where}"), COVERS),
    Action("close", ("close the {device} {where}", "{where} shut the {device}", "lower the {device} {where}"), COVERS),
    Action(
        "get_state",
        ("is the {device} {where} on", "check the {device} {where}", "tell me the state of the {device} {where}"),
        SWITCHED,
    ),
)


def place(rng: random.Random) -> tuple[str, str]:
    """Where, in words, and the `room` of the action."""
    if rng.random() < 0.1:
        return rng.choice(EVERYWHERE), "all"
    room = rng.choice(ROOMS)
    return f"in the {room}", room.replace(" ", "_")


def said(value: int, rng: random.Random) -> str:
    """A number as it is spoken: tens in words half of the time."""
    return TENS[value] if value in TENS and rng.random() < 0.5 else str(value)


def command(rng: random.Random) -> tuple[str, str]:
    """One spoken command and its action as compact JSON."""
    action = rng.choice(ACTIONS)
    device = rng.choice(action.devices)
    where, room = place(rng)
    meaning: dict[str, str | int] = {"action": action.name, "device": device.replace(" ", "_"), "room": room}
    words = {"device": device, "where": where}
    if action.values is not None:
        meaning["value"] = rng.choice([value for value in TENS if value in action.values] * 8 + list(action.values))
        words["value"] = said(int(meaning["value"]), rng)
    sentence = rng.choice(action.phrasings).format(**words)
    return rng.choice(OPENINGS) + sentence + rng.choice(CLOSINGS), json.dumps(meaning, separators=(",", ":"))


def unique_commands(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless commands, none of them twice."""
    seen: set[str] = set()
    while True:
        words, meaning = command(rng)
        if words not in seen:
            seen.add(words)
            yield words, meaning


def row(words: str, meaning: str) -> str:
    """One line in the Messages format."""
    messages = [{"role": "user", "content": words}, {"role": "assistant", "content": meaning}]
    return json.dumps({"messages": messages}, separators=(",", ":"))


def files() -> dict[str, str]:
    """The text of each file by its name."""
    source = unique_commands(random.Random(SEED))
    return {
        name: "".join(row(*next(source)) + "\n" for _ in range(rows))
        for name, rows in (("train.jsonl", TRAIN_ROWS), ("test.jsonl", TEST_ROWS))
    }


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    for name, text in files().items():
        (out / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
