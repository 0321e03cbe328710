"""What a way to learn has to give: the loop, the evaluation and the export know models only through this."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import Parity, Scores
from tunesmith_api.reports import ClassScores

#: Tensors by the names of the model's arguments; `labels` holds -100 where nothing is learnt.
Batch = dict[str, Any]


class TokenRow(Protocol):
    """What the rows of every recipe have; each recipe has a frozen dataclass of its own."""

    @property
    def input_ids(self) -> list[int]:
        """Tokens that the model reads, at most the sequence length."""
        ...

    @property
    def truncated(self) -> bool:
        """Whether the end was cut off."""
        ...


class RowEncoder(Protocol):
    """The half of a recipe that prepare needs, free of torch."""

    @property
    def stop(self) -> str:
        """The token that ends an answer; empty when nothing is generated."""
        ...

    @property
    def needs_end(self) -> bool:
        """Whether nothing can be learnt of a row whose end was cut off, as of an answer that does not end."""
        ...

    def encode(self, examples: Sequence[Any]) -> Sequence[Sequence[TokenRow]]:
        """The rows of each example: one, several windows of a long one, or none when it leaves no room to learn from.

        Many examples at once, because a call of a tokenizer costs as much as the tokens of a short text.
        """
        ...


@dataclass(frozen=True)
class Measured:
    """What the evaluation of a model gave.

    Attributes:
        scores: the metrics.
        classes: scores by class or entity type, for tasks that have them.
        confusion: how often each class (row) was taken for each (column), for tasks with one class per row.
        labels: names of the columns of `confusion`, those of its rows first: answers of a causal model that name no
            class have a column but no row.
    """

    scores: Scores
    classes: list[ClassScores] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    labels: tuple[str, ...] = ()


class Recipe(Protocol):
    """How the model of one job is loaded, taught, measured and exported.

    A *view* is the recipe's own handle on a model, of torch or of ONNX Runtime: what `score` and `compare` take.
    """

    @property
    def evaluation(self) -> Sequence[TokenRow]:
        """The evaluation rows."""
        ...

    @property
    def peft_task(self) -> str:
        """PEFT's name of the task, such as CAUSAL_LM."""
        ...

    def load_base(self, device: str = "cpu", quantization: Any = None) -> Any:
        """The base model in fp32 or quantised (see `quantized`), with a seeded head where it has none of its own."""
        ...

    def collate(self, rows: Sequence[Any]) -> Batch:
        """A padded batch with `attention_mask`, and `labels` that hold -100 where nothing is learnt."""
        ...

    def loss(self, model: Any, batch: Batch, items: Any = None) -> Any:
        """The loss of a batch: summed over its labels, divided by `items` (those of the whole optimizer step)."""
        ...

    def mean_loss(self, model: Any, limit: int | None = None) -> float:
        """The mean loss of a torch model over the first `limit` evaluation rows, or over all."""
        ...

    def view(self, model: Any) -> Any:
        """The view of a torch model."""
        ...

    def score(self, view: Any) -> Measured:
        """All metrics of a model on the evaluation rows; DivergedError when its loss is not finite."""
        ...

    def save_merged(self, model: Any, folder: Path) -> Any:
        """Save the merged torch model for `build`; what it says on some rows is the reference for `compare`."""
        ...

    def build(self, merged: Path, folder: Path, precision: ExportPrecision) -> None:
        """Make the model folder: ONNX graph, tokenizer, and what else a server reads."""
        ...

    def open(self, folder: Path) -> Any:
        """The view of an exported model."""
        ...

    def compare(self, view: Any, reference: Any) -> Parity:
        """How close a model is to the reference."""
        ...
