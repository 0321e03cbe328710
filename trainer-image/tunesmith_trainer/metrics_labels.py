"""Metrics of labels against the right ones. Pure functions of labels; every share is 0 to 1."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tunesmith_api.reports import ClassScores

#: Label of the scores over all entity types.
ALL = "all"
_OUTSIDE = "O"


@dataclass(frozen=True)
class Entity:
    """Words, or characters, of a row that name something, the end excluded."""

    row: int
    start: int
    end: int
    type: str


def accuracy(found: Sequence[object], wanted: Sequence[object]) -> float:
    """Share of rows whose label, or whose whole set of labels, is right; 0 of nothing."""
    right = sum(mine == theirs for mine, theirs in zip(found, wanted, strict=True))
    return right / len(wanted) if wanted else 0.0


def macro_f1(classes: Sequence[ClassScores]) -> float:
    """Mean F1 over the classes; one that is never wanted and never found counts 0, as in scikit-learn."""
    return sum(one.f1 for one in classes) / len(classes) if classes else 0.0


def class_scores(
    found: Sequence[frozenset[int]], wanted: Sequence[frozenset[int]], labels: Sequence[str]
) -> list[ClassScores]:
    """Precision, recall, F1 and support of each class, in the order of `labels`."""
    hits: Counter[int] = Counter()
    said: Counter[int] = Counter()
    support: Counter[int] = Counter()
    for mine, theirs in zip(found, wanted, strict=True):
        hits.update(mine & theirs)
        said.update(mine)
        support.update(theirs)
    return [_scores(label, hits[place], said[place], support[place]) for place, label in enumerate(labels)]


def _scores(label: str, hits: int, said: int, support: int) -> ClassScores:
    """A share of nothing is 0."""
    return ClassScores(
        label=label,
        precision=hits / said if said else 0.0,
        recall=hits / support if support else 0.0,
        f1=2 * hits / (said + support) if said + support else 0.0,
        support=support,
    )


def confusion(found: Sequence[int], wanted: Sequence[int], count: int) -> list[list[int]]:
    """Rows by right class, columns by found class, `count` of each."""
    pairs = Counter(zip(wanted, found, strict=True))
    return [[pairs[row, column] for column in range(count)] for row in range(count)]


def entities(rows: Iterable[Sequence[str]]) -> Iterator[Entity]:
    """The entities that tags name, as CoNLL's evaluation reads them (Tjong Kim Sang and De Meulder 2003).

    An I- that follows no tag of its type begins an entity too; equal to seqeval's default mode.
    """
    for number, tags in enumerate(rows):
        start, current = 0, _OUTSIDE
        for place, tag in enumerate([*tags, _OUTSIDE]):
            kind = tag[2:] if tag != _OUTSIDE else _OUTSIDE
            if current != _OUTSIDE and (kind != current or tag.startswith("B-")):
                yield Entity(number, start, place, current)
                current = _OUTSIDE
            if kind != _OUTSIDE and current == _OUTSIDE:
                start, current = place, kind


def entity_scores(found: Iterable[Sequence[str]], wanted: Iterable[Sequence[str]]) -> list[ClassScores]:
    """Scores of each entity type in alphabetical order, then of all entities under the label "all" (micro average)."""
    mine, theirs = Counter(entities(found)), Counter(entities(wanted))
    return scores_by_type(mine, theirs, {entity.type for entity in mine | theirs})


def scores_by_type(found: Counter[Entity], wanted: Counter[Entity], types: Iterable[str]) -> list[ClassScores]:
    """Scores of some types in alphabetical order, then of all entities, whatever their type, under the label "all"."""
    hits, said, support = (_by_type(counted) for counted in (found & wanted, found, wanted))
    of_types = [_scores(name, hits[name], said[name], support[name]) for name in sorted(types)]
    return [*of_types, _scores(ALL, hits.total(), said.total(), support.total())]


def _by_type(counted: Counter[Entity]) -> Counter[str]:
    types: Counter[str] = Counter()
    for entity, times in counted.items():
        types[entity.type] += times
    return types
