"""A small made-up language pair: what the tiny encoder-decoder models know, and a dialect that they can be tuned on.

The language puts adjectives behind nouns; the dialect puts them in front, articles behind, and has other verbs. Every
word of the dialect is a word of the language, so that an adapter can learn it without new embeddings.
"""

import random
from collections.abc import Iterator

NOUNS = dict(
    zip(
        "cat dog bird house tree river stone ship friend king".split(),  # noqa: SIM905 - a list of words
        "kato hunda birro domu arbo fluv petro navo amiku regu".split(),  # noqa: SIM905 - a list of words
        strict=True,
    )
)
ADJECTIVES = {"red": "rozi", "small": "eti", "old": "olni", "green": "verdi"}
ARTICLES = {"the": "la", "a": "un"}
VERBS = {"sees": "vidas", "finds": "trovas", "likes": "amas", "carries": "portas", "hears": "audas", "paints": "farbas"}
ADVERBS = {"": "", "today": "hodi", "never": "nunka"}
#: The verbs of the dialect are those of the language, each in the place of the next.
DIALECT_VERBS = dict(zip(VERBS, [*list(VERBS.values())[1:], next(iter(VERBS.values()))], strict=True))

Noun = tuple[str, str, str]


def pairs(seed: int, *, dialect: bool) -> Iterator[tuple[str, str]]:
    """English sentences and their translations, without end."""
    draw = random.Random(seed)
    while True:
        subject, thing = _noun(draw), _noun(draw)
        verb, adverb = draw.choice(list(VERBS)), draw.choice(list(ADVERBS))
        verbs = DIALECT_VERBS if dialect else VERBS
        phrase = _dialect_phrase if dialect else _phrase
        english = [*subject, verb, *thing, adverb]
        other = [*phrase(subject), verbs[verb], *phrase(thing), ADVERBS[adverb]]
        yield " ".join(filter(None, english)), " ".join(filter(None, other))


def _noun(draw: random.Random) -> Noun:
    adjective = draw.choice(["", *ADJECTIVES])
    return draw.choice(list(ARTICLES)), adjective, draw.choice(list(NOUNS))


def _phrase(noun: Noun) -> list[str]:
    article, adjective, name = noun
    return [ARTICLES[article], NOUNS[name], ADJECTIVES.get(adjective, "")]


def _dialect_phrase(noun: Noun) -> list[str]:
    article, adjective, name = noun
    return [ADJECTIVES.get(adjective, ""), NOUNS[name], ARTICLES[article]]
