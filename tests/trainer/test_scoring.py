"""Scores of generated answers per task, against values that the reference implementations give."""

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from tunesmith_api.enums import Metric, ModelKind, Task
from tunesmith_api.metrics import measured
from tunesmith_api.tasks import TASKS
from tunesmith_trainer.examples import TokenLabeled
from tunesmith_trainer.instructions import Facts, Instruction, ask, compact, make_instruction
from tunesmith_trainer.scoring import SCORES, UNREADABLE

LABELS = ("a", "b", "c")


def classes(*, multiple=False):
    """An instruction that knows three classes."""
    return Instruction(task=Task.TEXT_CLASSIFICATION, template="", answer="", labels=LABELS, multiple=multiple)


judge_classes = SCORES[Task.TEXT_CLASSIFICATION]
judge_entities = SCORES[Task.TOKEN_CLASSIFICATION]


def values(found):
    """The metrics that were measured, by name."""
    return found.scores.model_dump(exclude_none=True)


def test_every_task_of_causal_models_scores_what_its_row_says():
    """The table of tasks and the scores name the same metrics, but for those of likelihood and notation."""
    elsewhere = {Metric.PERPLEXITY, Metric.TOKEN_ACCURACY, Metric.PARSE_RATE}
    rows = {
        Task.TEXT_CLASSIFICATION: ('["a"]', classes()),
        Task.TOKEN_CLASSIFICATION: (compact({"text": "", "answer": "[]"}), None),
        Task.QUESTION_ANSWERING: ('["a"]', None),
    }
    for task, kinds in TASKS.items():
        reference, instruction = rows.get(task, ("a", None))
        scores = SCORES[task](["a"], [reference], instruction).scores
        assert set(measured(scores)) == set(kinds[ModelKind.CAUSAL].metrics) - elsewhere, task


def test_classes_count_unknown_answers_as_wrong():
    """Four rows, answers a, b, nonsense, c: accuracy 1/2; F1 of a 2/3, of b 0, of c 1."""
    found = judge_classes(["a", "b", "zzz", "c"], ['["a"]', '["a"]', '["b"]', '["c"]'], classes())
    assert values(found) == {"accuracy": 0.5, "macro_f1": pytest.approx((2 / 3 + 0 + 1) / 3)}
    assert [(one.label, one.support) for one in found.classes] == [("a", 2), ("b", 1), ("c", 1)]
    assert [one.recall for one in found.classes] == [0.5, 0, 1]


def test_a_class_that_no_row_has_counts_in_the_macro_f1():
    """As for encoders and in scikit-learn: of three classes one is right and two are never seen."""
    assert judge_classes(["a"], ['["a"]'], classes()).scores.macro_f1 == pytest.approx(1 / 3)


def test_answers_that_name_no_class_have_a_column_of_their_own():
    """The matrix has a row for each class and one column more."""
    found = judge_classes(["a", "b", "zzz", ""], ['["a"]', '["a"]', '["b"]', '["b"]'], classes())
    assert found.labels == (*LABELS, UNREADABLE)
    assert found.confusion == [[1, 1, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0]]


def test_several_classes_must_all_be_right():
    """The whole set counts for accuracy, each class for its F1; no class at all can be the right answer."""
    answers = ['["a","b"]', '["a"]', "[]", "oops"]
    references = ['["a","b"]', '["a","c"]', "[]", "[]"]
    found = judge_classes(answers, references, classes(multiple=True))
    assert values(found) == {"accuracy": 0.5, "macro_f1": pytest.approx((1 + 1 + 0) / 3)}
    assert found.confusion == []


#: Words, tags of the data set, tags of a model.
SENTENCES = [
    ("Ann met Bob Lee today", "B-PER O B-PER I-PER O", "B-PER O B-PER O O"),
    ("Rome and Oslo and Bern", "B-LOC O B-LOC O B-LOC", "B-LOC O B-PER O O"),
    ("nothing here", "O O", "O B-LOC"),
    ("Bob in Rome", "B-PER O B-LOC", "B-PER O B-LOC"),
]


def test_entity_scores_are_seqevals():
    """Precision, recall and F1 over all rows, and F1 of each type, equal seqeval's on the same tags."""
    instruction = make_instruction(Task.TOKEN_CLASSIFICATION, Facts(("LOC", "PER")), chats=True)
    asked = {}
    for side in (1, 2):
        examples = [sentence(words[0], words[side]) for words in SENTENCES]
        asked[side] = [ask(instruction, example) for example in examples]
    found = judge_entities([one.answer for one in asked[2]], [one.reference for one in asked[1]], instruction)
    tags = [[words[side].split() for words in SENTENCES] for side in (1, 2)]
    assert values(found) == {
        "entity_precision": pytest.approx(precision_score(*tags)),
        "entity_recall": pytest.approx(recall_score(*tags)),
        "entity_f1": pytest.approx(f1_score(*tags)),
    }
    assert [one.label for one in found.classes] == ["LOC", "PER", "all"]
    assert [one.f1 for one in found.classes[:-1]] == pytest.approx(f1_score(*tags, average=None))


def sentence(text, tags):
    """A tagged sentence of words apart by one blank."""
    places = [0]
    for word in text.split():
        places.append(places[-1] + len(word) + 1)
    words = tuple((start, start + len(word)) for start, word in zip(places, text.split(), strict=False))
    return TokenLabeled(text, words, tuple(tags.split()))


def test_invented_entities_cost_precision():
    """An entity that does not stand in the text is found and wrong, as is one of a type that was not asked for."""
    instruction = make_instruction(Task.TOKEN_CLASSIFICATION, Facts(("LOC", "PER")), chats=True)
    reference = compact({"text": "Bob in Rome", "answer": '[{"text":"Bob","label":"PER"}]'})
    answer = '[{"text":"Bob","label":"PER"},{"text":"Eve","label":"PER"},{"text":"Rome","label":"TOWN"}]'
    found = judge_entities([answer], [reference], instruction)
    assert values(found) == {"entity_precision": pytest.approx(1 / 3), "entity_recall": 1, "entity_f1": 0.5}
    assert [(one.label, one.precision, one.support) for one in found.classes] == [
        ("PER", 0.5, 1),
        ("all", pytest.approx(1 / 3), 1),
    ]


def test_questions_without_an_answer_want_to_be_told_so():
    """The word for no answer is right only where there is none."""
    judge = SCORES[Task.QUESTION_ANSWERING]
    found = judge(["Unanswerable.", "unanswerable", "Ann"], ["[]", '["Ann"]', "[]"], None)
    assert values(found) == {"exact_match": pytest.approx(1 / 3), "f1": pytest.approx(1 / 3)}


def test_a_completion_may_be_the_word_for_no_answer():
    """A prompt of one's own has it as its completion, which the right answer matches and any other does not."""
    judge = SCORES[Task.QUESTION_ANSWERING]
    found = judge(["unanswerable", " Unanswerable.", "Ann"], ['["unanswerable"]'] * 3, None)
    assert values(found) == {"exact_match": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)}


def test_translations_and_free_text():
    """Right answers have the highest values."""
    text = "the dog bit the man in the park"
    translated = SCORES[Task.TRANSLATION]([text], [text], None)
    assert values(translated) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    assert values(SCORES[Task.CHAT]([text], [text], None)) == {"exact_match": 1, "rouge_l": 1}
