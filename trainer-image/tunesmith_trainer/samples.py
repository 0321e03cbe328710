"""Evaluation rows as people read them, for trying the model out."""

from tunesmith_api.reports import Sample, Turn
from tunesmith_trainer.examples import USER, Conversation, Example, Labeled, Pair, PlainText, Question
from tunesmith_trainer.instructions import Instruction, ask


def sample_of(example: Example, instruction: Instruction | None = None) -> Sample | None:
    """What is asked, by the task's instruction where it has one, and what the data set answers.

    None of plain text, and of what has tools, which no endpoint takes.
    """
    if instruction is not None:
        example = ask(instruction, example).conversation()
    if isinstance(example, PlainText) or (isinstance(example, Conversation) and example.has_tools):
        return None
    if isinstance(example, Conversation):
        turns = [Turn(role=turn.role, content=turn.content) for turn in example.turns]
        return Sample(messages=turns[:-1], reference=turns[-1].content)
    asked, answer = _asked(example)
    return Sample(messages=[Turn(role=USER, content=asked)], reference=answer)


def _asked(example: Example) -> tuple[str, str]:
    if isinstance(example, Labeled):
        return example.text, ", ".join(example.labels)
    if isinstance(example, Question):
        return f"{example.context}\n\n{example.question}", example.answers[0].text if example.answers else ""
    if isinstance(example, Pair):
        return example.source, example.target
    assert not isinstance(example, Conversation | PlainText)
    return example.text, "; ".join(f"{span.label}: {example.text[span.start : span.end]}" for span in example.spans)
