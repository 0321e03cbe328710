"""The completion-only loss is the stock loss, computed on fewer positions."""

import copy
from pathlib import Path
from warnings import catch_warnings, simplefilter

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer
from trl import SFTConfig, SFTTrainer

from tunesmith_api.enums import Precision, TechniqueType
from tunesmith_api.finetunejob import GenerationSpec, LoraSpec, TechniqueSpec, TrainingSpec
from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.batches import LengthBucketSampler
from tunesmith_trainer.completion import CompletionRecipe
from tunesmith_trainer.encode import IGNORED, EncodedRow
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.loop import LoopPlan, TuningTrainer, count_steps
from tunesmith_trainer.loss import collate, completion_loss
from tunesmith_trainer.precision import Device
from tunesmith_trainer.tokenizer import load_tokenizer

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"


def make_rows(count):
    """Rows of several lengths, whose later part is learnt."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for place in range(count):
        length = 8 + 5 * (place % 4)
        ids = torch.randint(5, 300, (length,), generator=generator).tolist()
        start = length // 2 + place % 3
        rows.append(EncodedRow(ids, [IGNORED] * start + ids[start:], start, ""))
    return rows


@pytest.fixture(scope="module")
def base():
    """The example's base model."""
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


def test_it_equals_the_stock_loss_and_gradients(base):
    """Same loss and same gradient norm as the model's own loss on a padded batch."""
    batch = collate(make_rows(4))
    results = []
    for loss_of in (lambda model: completion_loss(model, batch), lambda model: model(**batch, use_cache=False).loss):
        model = copy.deepcopy(base)
        loss = loss_of(model)
        loss.backward()
        results.append((loss.item(), gradient_norm(model)))
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def run_loop(base, folder, trainer_class, accumulation):
    """Six steps of training with a seeded adapter: the logged losses and gradient norms."""
    torch.manual_seed(0)
    spec = TrainingSpec(epochs=2, batch_size=4, gradient_accumulation_steps=accumulation, learning_rate=0.01)
    rows = make_rows(24)
    plan = LoopPlan(spec, count_steps(spec, len(rows)), Precision.FP32, Device("cpu", bf16=False), folder)
    lora = TechniqueSpec(type=TechniqueType.LORA, lora=LoraSpec(rank=4))
    model = adapt(copy.deepcopy(base), Adaptation(lora, ["qkv_proj", "o_proj"]))
    evaluator = Evaluator(rows[:2], load_tokenizer(MODEL), GenerationSpec(), frozenset({0}), 512)
    trainer = trainer_class(model, plan, rows, CompletionRecipe("test", MODEL, evaluator))
    trainer.train()
    return [(line["loss"], line["grad_norm"]) for line in trainer.state.log_history if "loss" in line]


class StockLoss(TuningTrainer):
    """The same loop with transformers' own loss."""

    compute_loss = Trainer.compute_loss


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_logs_what_the_stock_trainer_logs(base, tmp_path, accumulation):
    """Losses and gradient norms of a whole run agree with transformers' own loss, with and without accumulation."""
    ours = run_loop(base, tmp_path / "ours", TuningTrainer, accumulation)
    stock = run_loop(base, tmp_path / "stock", StockLoss, accumulation)
    assert len(ours) == 12 // accumulation
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine == pytest.approx(theirs, rel=2e-5)


def trl_loss(model, rows, folder):
    """TRL's own trainer on the same rows: its loss and gradient norm of one batch, over the completions."""
    with catch_warnings():
        simplefilter("ignore")  # TRL warns of the tokenizer's special tokens and of its own deprecations
        trainer = SFTTrainer(
            model,
            args=SFTConfig(
                output_dir=str(folder),
                use_cpu=True,
                bf16=False,
                report_to="none",
                per_device_train_batch_size=len(rows),
                completion_only_loss=True,
                gradient_checkpointing=False,
            ),
            processing_class=load_tokenizer(MODEL),
            train_dataset=datasets.Dataset.from_list(
                [
                    {"input_ids": row.input_ids, "completion_mask": [int(label != IGNORED) for label in row.labels]}
                    for row in rows
                ]
            ),
        )
        batch = next(iter(trainer.get_train_dataloader()))
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), gradient_norm(trainer.model)


def gradient_norm(model):
    """The norm of all gradients together."""
    return torch.nn.utils.get_total_norm([w.grad for w in model.parameters() if w.grad is not None]).item()


def test_it_equals_trls_loss(base, tmp_path):
    """TRL's trainer, with its own collator and its own loss, comes to the same number on the same rows."""
    rows = make_rows(4)
    model = copy.deepcopy(base)
    loss = completion_loss(model, collate(rows))
    loss.backward()

    assert (loss.item(), gradient_norm(model)) == pytest.approx(trl_loss(copy.deepcopy(base), rows, tmp_path), rel=1e-5)


def test_batches_hold_rows_of_like_length_and_every_row_once():
    """Within an epoch each row comes once, batches are nearly uniform in length, and epochs differ reproducibly."""
    lengths = [8 + 7 * (place % 9) for place in range(90)]
    sampler = LengthBucketSampler(lengths, 10, seed=3)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert sorted(epochs[0]) == list(range(90))
    assert epochs[0] == epochs[2] != epochs[1]
    for start in range(0, 90, 10):
        assert len({lengths[row] for row in epochs[0][start : start + 10]}) == 1


@pytest.mark.parametrize(
    ("epochs", "rows", "batch", "accumulation", "most", "steps"),
    [
        (1, 10, 4, 1, None, 3),
        (2, 10, 4, 2, None, 4),
        (0.5, 8, 4, 1, None, 1),
        (3, 100, 10, 1, 7, 7),
        (0.01, 8, 8, 1, None, 1),
    ],
)
def test_steps_follow_from_epochs_and_the_bound(epochs, rows, batch, accumulation, most, steps):
    """The last batch of an epoch may be smaller, maxSteps bounds, and one step is the least."""
    spec = TrainingSpec(epochs=epochs, batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=most)
    assert count_steps(spec, rows) == steps
