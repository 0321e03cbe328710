"""A technique on a tiny model, put there and trained by the real recipe and the real loop; what it was before."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.enums import Precision
from tunesmith_api.finetunejob import TechniqueSpec, TrainingSpec
from tunesmith_api.techniques import TECHNIQUES, quantization_of, technique_of
from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.loop import LoopPlan, TuningTrainer
from tunesmith_trainer.precision import Device
from tunesmith_trainer.quantized import quantization_config
from tunesmith_trainer.recipe import Recipe

STEPS = 8
#: A tiny model needs larger steps than those of a real one, which the table's learning rates are for.
HASTE = 5


def spec_of(name: str) -> TechniqueSpec:
    """The technique spec of a row's example."""
    return TechniqueSpec.model_validate(TECHNIQUES[name].example)


def base_of(recipe: Recipe, asked: TechniqueSpec) -> Any:
    """The base model as the technique trains on it."""
    quantization = quantization_of(asked)
    return recipe.load_base(quantization=quantization and quantization_config(quantization, Precision.FP32))


def start(recipe: Recipe, asked: TechniqueSpec) -> Any:
    """A freshly adapted model, the same each time."""
    base = base_of(recipe, asked)
    torch.manual_seed(1)
    targets = (asked.lora.target_modules if asked.lora else None) or ()
    return adapt(base, Adaptation(asked, targets, recipe.peft_task, STEPS))


def trainer_of(
    model: Any,
    asked: TechniqueSpec,
    recipe: Recipe,
    folder: Path,
    precision: Precision = Precision.FP32,
    **more: Any,
) -> TuningTrainer:
    """The trainer of eight steps on the evaluation rows, with a checkpoint after the fourth; `more` hyperparameters."""
    rate = technique_of(asked).learning_rate * HASTE
    every = STEPS // 2
    spec = TrainingSpec(batch_size=4, learning_rate=rate, checkpoint_every_steps=every, warmup_fraction=0, **more)
    plan = LoopPlan(spec, STEPS, precision, Device("cpu", bf16=False), folder, asked)
    trainer = TuningTrainer(model, plan, recipe.evaluation, recipe)
    trainer.watch(Board(), Calm())
    return trainer


class Board:
    """A progress board that nobody reads."""

    latest = type("Latest", (), {"step": 0, "total_steps": 0, "loss": 0.0})

    def start(self) -> None:
        """Nothing to do."""

    def reach(self, *_: Any) -> None:
        """Nothing to do."""

    def advance(self, *_: Any) -> None:
        """Nothing to do."""


class Calm:
    """No SIGTERM."""

    requested = False


@dataclass(frozen=True)
class Trained:
    """A technique before and after eight steps.

    Attributes:
        asked: the technique.
        recipe: how its model is loaded and taught.
        model: the trained model.
        start: its weights before.
        end: its weights after; bounded OFT moves the last bit of its own whenever it is asked something.
        first_loss: on all rows before.
        folder: where the checkpoints are.
    """

    asked: TechniqueSpec
    recipe: Any
    model: Any
    start: dict[str, torch.Tensor]
    end: dict[str, torch.Tensor]
    first_loss: float
    folder: Path

    @property
    def moved(self) -> set[str]:
        """The weights that are not what they were, to the last bit."""
        return {name for name, weight in self.end.items() if not torch.equal(weight, self.start[name])}

    @property
    def declared(self) -> set[str]:
        """The weights that ask for gradients."""
        return {name for name, weight in self.model.named_parameters() if weight.requires_grad}


def train(asked: TechniqueSpec, recipe: Recipe, folder: Path) -> Trained:
    """Put a technique on its recipe's model and train it."""
    model = start(recipe, asked)
    before = _copied(model)
    first = recipe.mean_loss(model)
    trainer_of(model, asked, recipe, folder).train()
    return Trained(asked, recipe, model.eval(), before, _copied(model), first, folder)


def _copied(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def logits_of(recipe: Recipe, model: Any) -> list[torch.Tensor]:
    """What a model says of two rows: each of its outputs that are logits."""
    batch = recipe.collate(recipe.evaluation[:2])
    said = model.eval()(**{name: tensor for name, tensor in batch.items() if name != "labels"})
    return [output for name, output in said.items() if name.endswith("logits")]
