"""Encoder-decoder models learn to write a target for a source: T5 and Marian, scored on their greedy targets."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import Parity
from tunesmith_trainer.encode_seq2seq import Seq2SeqRow
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.instructions import TASK_FILE, Instruction
from tunesmith_trainer.marian_tokenizer import FILES
from tunesmith_trainer.model_folder import write_tokenizer
from tunesmith_trainer.parity import divergence, parity_of
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipe import Batch, Measured
from tunesmith_trainer.scoring import judge_of
from tunesmith_trainer.seq2seq_model import Floats, Seq2SeqView
from tunesmith_trainer.seq2seq_onnx import OnnxSteps, export_seq2seq
from tunesmith_trainer.seq2seq_torch import UNBOUNDED, TorchSteps, collate, load_seq2seq, target_loss
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.workspace import read_json, write_json

_MERGED_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", *FILES)
#: Rows that are compared after the export, and greedy tokens of each.
_ROWS, _NEW_TOKENS = 8, 64


@dataclass(frozen=True)
class Said:
    """What the merged torch model says of some rows.

    Attributes:
        rows: the rows.
        states: the encoder's states of each.
        logits: logits of each target.
        answers: greedy targets, to the stop token or to the limit.
    """

    rows: list[Seq2SeqRow]
    states: list[Floats]
    logits: list[Floats]
    answers: list[list[int]]


@dataclass(frozen=True)
class Seq2SeqRecipe:
    """The recipe of encoder-decoder models.

    Attributes:
        model_path: folder of the base model.
        evaluator: measures on the evaluation rows.
        instruction: what the model is asked.
        start: the token that begins every target.
    """

    model_path: Path
    evaluator: Evaluator
    instruction: Instruction
    start: int
    peft_task: str = "SEQ_2_SEQ_LM"

    @property
    def evaluation(self) -> Sequence[Seq2SeqRow]:
        """The evaluation rows."""
        rows: Sequence[Any] = self.evaluator.rows
        return rows

    def load_base(self, device: str = "cpu", quantization: Any = None) -> Any:
        """The base model in fp32 or quantised."""
        return load_seq2seq(self.model_path, device, quantization)

    def collate(self, rows: Sequence[Seq2SeqRow]) -> Batch:
        """A right-padded batch of sources and targets."""
        return collate(rows, self.start)

    def loss(self, model: Any, batch: Batch, items: torch.Tensor | int | None = None) -> torch.Tensor:
        """Cross-entropy over the targets' tokens."""
        return target_loss(model, batch, items)

    def mean_loss(self, model: Any, limit: int | None = None) -> float:
        """Mean loss per target token of the first evaluation rows."""
        training = model.training
        counts = self.evaluator.count(self.view(model), limit=limit)
        model.train(training)
        return counts.loss / max(counts.tokens, 1)

    def view(self, model: Any) -> Seq2SeqView:
        """The torch model as the evaluation sees it."""
        return Seq2SeqView(TorchSteps(model))

    def score(self, view: Seq2SeqView) -> Measured:
        """Perplexity, token accuracy, and the task's metrics of greedy targets."""
        return self.evaluator.score(view)

    def save_merged(self, model: Any, folder: Path) -> Said:
        """Save the model with its tokenizer."""
        model.save_pretrained(folder)
        for name in _MERGED_FILES:
            if (self.model_path / name).is_file():
                shutil.copyfile(self.model_path / name, folder / name)
        rows = list(self.evaluation[:_ROWS])
        view = self.view(model.eval())
        states, logits = [view.states(row) for row in rows], [view.logits(row) for row in rows]
        return Said(rows, states, logits, self._targets(view, rows))

    def _targets(self, view: Seq2SeqView, rows: Sequence[Seq2SeqRow]) -> list[list[int]]:
        return view.generate([row.input_ids for row in rows], _NEW_TOKENS, self.evaluator.stop_ids)

    def build(self, merged: Path, folder: Path, precision: ExportPrecision) -> None:
        """Encoder and decoder graphs, tokenizer, and the instruction."""
        export_seq2seq(merged, folder, precision)
        write_tokenizer(folder, self.model_path, self.evaluator.tokenizer)
        write_json(folder / TASK_FILE, self.instruction)

    def open(self, folder: Path) -> Seq2SeqView:
        """The exported model."""
        return Seq2SeqView(OnnxSteps(folder))

    def compare(self, view: Seq2SeqView, reference: Said) -> Parity:
        """States, logits, distributions and whole greedy targets; the encoder's states count among the logits."""
        pairs = list(zip(reference.rows, reference.states, reference.logits, strict=True))
        found = [(view.states(row), view.logits(row)) for row in reference.rows]
        gaps = [
            float(np.abs(wanted - own).max())
            for (_, states, logits), mine in zip(pairs, found, strict=True)
            for wanted, own in ((states, mine[0]), (logits, mine[1]))
        ]
        nats = [divergence(logits, mine[1]) for (_, _, logits), mine in zip(pairs, found, strict=True)]
        return parity_of(gaps, _agreement(reference.answers, self._targets(view, reference.rows)), nats)


def _agreement(wanted: Sequence[list[int]], found: Sequence[list[int]]) -> float:
    """Share of target tokens that are the same, position by position; a token too few or too many is a difference."""
    same = sum(a == b for one, other in zip(wanted, found, strict=True) for a, b in zip(one, other, strict=False))
    total = sum(max(len(one), len(other)) for one, other in zip(wanted, found, strict=True))
    return same / total if total else 1.0


def make_recipe(run: Run, prepared: Prepared) -> Seq2SeqRecipe:
    """The recipe of a job on its prepared rows."""
    tokenizer = load_tokenizer(prepared.model_path)
    config = read_json(prepared.model_path / "config.json") or {}
    assert prepared.instruction is not None
    rows: Any = read_encoded(run.workspace.evaluation_rows, Seq2SeqRow)
    evaluator = Evaluator(
        rows=rows,
        tokenizer=tokenizer,
        generation=run.config.spec.evaluation.generation,
        stop_ids=frozenset({int(tokenizer.eos_token_id)}),
        context=UNBOUNDED,
        judge=judge_of(run.config.spec.task, prepared.instruction),
    )
    start = config.get("decoder_start_token_id", config.get("pad_token_id", 0))
    return Seq2SeqRecipe(prepared.model_path, evaluator, prepared.instruction, int(start))
