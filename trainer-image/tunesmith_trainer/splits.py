"""The parts of a data set in a folder, told by the files' paths: `train-0.jsonl`, `test/0.jsonl`, `train/pos/1.txt`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile


class Split(StrEnum):
    """A part of a data set, told by file names."""

    TRAIN = "train"
    EVALUATION = "evaluation"


#: Words in a file's path that name a part, the best one first.
_WORDS: dict[Split, tuple[str, ...]] = {
    Split.TRAIN: ("train", "training"),
    Split.EVALUATION: ("test", "validation", "valid", "val", "dev", "eval", "evaluation"),
}
_ANY = re.compile(rf"(?<![a-z])(?:{'|'.join(word for words in _WORDS.values() for word in words)})(?![a-z])")


@dataclass(frozen=True)
class Told:
    """What a file's path tells.

    Attributes:
        word: the word that names its part; None where none does.
        label: of a text to classify, the folder of its class; empty for one beside those folders; None for other files.
    """

    word: str | None
    label: str | None = None


def tell(name: str) -> Told:
    """What the path of a file of rows tells: the first word counts, so `train/test-drives.csv` is to train on."""
    return Told(_word(name))


def _word(text: str) -> str | None:
    found = _ANY.search(text.lower())
    return found.group() if found else None


def tell_texts(names: Sequence[str]) -> dict[str, Told]:
    """What the paths of texts to classify tell, a text in a file: folders only, since a text may have any name.

    The outermost folders are parts where each of them is called so or has folders in it; else they are classes, one of
    which may be called `train`.
    """
    paths = {name: name.split("/") for name in names}
    level = _level(list(paths.values()))
    #: The outermost folders, and whether each has folders in it.
    folders: dict[str, bool] = {}
    for top, *below in (path[level:] for path in paths.values()):
        if below:
            folders[top] = folders.get(top, False) or len(below) > 1
    only_parts = all(_word(top) for top in folders)
    parts = {top for top, nested in folders.items() if _word(top) and (nested or only_parts)}
    return {name: _tell_text(path, level, folders, parts) for name, path in paths.items()}


def _level(paths: list[list[str]]) -> int:
    """How many folders hold all the texts, before one that names a part."""
    levels = zip(*(path[:-1] for path in paths), strict=False)
    return sum(1 for _ in takewhile(lambda found: len(set(found)) == 1 and _word(found[0]) is None, levels))


def _tell_text(path: list[str], level: int, folders: Mapping[str, bool], parts: set[str]) -> Told:
    top, *below = path[level:]
    if not folders:
        return Told(None, path[-2]) if level else tell(top)
    if not below:
        return Told(None, "")
    if top not in parts:
        return Told(None, path[-2])
    if not folders[top]:
        return Told(_word(top))
    return Told(_word(top), path[-2] if len(below) > 1 else "")


def of_split(told: Mapping[str, Told], split: Split) -> list[str]:
    """The files of one part: those with its best word, else those of no part; all where each is of the other part."""
    for word in _WORDS[split]:
        found = [name for name, known in told.items() if known.word == word]
        if found:
            return found
    return [name for name, known in told.items() if known.word is None] or list(told)
