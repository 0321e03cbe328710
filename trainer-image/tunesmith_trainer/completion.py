"""Causal models learn to complete: loss on the answers only, scores by likelihood and by greedy decoding."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import Parity
from tunesmith_api.techniques import virtual_tokens
from tunesmith_trainer.builder import build_onnx
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.evaluate import Evaluator, LanguageModel
from tunesmith_trainer.instructions import TASK_FILE, Instruction
from tunesmith_trainer.loss import collate, completion_loss
from tunesmith_trainer.model import load_base
from tunesmith_trainer.model_folder import write_description, write_tokenizer
from tunesmith_trainer.onnx_model import OnnxModel
from tunesmith_trainer.parity import Comparable, Reference, compare, take_reference
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipe import Batch, Measured
from tunesmith_trainer.scoring import judge_of
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.torch_model import TorchModel
from tunesmith_trainer.workspace import read_json, write_json

_MERGED_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


@dataclass(frozen=True)
class CompletionRecipe:
    """The recipe of causal models, whatever the task: they write their answers.

    Attributes:
        name: the job's, for the model folder's description.
        model_path: folder of the base model.
        evaluator: measures on the evaluation rows.
        instruction: what the model is asked, where the task has an instruction.
    """

    name: str
    model_path: Path
    evaluator: Evaluator
    instruction: Instruction | None = None
    peft_task: str = "CAUSAL_LM"

    @property
    def evaluation(self) -> Sequence[EncodedRow]:
        """The evaluation rows."""
        return self.evaluator.rows

    def load_base(self, device: str = "cpu", quantization: Any = None) -> Any:
        """The base model in fp32 or quantised."""
        return load_base(self.model_path, device, quantization)

    def collate(self, rows: Sequence[EncodedRow]) -> Batch:
        """A right-padded batch."""
        return collate(rows)

    def loss(self, model: Any, batch: Batch, items: torch.Tensor | int | None = None) -> torch.Tensor:
        """Cross-entropy over the answers' tokens."""
        return completion_loss(model, batch, items)

    def mean_loss(self, model: Any, limit: int | None = None) -> float:
        """Mean loss per labelled token of the first evaluation rows."""
        counts = self.evaluator.count(TorchModel(model), limit=limit)
        return counts.loss / max(counts.tokens, 1)

    def view(self, model: Any) -> TorchModel:
        """The torch model as the evaluation sees it."""
        return TorchModel(model)

    def score(self, view: LanguageModel) -> Measured:
        """Perplexity, token accuracy, and the task's metrics of greedy answers."""
        return self.evaluator.score(view)

    def save_merged(self, model: Any, folder: Path) -> Reference:
        """Save a model that stops at every token that ends an answer, with its tokenizer."""
        stops = sorted(self.evaluator.stop_ids)
        model.generation_config.eos_token_id = stops
        model.config.eos_token_id = stops
        model.save_pretrained(folder)
        name_rope_type(folder / "config.json")
        for name in _MERGED_FILES:
            if (self.model_path / name).is_file():
                shutil.copyfile(self.model_path / name, folder / name)
        return take_reference(TorchModel(model), self.evaluator.rows, self.evaluator.context)

    def build(self, merged: Path, folder: Path, precision: ExportPrecision) -> None:
        """The folder that onnxruntime-genai, Foundry Local and our server read."""
        build_onnx(merged, folder, precision)
        write_tokenizer(folder, self.model_path, self.evaluator.tokenizer)
        write_description(folder, self.name, self.evaluator.tokenizer)
        if self.instruction is not None:
            write_json(folder / TASK_FILE, self.instruction)

    def open(self, folder: Path) -> OnnxModel:
        """The exported model."""
        return OnnxModel(folder)

    def compare(self, view: Comparable, reference: Reference) -> Parity:
        """Logits, distributions and greedy tokens against the merged torch model."""
        return compare(view, reference)


def make_recipe(run: Run, prepared: Prepared) -> CompletionRecipe:
    """The recipe of a job on its prepared rows."""
    tokenizer = load_tokenizer(prepared.model_path)
    config = read_json(prepared.model_path / "config.json") or {}
    context = int(config.get("max_position_embeddings", prepared.sequence_length))
    evaluator = Evaluator(
        rows=read_encoded(run.workspace.evaluation_rows, EncodedRow),
        tokenizer=tokenizer,
        generation=run.config.spec.evaluation.generation,
        stop_ids=frozenset({int(tokenizer.convert_tokens_to_ids(prepared.stop_token)), int(tokenizer.eos_token_id)}),
        context=context - virtual_tokens(run.config.spec.technique),
        judge=judge_of(run.config.spec.task, prepared.instruction),
    )
    return CompletionRecipe(run.config.name, prepared.model_path, evaluator, prepared.instruction)


def name_rope_type(path: Path) -> None:
    """Name the kind of scaled rotary embedding by its older key too, which the model builder reads."""
    config = read_json(path) or {}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default" and "type" not in rope:
        rope["type"] = rope["rope_type"]
        write_json(path, config)
