"""The little world of the tiny encoders: who works where, and what customers complain of. Seeded, made up, lower case.

The rows of the three tasks are what the tests tune on; `texts` is what the encoders are pre-trained on.
"""

import random
from collections.abc import Iterator
from typing import Any

FIRST = ("anna", "ben", "clara", "david", "emma", "felix", "greta", "henry", "ida", "jonas", "karla", "leon")
LAST = ("weber", "novak", "rossi", "silva", "olsen", "dubois", "tanaka", "okafor")
CITIES = ("paris", "rome", "oslo", "new york", "cape town", "lisbon", "kyoto", "lima")
COMPANIES = ("acme", "globex", "initech", "umbra labs", "stark steel", "blue harbor", "vandelay", "hooli")

#: Fact, the question that asks for each of its slots, and the facts' words.
FACTS = {
    "city": ("{person} lives in {city}", "where does {person} live ?"),
    "company": ("{person} works for {company}", "which company does {person} work for ?"),
    "friend": ("{person} plays chess with {friend}", "who plays chess with {person} ?"),
}

TOPICS = {
    "billing": ("the invoice is wrong", "i was charged twice", "please send me a receipt", "the price went up"),
    "delivery": ("the parcel never came", "the courier is late", "the box arrived broken", "where is my package"),
    "technical": ("the app crashes at start", "the screen stays black", "the update failed", "it shows an error"),
    "account": ("i forgot my password", "my login is locked", "please change my email", "delete my profile"),
}
OPENINGS = ("hello", "hi there", "good morning", "dear team", "so", "well", "once more")
CLOSINGS = ("thanks", "please help", "this is urgent", "best regards", "what can i do ?", "i am waiting")


def _person(draw: random.Random) -> str:
    return f"{draw.choice(FIRST)} {draw.choice(LAST)}" if draw.random() < 0.5 else draw.choice(FIRST)


def _slots(draw: random.Random) -> dict[str, str]:
    return {"city": draw.choice(CITIES), "company": draw.choice(COMPANIES), "friend": _person(draw)}


def ticket(draw: random.Random, topics: tuple[str, ...]) -> str:
    """A customer's message about some topics."""
    parts = [draw.choice(OPENINGS), *(draw.choice(TOPICS[topic]) for topic in topics), draw.choice(CLOSINGS)]
    return " , ".join(parts)


def labeled_rows(seed: int, count: int, *, multiple: bool = False) -> list[dict[str, Any]]:
    """Tickets with their topic, or with the list of their topics (none to all)."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        if multiple:
            topics = tuple(topic for topic in TOPICS if draw.random() < 0.4)
            rows.append({"text": ticket(draw, topics), "labels": list(topics)})
        else:
            topic = draw.choice(tuple(TOPICS))
            rows.append({"text": ticket(draw, (topic,)), "label": topic})
    return rows


_ENTITIES = {"person": "PER", "friend": "PER", "city": "LOC", "company": "ORG"}


def tagged_rows(seed: int, count: int) -> list[dict[str, Any]]:
    """Facts as words with tags: PER, LOC, ORG."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens, tags = [], []
        for pattern in draw.sample([fact for fact, _ in FACTS.values()], 2):
            slots = {"person": _person(draw), **_slots(draw)}
            for word in [*pattern.split(), "."]:
                name = word.strip("{}")
                words = slots[name].split() if word != name else [word]
                kind = _ENTITIES[name] if word != name else ""
                tokens += words
                tags += [f"{'B' if place == 0 else 'I'}-{kind}" if kind else "O" for place in range(len(words))]
        rows.append({"tokens": tokens, "ner_tags": tags})
    return rows


def passage(draw: random.Random, people: int) -> tuple[str, list[tuple[str, str, str]]]:
    """Facts about people in one text; for each fact its kind, its person and its answer."""
    names = draw.sample(FIRST, people)
    facts, sentences = [], []
    for name in names:
        slots = _slots(draw)
        kind = draw.choice(tuple(FACTS))
        person = f"{name} {draw.choice(LAST)}" if draw.random() < 0.3 else name
        sentences.append(FACTS[kind][0].format(person=person, **slots) + " .")
        facts.append((kind, person, slots[kind]))
    return " ".join(sentences), facts


def question_rows(seed: int, count: int, *, people: int = 3, unanswerable: float = 0.0) -> list[dict[str, Any]]:
    """Questions about a passage, in SQuAD's layout; some share asks for what the passage does not say."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        context, facts = passage(draw, people)
        kind, person, answer = draw.choice(facts)
        answers = {"text": [answer], "answer_start": [_start(context, kind, person, answer)]}
        if draw.random() < unanswerable:
            known = {name.split()[0] for _, name, _ in facts}
            person = draw.choice([name for name in FIRST if name not in known])
            answers = {"text": [], "answer_start": []}
        question = FACTS[kind][1].format(person=person)
        rows.append({"id": str(number), "context": context, "question": question, "answers": answers})
    return rows


def _start(context: str, kind: str, person: str, answer: str) -> int:
    """Where the answer stands: right after the words that lead to it, since a name may stand elsewhere too."""
    lead = FACTS[kind][0].format(person=person, city="", company="", friend="")
    return context.index(lead + answer) + len(lead)


def pairs(seed: int) -> Iterator[tuple[str, str, bool]]:
    """Endless pre-training pairs: a statement or a ticket, a text, and whether the one follows from the other."""
    draw = random.Random(seed)
    while True:
        if draw.random() < 0.3:
            topics = draw.choices(tuple(TOPICS), k=2)
            yield ticket(draw, (topics[0],)), ticket(draw, (topics[1],)), topics[0] == topics[1]
            continue
        context, facts = passage(draw, draw.randint(1, 4))
        related = draw.random() < 0.7
        kind, person, answer = draw.choice(facts if related else passage(draw, 4)[1])
        statement = FACTS[kind][0].format(person=person, city=answer, company=answer, friend=answer)
        question = FACTS[kind][1].format(person=person)
        yield draw.choice((f"{statement} .", f"{question} {answer}", question)), context, related
