"""Encoders learn to tag words: the first token of each word says its tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForTokenClassification

from tunesmith_api.finetunejob import Scores
from tunesmith_trainer.classification import label_options
from tunesmith_trainer.encode import IGNORED
from tunesmith_trainer.encoder_model import Floats
from tunesmith_trainer.encoder_recipe import EncoderRecipe, Head, encoder_recipe
from tunesmith_trainer.metrics_labels import entity_scores
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipe import Measured
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tagging_rows import OUTSIDE, UNSEEN, TaggedRow, tags_of

_HEAD = Head(AutoModelForTokenClassification, "TOKEN_CLS", ("logits",), per_token=True)


@dataclass(frozen=True)
class Tagging:
    """Token classification.

    Attributes:
        labels: names of the tags.
    """

    labels: tuple[str, ...]
    head: Head = _HEAD

    def options(self) -> dict[str, Any]:
        """The tags."""
        return label_options(self.labels)

    def targets(self, rows: Sequence[TaggedRow], longest: int) -> torch.Tensor:
        """Tags at the first tokens of words, shape (rows, tokens)."""
        wanted = torch.full((len(rows), longest), IGNORED)
        for number, row in enumerate(rows):
            for place, tag in zip(row.places, row.tags, strict=True):
                if place != UNSEEN:
                    wanted[number, place] = tag
        return wanted

    def loss(self, outputs: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over the tags."""
        logits = outputs[0].flatten(0, 1)
        return functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")

    def logits(self, outputs: Sequence[Floats]) -> list[Floats]:
        """One distribution over the tags for each token."""
        return list(outputs)

    def measure(self, rows: Sequence[TaggedRow], found: Sequence[list[Floats]]) -> Measured:
        """Precision, recall and F1 of entities; words that were cut off count as not found."""
        said = [self._said(row, outputs[0]) for row, outputs in zip(rows, found, strict=True)]
        classes = entity_scores(said, [[self.labels[tag] for tag in row.tags] for row in rows])
        whole = classes[-1]
        scores = Scores(entity_precision=whole.precision, entity_recall=whole.recall, entity_f1=whole.f1)
        return Measured(scores, classes)

    def _said(self, row: TaggedRow, logits: Floats) -> list[str]:
        best = logits.argmax(-1)
        return [OUTSIDE if place == UNSEEN else self.labels[int(best[place])] for place in row.places]


def make_recipe(run: Run, prepared: Prepared) -> EncoderRecipe:
    """The recipe of a job on its prepared rows."""
    return encoder_recipe(run, prepared, TaggedRow, Tagging(tags_of(prepared.labels)))
