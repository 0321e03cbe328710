"""Scores of generated answers: a row per task, from answers and references to what `Measured` says of a model."""

import json
from collections import Counter
from collections.abc import Callable, Sequence

from tunesmith_api.enums import Task
from tunesmith_api.finetunejob import Scores
from tunesmith_trainer.instructions import UNANSWERABLE, Instruction, read_entities, read_labels
from tunesmith_trainer.metrics_labels import Entity, accuracy, class_scores, confusion, macro_f1, scores_by_type
from tunesmith_trainer.metrics_text import (
    bleu,
    chrf,
    exact_match,
    rouge_l,
    squad_exact_match,
    squad_f1,
    squad_normalise,
)
from tunesmith_trainer.recipe import Measured

#: What is measured of answers, given their references in the same order.
Judge = Callable[[Sequence[str], Sequence[str]], Measured]
#: The same, told what was asked; None for tasks without an instruction.
Score = Callable[[Sequence[str], Sequence[str], Instruction | None], Measured]
#: The column of a confusion matrix for answers that name no class.
UNREADABLE = "(unreadable)"


def free_text(answers: Sequence[str], references: Sequence[str], _instruction: Instruction | None = None) -> Measured:
    """Exact match and ROUGE-L."""
    return Measured(Scores(exact_match=exact_match(answers, references), rouge_l=rouge_l(answers, references)))


def _questions(answers: Sequence[str], references: Sequence[str], _instruction: Instruction | None) -> Measured:
    known = [_unless_unanswerable(json.loads(reference)) for reference in references]
    said = _unless_unanswerable(answers)
    return Measured(Scores(exact_match=squad_exact_match(said, known), f1=squad_f1(said, known)))


def _unless_unanswerable(answers: Sequence[str]) -> list[str]:
    """No text in the place of the word for no answer, which is the reference of rows that are prompts already."""
    return ["" if squad_normalise(answer) == UNANSWERABLE else answer for answer in answers]


def _classes(answers: Sequence[str], references: Sequence[str], instruction: Instruction | None) -> Measured:
    """Over all classes of the training rows; an answer that cannot be read is wrong and names no class."""
    assert instruction is not None
    labels = instruction.labels
    place_of = {label: place for place, label in enumerate(labels)}
    wanted = [frozenset(place_of[label] for label in json.loads(reference)) for reference in references]
    read = [read_labels(answer, instruction) for answer in answers]
    found = [None if named is None else frozenset(place_of[label] for label in named) for named in read]
    classes = class_scores([places or frozenset() for places in found], wanted, labels)
    scores = Scores(accuracy=accuracy(found, wanted), macro_f1=macro_f1(classes))
    if instruction.multiple:
        return Measured(scores, classes)
    pairs = ([min(places) if places else len(labels) for places in found], [min(places) for places in wanted])
    counts = confusion(*pairs, len(labels) + 1)[: len(labels)]
    return Measured(scores, classes, counts, (*labels, UNREADABLE))


def _entities(answers: Sequence[str], references: Sequence[str], instruction: Instruction | None) -> Measured:
    """As seqeval has it; the reference is read as an answer is, so that it scores 1.

    Types that a model invents have no scores of their own: they count in those of all.
    """
    rows = [json.loads(reference) for reference in references]
    found = _listed(answers, [row["text"] for row in rows])
    wanted = _listed([row["answer"] for row in rows], [row["text"] for row in rows])
    known = {entity.type for entity in wanted}.union(instruction.labels if instruction else ())
    seen = {entity.type for entity in found | wanted}
    classes = scores_by_type(found, wanted, known & seen)
    whole = classes[-1]
    scores = Scores(entity_precision=whole.precision, entity_recall=whole.recall, entity_f1=whole.f1)
    return Measured(scores, classes)


def _listed(answers: Sequence[str], texts: Sequence[str]) -> Counter[Entity]:
    """The entities that answers list, as characters of the texts."""
    return Counter(
        Entity(row, span.start, span.end, span.label)
        for row, (answer, text) in enumerate(zip(answers, texts, strict=True))
        for span in read_entities(answer, text)
    )


def _translations(answers: Sequence[str], references: Sequence[str], _instruction: Instruction | None) -> Measured:
    known = [[reference] for reference in references]
    return Measured(Scores(bleu=bleu(answers, known), chrf=chrf(answers, known)))


SCORES: dict[Task, Score] = {
    Task.CHAT: free_text,
    Task.TEXT_GENERATION: free_text,
    Task.QUESTION_ANSWERING: _questions,
    Task.TEXT_CLASSIFICATION: _classes,
    Task.TOKEN_CLASSIFICATION: _entities,
    Task.TRANSLATION: _translations,
}


def judge_of(task: Task, instruction: Instruction | None) -> Judge:
    """What measures the answers of a task."""
    return lambda answers, references: SCORES[task](answers, references, instruction)
