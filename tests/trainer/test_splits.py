"""Which files of a folder are which part of the data set, and which folders are classes."""

import pytest

from tunesmith_trainer.splits import Split, of_split, tell, tell_texts

#: Names of files, those to train on, those to measure on.
ROWS = {
    "parts in names": (["train-0.csv", "train-1.csv", "test.csv"], ["train-0.csv", "train-1.csv"], ["test.csv"]),
    "parts in folders": (["en/test/0.csv", "en/train/0.csv"], ["en/train/0.csv"], ["en/test/0.csv"]),
    "the best word": (["dev.csv", "test.csv", "training.csv"], ["training.csv"], ["test.csv"]),
    "the rest is to train on": (["data.csv", "test.csv"], ["data.csv"], ["test.csv"]),
    "the rest is to measure on": (["data.csv", "train.csv"], ["train.csv"], ["data.csv"]),
    "the first word counts": (["test/train.csv", "train/test.csv"], ["train/test.csv"], ["test/train.csv"]),
    "no parts": (
        ["constraints.csv", "latest.csv"],
        ["constraints.csv", "latest.csv"],
        ["constraints.csv", "latest.csv"],
    ),
    "only the other part": (["test.csv"], ["test.csv"], ["test.csv"]),
}


@pytest.mark.parametrize(("names", "train", "evaluation"), ROWS.values(), ids=ROWS)
def test_no_file_of_one_part_is_read_as_the_other(names, train, evaluation):
    """Each part has its own files; where names tell parts apart, none is in both."""
    told = {name: tell(name) for name in names}
    assert (of_split(told, Split.TRAIN), of_split(told, Split.EVALUATION)) == (train, evaluation)


#: Texts to train on and their labels, texts to measure on and theirs (None: the same), texts of neither part.
#: The label "-" is that of a text beside the classes' folders.
TEXTS = {
    "classes": ("neg/1.txt neg pos/1.txt pos", None, ""),
    "parts": ("train/a/1.txt a train/b/1.txt b", "test/a/1.txt a test/b/1.txt b", ""),
    "parts in a folder": ("set/train/a/1.txt a set/train/b/1.txt b", "set/test/a/1.txt a", ""),
    "training alone": ("train/a/1.txt a train/b/1.txt b", None, ""),
    "a text in a part": ("train/a/1.txt a train/x.txt -", "test/a/1.txt a test/x.txt -", ""),
    "a text beside classes": ("a/1.txt a b/1.txt b x.txt -", None, ""),
    "a class named train": ("bus/1.txt bus car/1.txt car train/1.txt train", None, ""),
    "a class named test": ("bus/1.txt bus test/1.txt test", None, ""),
    "more than parts": ("train/a/1.txt a", "test/a/1.txt a", "unsorted/a/1.txt a"),
    "names of texts": ("neg/blood-test.txt neg pos/train.txt pos", None, ""),
    "one class": ("pos/1.txt pos pos/2.txt pos", None, ""),
}


def labels(text):
    """Names and labels as they are written above."""
    words = text.split()
    return {name: "" if label == "-" else label for name, label in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize(("train", "evaluation", "others"), TEXTS.values(), ids=TEXTS)
def test_folders_of_texts_are_parts_or_classes(train, evaluation, others):
    """A folder is a part only where the data are laid out by parts; without any, both parts have every text."""
    parts = {Split.TRAIN: labels(train), Split.EVALUATION: labels(evaluation or train)}
    told = tell_texts(sorted(parts[Split.TRAIN] | parts[Split.EVALUATION] | labels(others)))
    for split, expected in parts.items():
        found = of_split(told, split)
        assert {name: told[name].label for name in found} == expected


@pytest.mark.parametrize("names", [["1.txt", "2.txt"], ["train/1.txt", "test/1.txt"]])
def test_texts_in_no_folder_of_a_class_are_files_of_rows(names):
    """Without folders of classes a file of texts is what it is for any other task: a row per line, without a label."""
    assert {told.label for told in tell_texts(names).values()} == {None}
