"""Tokenising by an instruction, for causal and for encoder-decoder models."""

from pathlib import Path

import numpy as np
import pytest

from tunesmith_api.enums import Task
from tunesmith_trainer.encode import IGNORED
from tunesmith_trainer.encode_asked import make_asked_encoder
from tunesmith_trainer.encode_seq2seq import Seq2SeqEncoder
from tunesmith_trainer.examples import Labeled, Pair
from tunesmith_trainer.instructions import Facts, make_instruction, make_source_instruction
from tunesmith_trainer.seq2seq_model import Seq2SeqView, pad, shift
from tunesmith_trainer.tokenizer import load_target_tokenizer, load_tokenizer

ROOT = Path(__file__).parents[2]
PHI3 = ROOT / "examples" / "models" / "tiny-phi3"
T5 = ROOT / "tests" / "models" / "tiny-t5"
OPUS = ROOT / "tests" / "models" / "tiny-opus-mt"
CLASSES = Facts(("cold", "warm"))
EN_DE = Facts(source="English", target="German")
PAIR = Pair("the red cat sees a dog", "la kato rozi vidas un hunda")


@pytest.mark.parametrize(
    ("chats", "shown", "learnt"),
    [
        (True, "<|user|>\nWhich label fits the text: cold, warm\n\nText: snow<|end|>\n<|assistant|>\n", "cold<|end|>"),
        (False, "Which label fits the text: cold, warm\n\nText: snow\n\nAnswer:", " cold<|endoftext|>"),
    ],
)
def test_an_example_is_asked_as_the_server_will_be(chats, shown, learnt):
    """Through the chat template or as plain text; only the answer and its end are learnt, the reference is compared."""
    tokenizer = load_tokenizer(PHI3)
    instruction = make_instruction(Task.TEXT_CLASSIFICATION, CLASSES, chats=chats)
    ((row,),) = make_asked_encoder(tokenizer, instruction, 128).encode([Labeled("snow", ("cold",))])
    assert tokenizer.decode(row.input_ids[: row.prompt_tokens]) == shown
    assert tokenizer.decode([label for label in row.labels if label != IGNORED]) == learnt
    assert row.reference == '["cold"]'


@pytest.mark.parametrize(
    ("model_type", "facts", "source"),
    [
        ("t5", EN_DE, "translate English to German: the red cat sees a dog"),
        ("t5", Facts(), "the red cat sees a dog"),
        ("marian", EN_DE, "the red cat sees a dog"),
    ],
)
def test_each_family_is_asked_in_its_own_way(model_type, facts, source):
    """T5 knows its task by a prefix; a translator needs none. Both sides end with the token that ends a text."""
    tokenizer = load_tokenizer(T5)
    instruction = make_source_instruction(Task.TRANSLATION, facts, model_type)
    ((row,),) = Seq2SeqEncoder(tokenizer, tokenizer, instruction, 128).encode([PAIR])
    assert tokenizer.decode(row.input_ids).strip() == f"{source}</s>"
    assert tokenizer.decode(row.labels).strip() == f"{PAIR.target}</s>"
    assert (row.reference, row.truncated, row.prompt_tokens) == (PAIR.target, False, len(row.input_ids))


def test_marian_s_targets_are_split_by_their_own_pieces():
    """Of its own files the sources' tokenizer would write a target letter by letter."""
    source, target = load_tokenizer(OPUS), load_target_tokenizer(OPUS)
    instruction = make_source_instruction(Task.TRANSLATION, EN_DE, "marian")
    ((row,),) = Seq2SeqEncoder(source, target, instruction, 128).encode([PAIR])
    assert row.input_ids == source(PAIR.source)["input_ids"]
    assert row.labels == target(PAIR.target)["input_ids"]
    assert len(row.labels) < len(source(PAIR.target)["input_ids"])


def test_a_long_side_is_cut_before_its_end():
    """Both sides keep the token that ends them, so that a model still learns to stop."""
    tokenizer = load_tokenizer(T5)
    instruction = make_source_instruction(Task.TRANSLATION, Facts(), "t5")
    ((row,),) = Seq2SeqEncoder(tokenizer, tokenizer, instruction, 4).encode([PAIR])
    assert (len(row.input_ids), len(row.labels), row.truncated) == (4, 4, True)
    assert row.input_ids[-1] == row.labels[-1] == tokenizer.eos_token_id


def test_the_decoder_reads_the_labels_one_place_later():
    """The start token first, and nothing of what is padding."""
    labels, mask = pad([[5, 6, 1], [7, 1]], -100)
    assert shift(labels, 9).tolist() == [[9, 5, 6], [9, 7, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]


class _Counting:
    """Steps that say token after token: each row counts up from its first source token, to at most 9."""

    start, longest = 0, 6

    def __init__(self, never=()):
        self.never = list(never)

    def encode(self, ids, mask):
        del mask
        return ids[:, :1]

    def decode(self, ids, states, mask, past):
        del mask
        told = past or 0
        following = np.minimum(states[:, 0] + told, 9)
        return np.eye(10, dtype=np.float32)[following][:, None, :].repeat(ids.shape[1], 1), told + 1


def test_rows_end_by_themselves_or_at_the_limit():
    """A stop token ends its row only; the model's longest target ends all."""
    view = Seq2SeqView(_Counting())
    assert view.generate([[6], [2]], 50, frozenset({8})) == [[6, 7], [2, 3, 4, 5, 6, 7]]
    assert view.generate([[2]], 3, frozenset({8})) == [[2, 3, 4]]


def test_forbidden_tokens_are_never_written():
    """The padding's logit is 0 in Marian's models, and may be the highest of all."""

    class Padded(_Counting):
        def decode(self, *arguments):
            logits, told = super().decode(*arguments)
            logits[:, :, 0] = 2
            return logits, told

    assert Seq2SeqView(Padded()).generate([[6]], 2, frozenset({8})) == [[0, 0]]
    assert Seq2SeqView(Padded(never=[0])).generate([[6]], 2, frozenset({8})) == [[6, 7]]
