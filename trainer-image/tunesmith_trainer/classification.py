"""Encoders learn to classify texts: one class each by softmax, or any number of classes by a sigmoid for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from tunesmith_api.finetunejob import Scores
from tunesmith_trainer.classification_rows import LabeledRow
from tunesmith_trainer.encode import IGNORED
from tunesmith_trainer.encoder_model import Floats
from tunesmith_trainer.encoder_recipe import EncoderRecipe, Head, encoder_recipe
from tunesmith_trainer.metrics_labels import accuracy, class_scores, confusion, macro_f1
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipe import Measured
from tunesmith_trainer.stages import Run

_HEAD = Head(AutoModelForSequenceClassification, "SEQ_CLS", ("logits",), per_token=False)


@dataclass(frozen=True)
class Classification:
    """Text classification.

    Attributes:
        labels: names of the classes.
        multiple: whether a text may have any number of them.
    """

    labels: tuple[str, ...]
    multiple: bool
    head: Head = _HEAD

    def options(self) -> dict[str, Any]:
        """The labels, and which of the two losses other libraries should take."""
        kind = "multi_label_classification" if self.multiple else "single_label_classification"
        return {**label_options(self.labels), "problem_type": kind}

    def targets(self, rows: Sequence[LabeledRow], _longest: int) -> torch.Tensor:
        """Places of the classes, shape (rows,); or 0 and 1 for each class, shape (rows, classes)."""
        if not self.multiple:
            return torch.tensor([row.classes[0] for row in rows])
        wanted = torch.zeros(len(rows), len(self.labels))
        for place, row in enumerate(rows):
            wanted[place, row.classes] = 1
        return wanted

    def loss(self, outputs: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, of one distribution over the classes or of one for each."""
        if self.multiple:
            taught = labels != IGNORED
            return functional.binary_cross_entropy_with_logits(outputs[0][taught], labels[taught], reduction="sum")
        return functional.cross_entropy(outputs[0], labels, reduction="sum")

    def logits(self, outputs: Sequence[Floats]) -> list[Floats]:
        """A sigmoid is the softmax over the logit and 0."""
        return [np.stack([outputs[0], np.zeros_like(outputs[0])], axis=-1) if self.multiple else outputs[0]]

    def measure(self, rows: Sequence[LabeledRow], found: Sequence[list[Floats]]) -> Measured:
        """Accuracy and macro F1; a class of several is said when its sigmoid is above one half."""
        said = [frozenset(self._said(outputs[0])) for outputs in found]
        wanted = [frozenset(row.classes) for row in rows]
        classes = class_scores(said, wanted, self.labels)
        scores = Scores(accuracy=accuracy(said, wanted), macro_f1=macro_f1(classes))
        if self.multiple:
            return Measured(scores, classes)
        pairs = ([min(one) for one in said], [min(one) for one in wanted])
        return Measured(scores, classes, confusion(*pairs, len(self.labels)), self.labels)

    def _said(self, logits: Floats) -> list[int]:
        return np.flatnonzero(logits > 0).tolist() if self.multiple else [int(logits.argmax())]


def label_options(labels: Sequence[str]) -> dict[str, Any]:
    """The fields of a configuration that name a head's outputs."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: place for place, label in enumerate(labels)},
    }


def make_recipe(run: Run, prepared: Prepared) -> EncoderRecipe:
    """The recipe of a job on its prepared rows."""
    task = Classification(tuple(prepared.labels), prepared.multiple_labels)
    return encoder_recipe(run, prepared, LabeledRow, task)
