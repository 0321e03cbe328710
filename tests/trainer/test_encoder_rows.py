"""Rows of encoders: what is cut, which token carries a tag, where an answer stands in which window."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.classification_rows import TextEncoder
from tunesmith_trainer.examples import Answer, Labeled, Question, TokenLabeled
from tunesmith_trainer.extraction_rows import QuestionEncoder
from tunesmith_trainer.tagging_rows import UNSEEN, WordEncoder, first_tokens, tags_of

MODEL = Path(__file__).parents[1] / "models" / "tiny-bert"
CONTEXT = "anna weber lives in cape town . ben works for acme . clara plays chess with david novak ."


@pytest.fixture(scope="module")
def tokenizer():
    """The tiny BERT's."""
    return PreTrainedTokenizerFast.from_pretrained(MODEL)


def words_of(*words):
    """A text of words with blanks between, and where they stand."""
    text, places = "", []
    for word in words:
        text += " " if text else ""
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, tuple(places)


def test_a_long_text_is_cut_and_keeps_its_special_tokens(tokenizer):
    """The row begins with [CLS] and ends with [SEP] at the limit, and says that it was cut."""
    ((row,),) = TextEncoder(tokenizer, 8, ("a", "b")).encode([Labeled("hello " * 20, ("b",))])
    assert (len(row.input_ids), row.truncated, row.classes) == (8, True, [1])
    assert tokenizer.convert_ids_to_tokens(row.input_ids)[::7] == ["[CLS]", "[SEP]"]


def test_a_text_may_have_any_number_of_classes(tokenizer):
    """None and two are both rows."""
    encoder = TextEncoder(tokenizer, 32, ("a", "b", "c"))
    rows = encoder.encode([Labeled("hello", labels, multiple=True) for labels in ((), ("c", "a"))])
    assert [row.classes for (row,) in rows] == [[], [2, 0]]


def test_the_first_piece_of_a_word_carries_its_tag(tokenizer):
    """Words that fall into several pieces have one place each; what the tokenizer drops is unseen."""
    text, words = words_of("xylophone", "lives", "\u200b", "in", "paris")
    tags = ("B-PER", "O", "O", "O", "B-LOC")
    encoder = WordEncoder(tokenizer, 64, tags_of(["LOC", "PER"]))
    ((row,),) = encoder.encode([TokenLabeled(text, words, tags)])
    tokens = tokenizer.convert_ids_to_tokens(row.input_ids)
    seen = [tokens[place] for place in row.places if place != UNSEEN]
    assert row.places[0] == 1
    assert tokens[2].startswith("##")
    assert [token[0] for token in seen] == ["x", "l", "i", "p"]
    assert row.places[2] == UNSEEN
    assert [encoder.labels[tag] for tag in row.tags] == list(tags)


def test_words_beyond_the_limit_are_unseen(tokenizer):
    """They keep their tags, so that the evaluation counts them as missed."""
    text, words = words_of(*["hello"] * 20)
    ((row,),) = WordEncoder(tokenizer, 8, tags_of(["X"])).encode([TokenLabeled(text, words, ("B-X",) * 20)])
    assert row.truncated
    assert (len(row.tags), row.places.count(UNSEEN)) == (20, 14)


def test_a_token_counts_for_one_word_only():
    """A token over two words belongs to the first of them; special tokens are empty and belong to none."""
    assert list(first_tokens([(0, 2), (2, 5), (6, 7)], [(0, 0), (0, 5), (6, 7), (0, 0)])) == [1, UNSEEN, 2]


def test_windows_cover_a_passage_and_one_holds_the_answer(tokenizer):
    """Every window begins with the question; together they hold every character; labels point at the answer."""
    start = CONTEXT.index("david novak")
    question = Question(CONTEXT, "who plays chess with clara ?", (Answer("david novak", start),))
    (rows,) = QuestionEncoder(tokenizer, 24).encode([question])
    assert len(rows) > 1
    assert [row.opens for row in rows] == [True, *[False] * (len(rows) - 1)]
    assert all(len(row.input_ids) <= 24 for row in rows)
    covered = {at for row in rows for s, e in zip(row.starts, row.ends, strict=True) if s >= 0 for at in range(s, e)}
    assert covered == {at for at, letter in enumerate(CONTEXT) if letter != " "}
    pointing = [row for row in rows if row.answer != [0, 0]]
    assert pointing
    for row in pointing:
        first, last = row.answer
        assert CONTEXT[row.starts[first] : row.ends[last]] == "david novak"
    assert rows[0].references == ["david novak"]
    assert rows[0].segments[0] == 0
    assert rows[0].segments[-1] == 1


def test_a_question_without_an_answer_points_at_the_first_token(tokenizer):
    """As SQuAD v2's baselines do."""
    ((row,),) = QuestionEncoder(tokenizer, 128).encode([Question(CONTEXT, "where does ida live ?", ())])
    assert (row.answer, row.references) == ([0, 0], [])


def test_a_question_that_leaves_no_room_gives_no_row(tokenizer):
    """The passage could not be read."""
    assert QuestionEncoder(tokenizer, 16).encode([Question(CONTEXT, "where " * 20, ())]) == [()]
