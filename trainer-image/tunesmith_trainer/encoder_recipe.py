"""What the recipes of all encoders share: loading with a seeded head, batches, the loss, parity and the ONNX folder."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import Parity
from tunesmith_trainer.adapters import note_new_layers
from tunesmith_trainer.encode import IGNORED
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.encoder_export import build_encoder
from tunesmith_trainer.encoder_model import (
    Floats,
    OnnxEncoder,
    Reading,
    TorchEncoder,
    View,
    batches_of,
    predict,
    reading_of,
)
from tunesmith_trainer.model import load_pretrained
from tunesmith_trainer.parity import divergence, parity_of
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipe import Batch, Measured
from tunesmith_trainer.stages import Run
from tunesmith_trainer.workspace import read_json

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
#: Rows that the exported model is compared on.
_COMPARED = 32


@dataclass(frozen=True)
class Head:
    """What stands on the encoder.

    Attributes:
        auto: class of transformers that loads an encoder with it.
        peft_task: PEFT's name of the task.
        outputs: names of its outputs.
        per_token: whether an output has an axis of tokens after that of rows.
    """

    auto: Any
    peft_task: str
    outputs: tuple[str, ...]
    per_token: bool


class EncoderTask(Protocol):
    """What differs between the tasks of encoders."""

    @property
    def head(self) -> Head:
        """What stands on the encoder."""
        ...

    def options(self) -> dict[str, Any]:
        """Fields of the configuration that the head is made from."""
        ...

    def targets(self, rows: Sequence[Any], longest: int) -> torch.Tensor:
        """What the head has to say of a batch; -100 where it need not say anything."""
        ...

    def loss(self, outputs: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """The summed loss over the labels that are not -100."""
        ...

    def logits(self, outputs: Sequence[Floats]) -> list[Floats]:
        """A row's outputs as logits whose last axis is one distribution each."""
        ...

    def measure(self, rows: Sequence[Any], found: Sequence[list[Floats]]) -> Measured:
        """The metrics of a head's outputs for all rows."""
        ...


@dataclass(frozen=True)
class Reference:
    """What the torch model says of some rows, kept so that it need not stay in memory."""

    rows: Sequence[Any]
    logits: list[list[Floats]]


@dataclass(frozen=True)
class EncoderRecipe:
    """A way to learn with an encoder.

    Attributes:
        model_path: folder of the base model.
        seed: of the new head's weights, so that base and tuned model start from the same one.
        evaluation: evaluation rows.
        task: what differs between the tasks.
        reading: how the model reads rows.
    """

    model_path: Path
    seed: int
    evaluation: Sequence[Any]
    task: EncoderTask
    reading: Reading

    @property
    def peft_task(self) -> str:
        """PEFT's name of the task."""
        return self.task.head.peft_task

    def load_base(self, device: str = "cpu", quantization: Any = None) -> Any:
        """The base model in fp32 or quantised; its head is its own when it fits the task, else new."""
        return self._load(self.model_path, device, quantization)

    def _load(self, folder: Path, device: str = "cpu", quantization: Any = None) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            options = self.task.options()
            model, missing = load_pretrained(
                self.task.head.auto, folder, device, quantization, ignore_mismatched_sizes=True, **options
            )
        note_new_layers(model, missing)
        return model

    def collate(self, rows: Sequence[Any]) -> Batch:
        """A right-padded batch with the task's labels."""
        batch = self.reading.pad_rows(rows)
        return {**batch, "labels": self.task.targets(rows, batch["input_ids"].shape[1])}

    def loss(self, model: Any, batch: Batch, items: torch.Tensor | int | None = None) -> torch.Tensor:
        """The loss over a batch's labels, divided by those of the whole optimizer step."""
        count = (batch["labels"] != IGNORED).sum() if items is None else items
        return self._summed_loss(model, batch) / count

    def _summed_loss(self, model: Any, batch: Batch) -> torch.Tensor:
        output = model(**{name: tensor for name, tensor in batch.items() if name != "labels"})
        return self.task.loss([output[name].float() for name in self.task.head.outputs], batch["labels"])

    @torch.inference_mode()
    def mean_loss(self, model: Any, limit: int | None = None) -> float:
        """The mean loss per label of the first evaluation rows."""
        rows = self.evaluation[:limit]
        was_training = model.training
        model.eval()
        total = count = 0.0
        for places in batches_of(rows):
            batch = self.collate([rows[place] for place in places])
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            total += float(self._summed_loss(model, batch))
            count += float((batch["labels"] != IGNORED).sum())
        model.train(was_training)
        return total / max(count, 1)

    def view(self, model: Any) -> TorchEncoder:
        """The torch model as the evaluation sees it."""
        return TorchEncoder(model, self.task.head.outputs)

    def score(self, view: View) -> Measured:
        """The task's metrics on the evaluation rows."""
        return self.task.measure(self.evaluation, self._predict(view, self.evaluation))

    def _predict(self, view: View, rows: Sequence[Any]) -> list[list[Floats]]:
        return predict(view, self.reading, rows, per_token=self.task.head.per_token)

    def save_merged(self, model: Any, folder: Path) -> Reference:
        """Save the merged model, and what it says of the first evaluation rows."""
        model.save_pretrained(folder)
        rows = self.evaluation[:_COMPARED]
        return Reference(rows, self._logits(self.view(model), rows))

    def _logits(self, view: View, rows: Sequence[Any]) -> list[list[Floats]]:
        return [self.task.logits(outputs) for outputs in self._predict(view, rows)]

    def build(self, merged: Path, folder: Path, precision: ExportPrecision) -> None:
        """The graph, the tokenizer and the configuration with the labels' names."""
        rows = list(self.evaluation[:2])
        inputs = self.reading.pad_rows([rows[0], rows[-1]])  # a batch of one would be taken for a constant
        build_encoder(self._load(merged), self.task.head.outputs, inputs, folder, precision)
        shutil.copyfile(merged / "config.json", folder / "config.json")
        for name in _TOKENIZER_FILES:
            if (self.model_path / name).is_file():
                shutil.copyfile(self.model_path / name, folder / name)

    def open(self, folder: Path) -> OnnxEncoder:
        """The exported model."""
        return OnnxEncoder(folder)

    def compare(self, view: View, reference: Reference) -> Parity:
        """Logits, distributions and most likely classes against the merged torch model."""
        found = self._logits(view, reference.rows)
        pairs = [
            (wanted, mine)
            for outputs, own in zip(reference.logits, found, strict=True)
            for wanted, mine in zip(outputs, own, strict=True)
        ]
        same = [wanted.argmax(-1).reshape(-1) == mine.argmax(-1).reshape(-1) for wanted, mine in pairs]
        return parity_of(
            [float(np.abs(wanted - mine).max()) for wanted, mine in pairs],
            float(np.concatenate(same).mean()),
            [divergence(wanted, mine).reshape(-1) for wanted, mine in pairs],
        )


def encoder_recipe(run: Run, prepared: Prepared, row: type[Any], task: EncoderTask) -> EncoderRecipe:
    """The recipe of a job on its prepared rows."""
    config = read_json(prepared.model_path / "config.json") or {}
    rows = read_encoded(run.workspace.evaluation_rows, row)
    return EncoderRecipe(prepared.model_path, run.config.spec.training.seed, rows, task, reading_of(config))
