"""The format SQuAD: a passage, a question, and the answers as they stand in the passage (Rajpurkar et al. 2018)."""

from typing import Any

from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.examples import Answer, Question
from tunesmith_trainer.fields import RowError, checked_text, shown, text_of, unpacked, value_of
from tunesmith_trainer.readers import Row


def squad(row: Row, columns: Columns) -> Question:
    """A row of the nested layout or of the flat one; no answer, or `is_impossible`, is a question without one."""
    context = text_of(row, columns.context or "context")
    question = text_of(row, columns.question or "question")
    if str(row.get(columns.impossible or "is_impossible")).lower() == "true":
        return Question(context, question, ())
    column = columns.answers or "answers"
    entries = _entries(unpacked(value_of(row, column)), column)
    found = [_answer(one, context, f"{column}[{n}]") for n, one in enumerate(entries)]
    return Question(context, question, tuple(dict.fromkeys(found)))


def _entries(value: Any, column: str) -> list[Any]:
    """Answers as objects; the flat layout has a list of texts and one of places."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("text"), list):
        raise RowError(f"{column} is {shown(value)}, not a list of text, answer_start")
    texts, starts = value["text"], value.get("answer_start")
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise RowError(f"{column} has {len(texts)} texts and answer_start {shown(starts)}; each text needs its place")
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _found(text: str, context: str) -> str:
    place = context.find(text)
    return f"it stands at {place}" if place >= 0 else "it stands nowhere in it"


def _answer(entry: Any, context: str, where: str) -> Answer:
    if not isinstance(entry, dict):
        raise RowError(f"{where} is {shown(entry)}, not an object of text, answer_start")
    text, start = checked_text(entry.get("text"), f"{where}.text"), entry.get("answer_start")
    if type(start) is not int:
        raise RowError(f"{where}.answer_start is {shown(start)}, not a whole number")
    if start < 0 or context[start : start + len(text)] != text:
        there = shown(context[max(start, 0) : max(start, 0) + len(text)])
        wrong = f"{where}.answer_start is {start}, where the context has {there}, not {shown(text)}"
        raise RowError(f"{wrong}; {_found(text, context)}")
    return Answer(text, start)
