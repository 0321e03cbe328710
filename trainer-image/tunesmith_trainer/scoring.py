"""Scores of generated answers: a row per task, from answers and references to the metrics of `Scores`."""

import json
from collections import Counter
from collections.abc import Callable, Sequence

from tunesmith_api.enums import Metric, Task
from tunesmith_trainer.instructions import UNANSWERABLE, Instruction, read_entities, read_labels
from tunesmith_trainer.metrics_text import (
    bleu,
    chrf,
    exact_match,
    mean,
    rouge_l,
    squad_exact_match,
    squad_f1,
    squad_normalise,
)

#: Values by metric.
Values = dict[Metric, float]
#: The metrics of answers, given their references in the same order.
Judge = Callable[[Sequence[str], Sequence[str]], Values]
#: The same, told what was asked; None for tasks without an instruction.
Score = Callable[[Sequence[str], Sequence[str], Instruction | None], Values]


def free_text(answers: Sequence[str], references: Sequence[str], _instruction: Instruction | None = None) -> Values:
    """Exact match and ROUGE-L."""
    return {Metric.EXACT_MATCH: exact_match(answers, references), Metric.ROUGE_L: rouge_l(answers, references)}


def _questions(answers: Sequence[str], references: Sequence[str], _instruction: Instruction | None) -> Values:
    known: list[list[str]] = [json.loads(reference) for reference in references]
    said = ["" if squad_normalise(answer) == UNANSWERABLE else answer for answer in answers]
    return {Metric.EXACT_MATCH: squad_exact_match(said, known), Metric.F1: squad_f1(said, known)}


def _classes(answers: Sequence[str], references: Sequence[str], instruction: Instruction | None) -> Values:
    assert instruction is not None
    wanted = [frozenset(json.loads(reference)) for reference in references]
    found = [read_labels(answer, instruction) for answer in answers]
    counted = [labels or frozenset() for labels in found]
    f1 = [class_f1(label, counted, wanted) for label in sorted(frozenset().union(*wanted, *counted))]
    return {
        Metric.ACCURACY: mean([labels == right for labels, right in zip(found, wanted, strict=True)]),
        Metric.MACRO_F1: mean(f1),
    }


def class_f1(label: str, found: Sequence[frozenset[str]], wanted: Sequence[frozenset[str]]) -> float:
    """F1 of one class, over rows that may have any number of classes."""
    both = sum(label in one and label in other for one, other in zip(found, wanted, strict=True))
    total = sum(label in one for one in found) + sum(label in one for one in wanted)
    return 2 * both / total if total else 0.0


def _entities(answers: Sequence[str], references: Sequence[str], _instruction: Instruction | None) -> Values:
    """Over all rows together, as seqeval has it; the reference is read as an answer is, so that it scores 1."""
    right = found = wanted = 0
    for answer, reference in zip(answers, references, strict=True):
        row = json.loads(reference)
        mine, theirs = (Counter(read_entities(text, row["text"])) for text in (answer, row["answer"]))
        right, found, wanted = right + (mine & theirs).total(), found + mine.total(), wanted + theirs.total()
    return {
        Metric.ENTITY_PRECISION: right / found if found else 0.0,
        Metric.ENTITY_RECALL: right / wanted if wanted else 0.0,
        Metric.ENTITY_F1: 2 * right / (found + wanted) if found + wanted else 0.0,
    }


def _translations(answers: Sequence[str], references: Sequence[str], _instruction: Instruction | None) -> Values:
    known = [[reference] for reference in references]
    return {Metric.BLEU: bleu(answers, known), Metric.CHRF: chrf(answers, known)}


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
