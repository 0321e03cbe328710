"""Scores of generated answers per task, against values that the reference implementations give."""

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from tunesmith_api.enums import Metric, Task
from tunesmith_api.tasks import TASKS, ModelKind
from tunesmith_trainer.examples import TokenLabeled
from tunesmith_trainer.instructions import Facts, Instruction, ask, compact, make_instruction
from tunesmith_trainer.scoring import SCORES

LABELS = ("a", "b", "c")


def classes(*, multiple=False):
    """An instruction that knows three classes."""
    return Instruction(task=Task.TEXT_CLASSIFICATION, template="", answer="", labels=LABELS, multiple=multiple)


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
        values = SCORES[task](["a"], [reference], instruction)
        assert set(values) == set(kinds[ModelKind.CAUSAL].metrics) - elsewhere, task


def test_classes_count_unknown_answers_as_wrong():
    """Four rows, answers a, b, nonsense, c: accuracy 1/2; F1 of a 2/3, of b 0, of c 1."""
    values = SCORES[Task.TEXT_CLASSIFICATION](["a", "b", "zzz", "c"], ['["a"]', '["a"]', '["b"]', '["c"]'], classes())
    assert values[Metric.ACCURACY] == 0.5
    assert values[Metric.MACRO_F1] == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_several_classes_must_all_be_right():
    """The whole set counts for accuracy, each class for its F1; no class at all can be the right answer."""
    answers = ['["a","b"]', '["a"]', "[]", "oops"]
    references = ['["a","b"]', '["a","c"]', "[]", "[]"]
    values = SCORES[Task.TEXT_CLASSIFICATION](answers, references, classes(multiple=True))
    assert values[Metric.ACCURACY] == 0.5
    assert values[Metric.MACRO_F1] == pytest.approx((1 + 1 + 0) / 3)


#: Words, tags of the data set, tags of a model.
SENTENCES = [
    ("Ann met Bob Lee today", "B-PER O B-PER I-PER O", "B-PER O B-PER O O"),
    ("Rome and Oslo and Bern", "B-LOC O B-LOC O B-LOC", "B-LOC O B-PER O O"),
    ("nothing here", "O O", "O B-LOC"),
    ("Bob in Rome", "B-PER O B-LOC", "B-PER O B-LOC"),
]


def test_entity_scores_are_seqevals():
    """Precision, recall and F1 over all rows equal seqeval's on the same tags."""
    instruction = make_instruction(Task.TOKEN_CLASSIFICATION, Facts(("LOC", "PER")), chats=True)
    asked = {}
    for side in (1, 2):
        examples = [sentence(words[0], words[side]) for words in SENTENCES]
        asked[side] = [ask(instruction, example) for example in examples]
    values = SCORES[Task.TOKEN_CLASSIFICATION](
        [one.answer for one in asked[2]], [one.reference for one in asked[1]], None
    )
    tags = [[words[side].split() for words in SENTENCES] for side in (1, 2)]
    assert values[Metric.ENTITY_PRECISION] == pytest.approx(precision_score(*tags))
    assert values[Metric.ENTITY_RECALL] == pytest.approx(recall_score(*tags))
    assert values[Metric.ENTITY_F1] == pytest.approx(f1_score(*tags))


def sentence(text, tags):
    """A tagged sentence of words apart by one blank."""
    places = [0]
    for word in text.split():
        places.append(places[-1] + len(word) + 1)
    words = tuple((start, start + len(word)) for start, word in zip(places, text.split(), strict=False))
    return TokenLabeled(text, words, tuple(tags.split()))


def test_invented_entities_cost_precision():
    """An entity that does not stand in the text is found and wrong."""
    reference = compact({"text": "Bob in Rome", "answer": '[{"text":"Bob","label":"PER"}]'})
    answer = '[{"text":"Bob","label":"PER"},{"text":"Eve","label":"PER"}]'
    values = SCORES[Task.TOKEN_CLASSIFICATION]([answer], [reference], None)
    assert values == {Metric.ENTITY_PRECISION: 0.5, Metric.ENTITY_RECALL: 1, Metric.ENTITY_F1: pytest.approx(2 / 3)}


def test_questions_without_an_answer_want_to_be_told_so():
    """The word for no answer is right only where there is none."""
    values = SCORES[Task.QUESTION_ANSWERING](["Unanswerable.", "unanswerable", "Ann"], ["[]", '["Ann"]', "[]"], None)
    assert values == {Metric.EXACT_MATCH: pytest.approx(1 / 3), Metric.F1: pytest.approx(1 / 3)}


def test_translations_and_free_text():
    """Right answers have the highest values."""
    text = "the dog bit the man in the park"
    assert SCORES[Task.TRANSLATION]([text], [text], None) == {
        Metric.BLEU: pytest.approx(100),
        Metric.CHRF: pytest.approx(100),
    }
    assert SCORES[Task.CHAT]([text], [text], None) == {Metric.EXACT_MATCH: 1, Metric.ROUGE_L: 1}
