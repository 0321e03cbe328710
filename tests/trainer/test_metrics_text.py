"""Metrics of generated text, against published examples and the reference implementations."""

import random

import pytest

from tunesmith_trainer.metrics_text import (
    bleu,
    chrf,
    exact_match,
    rouge_l,
    squad_exact_match,
    squad_f1,
    squad_normalise,
)

#: Answer, reference, ROUGE-L's F-measure: the examples of Lin 2004 (section 3), then edge cases.
ROUGE = [
    ("police kill the gunman", "police killed the gunman", 3 / 4),
    ("the gunman kill police", "police killed the gunman", 2 / 4),
    ("the gunman police killed", "police killed the gunman", 2 / 4),
    ("w1 w2 w6 w7 w8", "w1 w2 w3 w4 w5", 2 / 5),
    ("", "something", 0),
    ("", "", 0),
    ("ONE, two!", "one two", 1),
    ("один два три", "один три", 4 / 5),
]


@pytest.mark.parametrize(("answer", "reference", "wanted"), ROUGE)
def test_rouge_l_of_published_examples(answer, reference, wanted):
    """The longest common subsequence of words, whatever their case, punctuation and alphabet."""
    assert rouge_l([answer], [reference]) == pytest.approx(wanted)


def test_rouge_l_is_that_of_the_reference_implementation():
    """On random English words every value equals rouge-score's, digit by digit."""
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - takes seconds to import

    draw = random.Random(7)
    scorer = RougeScorer(["rougeL"])
    words = ["the", "cat", "sat", "on", "a", "mat", "don't", "x2"]
    for length in range(1, 91):
        answer, reference = (" ".join(draw.choices(words, k=k)) for k in (length, 40))
        assert rouge_l([answer], [reference]) == pytest.approx(scorer.score(reference, answer)["rougeL"].fmeasure)


@pytest.mark.parametrize(
    ("text", "normal"),
    [("The  Denver Broncos!", "denver broncos"), ("an apple, a day", "apple day"), ("theatre", "theatre"), ("A", "")],
)
def test_squad_normalisation(text, normal):
    """Case, punctuation, articles and white space do not count; words that hold an article do."""
    assert squad_normalise(text) == normal


#: Answer, references, exact match, F1, as SQuAD's evaluation scripts v1.1 and v2.0 have them.
SQUAD = [
    ("Denver Broncos", ["Denver Broncos", "The Broncos"], 1, 1),
    ("the Denver Broncos", ["Denver Broncos"], 1, 1),
    ("Broncos", ["Denver Broncos"], 0, 2 / 3),
    ("the team of Denver Broncos", ["Denver Broncos", "Broncos team"], 0, 2 * 2 / 6),
    ("Panthers", ["Denver Broncos"], 0, 0),
    ("", [], 1, 1),
    ("Denver", [], 0, 0),
    ("", ["Denver"], 0, 0),
    ("fish fish", ["fish"], 0, 2 / 3),
]


@pytest.mark.parametrize(("answer", "references", "match", "f1"), SQUAD)
def test_squad_scores(answer, references, match, f1):
    """The best of several references counts; without any, only an empty answer is right."""
    assert squad_exact_match([answer], [references]) == match
    assert squad_f1([answer], [references]) == pytest.approx(f1)


def test_scores_are_means_over_the_rows():
    """Two rows, one right."""
    assert exact_match(["a ", "b"], ["a", "c"]) == 0.5
    assert squad_exact_match(["x", "y"], [["x"], ["z"]]) == 0.5
    assert squad_f1(["x", "y"], [["x"], ["z"]]) == 0.5
    assert rouge_l(["x", "y"], ["x", "z"]) == 0.5


#: The example of sacrebleu's README: two references for each answer.
ANSWERS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]


def test_translation_scores_of_a_published_example():
    """BLEU 48.53 and chrF2 59.73, as sacrebleu's README prints them."""
    assert bleu(ANSWERS, REFERENCES) == pytest.approx(48.53, abs=0.005)
    assert chrf(ANSWERS, REFERENCES) == pytest.approx(59.73, abs=0.005)


def test_translation_scores_go_from_0_to_100():
    """Equal texts have 100, texts without a common character 0."""
    texts = ["the quick brown fox jumps over the lazy dog"]
    assert bleu(texts, [texts]) == pytest.approx(100)
    assert chrf(texts, [texts]) == pytest.approx(100)
    assert bleu(["123"], [texts]) == 0
    assert chrf(["123"], [texts]) == 0


@pytest.mark.parametrize("metric", [exact_match, rouge_l, squad_f1, bleu, chrf])
def test_lists_of_unequal_length_are_refused(metric):
    """No row is left out silently."""
    with pytest.raises(ValueError, match="zip"):
        metric(["a", "b"], ["a"])
