"""What the tiny Phi-3 is pre-trained on: made-up chats that teach copying, notation and command sentences.

Nothing here turns a household command into an action: that mapping is left for fine-tuning (`examples/home-assistant`).
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _words("""
    lamp light fan heater thermostat speaker radio television tv blinds curtains window door garage shutter
    oven kettle kitchen bedroom bathroom office hallway basement attic nursery living dining room garden house
    home apple bread milk rice tea coffee soup table chair book pen paper phone camera ticket coat shoe ball
    cup plate paris london berlin madrid rome oslo lisbon vienna station airport market library school museum
    park bank anna omar lucy peter maria chen ivan sofia david emma river mountain forest island bridge road
    train bus car boat
""")
VERBS = _words("""
    turn switch set dim open close lock unlock start stop raise lower make put bring check warm cool brighten
    power shut tell find move change adjust keep leave take give show read write call ask wait walk run
""")
PARTICLES = _words("""
    on off up down to in at from with the a my percent degrees minutes volume brightness temperature level
    timer state is are it everywhere all now please for of and get action device room value
""")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
NUMBER_WORDS = {word: value for value, word in enumerate(ONES)} | {"ten": 10} | TENS
OPENINGS = ("", "", "", "please ", "hey, ", "could you ", "can you ", "i want you to ", "would you ", "now ")
CLOSINGS = ("", "", "", "", " please", " thanks", " now", " for me")
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"


@dataclass(frozen=True)
class Intent:
    """One errand that the model learns to write as JSON: its name, and phrasings whose slots become the fields."""

    name: str
    phrasings: tuple[str, ...]


INTENTS = (
    Intent("buy_item", ("buy {count} {item} at the {shop}", "get {count} {item} from the {shop}")),
    Intent("sell_item", ("sell the {item} for {price}", "ask {price} for the {item}")),
    Intent("book_trip", ("book a trip to {city} on {day}", "on {day} i travel to {city}, book it")),
    Intent("call_person", ("call {person} at {hour}", "at {hour} give {person} a call", "ring {person} at {hour}")),
    Intent("send_note", ("send {person} a note about the {item}", "write to {person} about the {item}")),
    Intent("find_place", ("find the {item} near the {place}", "where near the {place} is the {item}")),
    Intent("move_item", ("move the {item} to the {place}", "in the {place} i want the {item}, move it")),
    Intent("count_items", ("how many {item} are in the {place}", "count the {item} in the {place}")),
    Intent("paint_item", ("paint the {item} {color}", "make the {item} {color}")),
    Intent("plan_day", ("on {day} plan {count} hours for the {item}", "plan the {item} on {day}, {count} hours")),
)
SLOTS = ("count", "price", "hour", "item", "shop", "city", "person", "place", "color", "day")
NUMERIC_SLOTS = frozenset({"count", "price", "hour"})


def pseudo_word(rng: random.Random) -> str:
    """A pronounceable word that means nothing, so that copying it needs no vocabulary."""
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(1, 3)))


def any_word(rng: random.Random) -> str:
    """A known word two times out of three, else an invented one."""
    pool = rng.choice((NOUNS, NOUNS, VERBS, PARTICLES))
    return rng.choice(pool) if rng.random() < 0.67 else pseudo_word(rng)


def noun(rng: random.Random) -> str:
    """A thing: known, invented, or of two words."""
    first = rng.choice(NOUNS) if rng.random() < 0.7 else pseudo_word(rng)
    return f"{first} {rng.choice(NOUNS)}" if rng.random() < 0.15 else first


def number(rng: random.Random) -> tuple[str, int]:
    """A number as it is said (digits or a word) and its value, 0 to 100."""
    if rng.random() < 0.4:
        return rng.choice(tuple(NUMBER_WORDS.items()))
    value = rng.randint(0, 100)
    return str(value), value


def slot(name: str, rng: random.Random) -> tuple[str, str | int]:
    """The words and the JSON value for one slot of an intent."""
    if name in NUMERIC_SLOTS:
        return number(rng)
    words = rng.choice(DAYS) if name == "day" else noun(rng)
    return words, words.replace(" ", "_")


def compact(fields: dict[str, str | int]) -> str:
    """JSON without blanks."""
    return json.dumps(fields, separators=(",", ":"))


def errand(rng: random.Random) -> tuple[str, str]:
    """An errand in spoken style and its JSON."""
    intent = rng.choice(INTENTS)
    phrasing = rng.choice(intent.phrasings)
    names = [name for name in SLOTS if f"{{{name}}}" in phrasing]
    slots = {name: slot(name, rng) for name in names}
    sentence = phrasing.format(**{name: words for name, (words, _) in slots.items()})
    fields: dict[str, str | int] = {"intent": intent.name}
    fields.update((name, value) for name, (_, value) in slots.items())
    return spoken(sentence, rng), compact(fields)


def spoken(sentence: str, rng: random.Random) -> str:
    """The sentence with what people say around it."""
    return rng.choice(OPENINGS) + sentence + rng.choice(CLOSINGS)


def repeat(rng: random.Random) -> tuple[str, str]:
    """Words to say again."""
    words = " ".join(any_word(rng) for _ in range(rng.randint(1, 7)))
    return rng.choice(("say ", "repeat ", "repeat after me: ", "echo ")) + words, words


def record(rng: random.Random) -> tuple[str, str]:
    """Named values to write as JSON."""
    pairs = {}
    for _ in range(rng.randint(1, 4)):
        words, value = number(rng) if rng.random() < 0.3 else slot("item", rng)
        pairs[any_word(rng)] = (words, value)
    listed = " and ".join(f"{key} {words}" for key, (words, _) in pairs.items())
    return f"write json with {listed}", compact({key: value for key, (_, value) in pairs.items()})


def snake_case(rng: random.Random) -> tuple[str, str]:
    """Words to join by underscores."""
    words = [any_word(rng) for _ in range(rng.randint(2, 3))]
    return "join " + " ".join(words), "_".join(words)


def digits(rng: random.Random) -> tuple[str, str]:
    """A number to write in digits."""
    words, value = number(rng)
    return f"write {words} in digits", str(value)


def whereabouts(rng: random.Random) -> tuple[str, str]:
    """A question whose answer stands in the text before it."""
    facts = {noun(rng): noun(rng) for _ in range(rng.randint(1, 3))}
    asked = rng.choice(tuple(facts))
    told = ". ".join(f"the {thing} is in the {place}" for thing, place in facts.items())
    return f"{told}. where is the {asked}?", f"the {asked} is in the {facts[asked]}"


TASKS: tuple[Callable[[random.Random], tuple[str, str]], ...] = (
    errand, errand, errand, record, repeat, snake_case, digits, whereabouts,
)  # fmt: skip


def chats(seed: int) -> Iterator[tuple[str, str]]:
    """Endless (question, answer) pairs, the same for the same seed."""
    rng = random.Random(seed)
    while True:
        yield rng.choice(TASKS)(rng)
