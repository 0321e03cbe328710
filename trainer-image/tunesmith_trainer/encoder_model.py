"""Encoders with a head for a task, of torch and of ONNX Runtime: batches in, one array per output and row out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_api.planner import ENCODER_EVALUATION_TOKENS
from tunesmith_trainer.encoded import lengths_of
from tunesmith_trainer.errors import DivergedError
from tunesmith_trainer.onnx_session import open_session
from tunesmith_trainer.recipe import Batch, TokenRow

Floats = npt.NDArray[np.float32]

#: Rows of one evaluation batch; its tokens, padding included, have a bound too.
_BATCH_ROWS = 64


@dataclass(frozen=True)
class Reading:
    """How rows of an encoder are read.

    Attributes:
        pad: token that fills short rows; RoBERTa counts positions by it.
        segments: whether the model tells the two texts of a pair apart.
    """

    pad: int
    segments: bool

    def pad_rows(self, rows: Sequence[Any]) -> Batch:
        """Right-padded `input_ids`, `attention_mask` and, where the model takes them, `token_type_ids`."""
        longest = max(len(row.input_ids) for row in rows)
        batch = {
            "input_ids": padded([row.input_ids for row in rows], longest, self.pad),
            "attention_mask": padded([[1] * len(row.input_ids) for row in rows], longest, 0),
        }
        if self.segments:
            segments = [getattr(row, "segments", None) or [0] * len(row.input_ids) for row in rows]
            batch["token_type_ids"] = padded(segments, longest, 0)
        return batch


def reading_of(config: dict[str, Any]) -> Reading:
    """How an encoder is read, from its config.json: RoBERTa has one type of segment, DistilBERT no such input."""
    return Reading(int(config.get("pad_token_id") or 0), int(config.get("type_vocab_size") or 0) > 1)


def padded(rows: Sequence[Sequence[int]], longest: int, fill: int) -> torch.Tensor:
    """Rows of integers as one tensor of shape (rows, longest)."""
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], dtype=torch.long)


class View(Protocol):
    """A model that can be measured and compared."""

    def run(self, batch: Batch) -> list[Floats]:
        """The head's outputs, each with a first axis of rows."""
        ...


class TorchEncoder:
    """A torch model with a head; measured in fp32 on a CPU, in the weights' type on a device."""

    def __init__(self, model: Any, outputs: Sequence[str]) -> None:
        self._model = model
        self._outputs = outputs

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[Floats]:
        """The head's outputs."""
        was_training = self._model.training
        self._model.eval()
        found = self._model(**{name: tensor.to(self._model.device) for name, tensor in batch.items()})
        self._model.train(was_training)
        return [found[name].float().cpu().numpy() for name in self._outputs]


class OnnxEncoder:
    """An exported model on plain ONNX Runtime.

    Raises:
        RuntimeError: ONNX Runtime fell back to another execution provider.
    """

    def __init__(self, folder: Path) -> None:
        self._session = open_session(folder / "model.onnx")
        self._inputs = [value.name for value in self._session.get_inputs()]

    def run(self, batch: Batch) -> list[Floats]:
        """The head's outputs."""
        feeds = {name: batch[name].numpy() for name in self._inputs}
        outputs: list[Floats] = self._session.run(None, feeds)
        return outputs


def batches_of(rows: Sequence[TokenRow]) -> Iterator[list[int]]:
    """Places of rows of like length that go through a model together."""
    batch: list[int] = []
    lengths = lengths_of(rows)
    for place in sorted(range(len(rows)), key=lambda place: lengths[place]):
        if batch and (len(batch) == _BATCH_ROWS or (len(batch) + 1) * lengths[place] > ENCODER_EVALUATION_TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def predict(view: View, reading: Reading, rows: Sequence[Any], *, per_token: bool) -> list[list[Floats]]:
    """The head's outputs for each row, in the rows' order; outputs per token end with the row.

    Raises:
        DivergedError: an output is not finite.
    """
    found: dict[int, list[Floats]] = {}
    for places in batches_of(rows):
        batch = [rows[place] for place in places]
        outputs = view.run(reading.pad_rows(batch))
        for number, (place, row) in enumerate(zip(places, batch, strict=True)):
            end = len(row.input_ids) if per_token else None
            found[place] = [output[number][:end] for output in outputs]
    if not all(np.isfinite(output).all() for outputs in found.values() for output in outputs):
        raise DivergedError("the outputs on the evaluation rows are not finite")
    return [found[place] for place in range(len(rows))]
