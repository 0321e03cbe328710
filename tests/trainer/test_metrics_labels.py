"""Metrics of labels agree with seqeval and with figures worked out by hand."""

import random

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from tunesmith_trainer.metrics_labels import ALL, accuracy, class_scores, confusion, entity_scores, macro_f1

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def sets(*places):
    """One class per row."""
    return [frozenset({place}) for place in places]


def test_scores_of_classes_are_those_of_the_definition():
    """Of a: 2 wanted, 3 said, 2 right; of b: 2 wanted, 1 said, 1 right; c is never wanted nor said."""
    found, wanted = sets(0, 0, 0, 1), sets(0, 0, 1, 1)
    classes = class_scores(found, wanted, ["a", "b", "c"])
    assert [(one.label, one.support) for one in classes] == [("a", 2), ("b", 2), ("c", 0)]
    assert [one.precision for one in classes] == pytest.approx([2 / 3, 1, 0])
    assert [one.recall for one in classes] == pytest.approx([1, 0.5, 0])
    assert [one.f1 for one in classes] == pytest.approx([0.8, 2 / 3, 0])
    assert macro_f1(classes) == pytest.approx((0.8 + 2 / 3) / 3)
    assert accuracy(found, wanted) == 0.75


def test_a_set_of_labels_is_right_only_as_a_whole():
    """One class too few makes the row wrong, while the classes that are right still count for themselves."""
    found, wanted = [frozenset({0}), frozenset()], [frozenset({0, 1}), frozenset()]
    assert accuracy(found, wanted) == 0.5
    assert [one.recall for one in class_scores(found, wanted, ["a", "b"])] == [1, 0]


def test_the_confusion_matrix_has_a_row_for_each_right_class():
    """One row of class 0 was taken for class 1."""
    assert confusion([0, 1, 1], [0, 0, 1], 2) == [[1, 1], [0, 1]]


@pytest.mark.parametrize("seed", range(30))
def test_entities_are_those_of_seqeval(seed):
    """Random tags, broken sequences among them, give seqeval's precision, recall and F1."""
    draw = random.Random(seed)
    wanted = [draw.choices(TAGS, k=draw.randint(1, 12)) for _ in range(20)]
    found = [[tag if draw.random() < 0.7 else draw.choice(TAGS) for tag in row] for row in wanted]
    whole = entity_scores(found, wanted)[-1]
    assert whole.label == ALL
    theirs = [score(wanted, found, zero_division=0) for score in (precision_score, recall_score, f1_score)]
    assert [whole.precision, whole.recall, whole.f1] == pytest.approx(theirs)


def test_each_type_of_entity_has_its_own_scores():
    """A person that is found with the wrong end counts against persons, not against places."""
    wanted = [["B-PER", "I-PER", "O", "B-LOC"]]
    person, place = sorted(entity_scores([["B-PER", "O", "O", "B-LOC"]], wanted)[:-1], key=lambda one: one.f1)
    assert (person.label, person.f1, person.support) == ("PER", 0, 1)
    assert (place.label, place.f1) == ("LOC", 1)


def test_no_entity_at_all_scores_nothing():
    """Rows without entities give 0 and no error."""
    assert [one.f1 for one in entity_scores([["O"]], [["O"]])] == [0]
