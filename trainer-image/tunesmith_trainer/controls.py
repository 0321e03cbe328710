"""Control tokens in the texts of rows: a tokenizer reads `<|end|>` that somebody typed as the token itself."""

import re
from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.examples import Conversation, Example, Pair, Question
from tunesmith_trainer.marian_tokenizer import SPECIAL, is_marian
from tunesmith_trainer.workspace import read_json


def control_tokens(model_path: Path) -> re.Pattern[str] | None:
    """What finds a control token of a model's tokenizer in a text; None where it has none."""
    names = sorted(SPECIAL if is_marian(model_path) else _special_tokens(model_path), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names))) if names else None


def _special_tokens(model_path: Path) -> list[str]:
    added = (read_json(model_path / "tokenizer.json") or {}).get("added_tokens") or ()
    return [str(token["content"]) for token in added if token.get("special")]


def find_control(controls: re.Pattern[str] | None, example: Example) -> str:
    """The first control token in an example's texts; empty where there is none."""
    if controls is None:
        return ""
    found = (controls.search(text) for text in _texts(example))
    return next((match.group() for match in found if match is not None), "")


def _texts(example: Example) -> Iterator[str]:
    if isinstance(example, Conversation):
        yield from (turn.content for turn in example.turns)
    elif isinstance(example, Question):
        yield from (example.context, example.question)
    elif isinstance(example, Pair):
        yield from (example.source, example.target)
    else:
        yield example.text
