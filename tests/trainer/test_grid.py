"""Every technique on every kind of model that it fits: it learns, changes what it says, and survives a round trip."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from tunesmith_api.enums import Precision
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.tasks import ModelKind
from tunesmith_api.techniques import TECHNIQUES, quantization_of, technique_of
from tunesmith_trainer.adalora import is_adalora
from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.quantized import keep_trainable, quantization_config
from tunesmith_trainer.tuned import load_tuned, merged, save_tuned

sys.path.insert(0, str(Path(__file__).parent))
from tiny_models import FAMILIES, WORDS, make_tiny

pytestmark = [
    pytest.mark.torch,
    pytest.mark.extended,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

STEPS = 8
#: The kind of model by PEFT's name of the task that it is made for.
KINDS = {
    "CAUSAL_LM": ModelKind.CAUSAL,
    "SEQ_CLS": ModelKind.ENCODER,
    "TOKEN_CLS": ModelKind.ENCODER,
    "SEQ_2_SEQ_LM": ModelKind.SEQ2SEQ,
}
#: A tiny model needs larger steps than those of a real one, which the table's learning rates are for.
HASTE = 5


def spec_of(name: str) -> TechniqueSpec:
    """The technique spec of a row's example."""
    return TechniqueSpec.model_validate(TECHNIQUES[name].example)


def cells() -> list[Any]:
    """Families and techniques that the table puts together."""
    return [
        pytest.param((family, name), id=f"{family}-{name}")
        for family in FAMILIES
        for name, row in TECHNIQUES.items()
        if KINDS[FAMILIES[family][1]] in row.kinds
    ]


def base_of(family: str, asked: TechniqueSpec, folder: Path) -> Any:
    """The base model of a family as the technique trains on it, the same each time."""
    quantization = quantization_of(asked)
    model, _ = make_tiny(family)
    if quantization is None:
        return model
    model.save_pretrained(folder)
    asked_config = quantization_config(quantization, Precision.FP32)
    stored = {"quantization_config": asked_config, "device_map": {"": "cpu"}, "dtype": torch.float32}
    return keep_trainable(type(model).from_pretrained(folder, **stored)).eval()


def batch_of(model: Any, task: str) -> dict[str, torch.Tensor]:
    """Four rows with what they teach."""
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...], low: int, high: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    ids = draw((4, 12), 5, WORDS)
    labels = {
        "CAUSAL_LM": ids,
        "SEQ_CLS": draw((4,), 0, 3),
        "TOKEN_CLS": draw((4, 12), 0, 3),
        "SEQ_2_SEQ_LM": draw((4, 6), 5, WORDS),
    }[task]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@torch.no_grad()
def logits_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's logits for a batch, whose labels an encoder-decoder reads as what it has said so far."""
    asked = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if model.config.is_encoder_decoder:
        asked["decoder_input_ids"] = batch["labels"]
    return model.eval()(**asked).logits


@dataclass(frozen=True)
class Cell:
    """A technique on a family before and after some steps.

    Attributes:
        family, task, asked: which cell it is.
        model: the trained model.
        batch: what it was trained on.
        start: its weights before.
        losses: of each step.
    """

    family: str
    task: str
    asked: TechniqueSpec
    model: Any
    batch: dict[str, torch.Tensor]
    start: dict[str, torch.Tensor]
    losses: list[float]


@pytest.fixture(scope="module", params=cells())
def cell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """Each cell, trained."""
    family, name = request.param
    asked, task = spec_of(name), make_tiny(family)[1]
    torch.manual_seed(1)
    base = base_of(family, asked, tmp_path_factory.mktemp("base"))
    model = adapt(base, Adaptation(asked, task=task, total_steps=STEPS))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    batch = batch_of(model, task)
    return Cell(family, task, asked, model, batch, before, learn(model.eval(), asked, batch))


def learn(model: Any, asked: TechniqueSpec, batch: dict[str, torch.Tensor]) -> list[float]:
    """Some steps on one batch, without the noise of dropout; the loss of each, and after them."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=technique_of(asked).learning_rate * HASTE, weight_decay=0)
    losses = []
    for step in range(STEPS):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        if is_adalora(model):
            model.base_model.update_and_allocate(step + 1)
        optimizer.zero_grad()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(model.eval()(**batch).loss.item())
    return losses


def test_the_loss_falls(cell: Cell) -> None:
    """A few steps on one batch lower the loss on it."""
    assert cell.losses[-1] < cell.losses[0], cell.losses


def test_only_declared_weights_change(cell: Cell) -> None:
    """What asks for no gradient is the same to the last bit, and most of what asks for one has moved."""
    now = dict(cell.model.named_parameters())
    moved = {name for name, weight in now.items() if not torch.equal(weight, cell.start[name])}
    declared = {name for name, weight in now.items() if weight.requires_grad}
    assert moved <= declared
    assert len(moved) > len(declared) / 2


def test_saved_and_loaded_it_says_the_same(cell: Cell, tmp_path: Path) -> None:
    """The result, loaded on a fresh base, has the same logits."""
    save_tuned(cell.model, tmp_path / "tuned")
    loaded = load_tuned(base_of(cell.family, cell.asked, tmp_path / "base"), tmp_path / "tuned")
    expected = logits_of(cell.model, cell.batch)
    torch.testing.assert_close(logits_of(loaded, cell.batch), expected, rtol=0, atol=2e-5)


def test_merged_it_says_the_same(cell: Cell, tmp_path: Path) -> None:
    """Merged into the full-precision base, it is a plain model with the same logits as unmerged on that base."""
    save_tuned(cell.model, tmp_path)
    loaded = load_tuned(make_tiny(cell.family)[0], tmp_path)
    unmerged = logits_of(loaded, cell.batch)
    if not technique_of(cell.asked).merges:
        with pytest.raises(AttributeError):
            merged(loaded)
        return
    plain = merged(loaded)
    assert not isinstance(plain, peft.PeftModel)
    torch.testing.assert_close(logits_of(plain, cell.batch), unmerged, rtol=0, atol=1e-4)
