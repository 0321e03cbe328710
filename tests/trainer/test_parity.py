"""The comparison of an exported model with the torch model: what is not a number never passes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tunesmith_api.enums import ExportPrecision
from tunesmith_trainer import encoder_recipe
from tunesmith_trainer.encode_seq2seq import Seq2SeqRow
from tunesmith_trainer.encoder_recipe import EncoderRecipe
from tunesmith_trainer.errors import GateFailedError
from tunesmith_trainer.parity import Reference, compare, require_parity
from tunesmith_trainer.seq2seq import Said, Seq2SeqRecipe

GOOD = np.array([[0.0, 1.0], [2.0, 0.5]], dtype=np.float32)
BROKEN = np.full_like(GOOD, np.nan)


class Model:
    """A model that says `first` of its first sequence and what is good of the others."""

    def __init__(self, first):
        self.said = [first, GOOD]

    def logits(self, row):
        """The logits of a sequence that is numbered by its only token, or of a row."""
        return self.said[row.input_ids[0] if isinstance(row, Seq2SeqRow) else row[0]]

    def states(self, row):
        """An encoder's states."""
        return self.logits(row)

    def generate(self, prompts, *_):
        """The same for everyone."""
        return [[1] for _ in prompts]


def decoder(first, _):
    """The parity of a decoder."""
    return compare(Model(first), Reference([[1], [0]], [GOOD, GOOD], [[1], [0]], [[1], [1]]))


def encoder(first, monkeypatch):
    """The parity of an encoder."""
    monkeypatch.setattr(EncoderRecipe, "_logits", lambda _, view, rows: [[view.logits(row)] for row in rows])
    recipe = EncoderRecipe(Path(), 0, [], SimpleNamespace(), SimpleNamespace())
    return recipe.compare(Model(first), encoder_recipe.Reference([[1], [0]], [[GOOD], [GOOD]]))


def encoder_decoder(first, _):
    """The parity of an encoder-decoder model."""
    rows = [Seq2SeqRow([number], [1], "") for number in (1, 0)]
    recipe = Seq2SeqRecipe(Path(), SimpleNamespace(stop_ids=frozenset()), SimpleNamespace(), 0)
    return recipe.compare(Model(first), Said(rows, [GOOD, GOOD], [GOOD, GOOD], [[1], [1]]))


@pytest.mark.parametrize("parity", [decoder, encoder, encoder_decoder])
def test_logits_that_are_not_numbers_do_not_pass(monkeypatch, parity):
    """One row of NaN after a good one is refused, though every comparison with NaN is false; equal logits pass."""
    require_parity(parity(GOOD, monkeypatch), ExportPrecision.EXACT)
    with pytest.raises(GateFailedError, match="export parity: max_logit_difference is nan and kl_divergence is nan"):
        parity(BROKEN, monkeypatch)
