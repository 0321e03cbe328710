"""The training loop: transformers' Trainer with our loss, our batches and our callbacks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from tunesmith_api.enums import Precision, Schedule
from tunesmith_api.finetunejob import TechniqueSpec, TrainingSpec
from tunesmith_trainer.adalora import AllocateRank, is_adalora, load_importance, orthogonality
from tunesmith_trainer.batches import BLANK, LengthBucketSampler
from tunesmith_trainer.callbacks import DivergenceGuard, ReportProgress, SealCheckpoints, StopTogether
from tunesmith_trainer.encode import IGNORED
from tunesmith_trainer.encoded import lengths_of
from tunesmith_trainer.environment import return_memory
from tunesmith_trainer.gang import Gang
from tunesmith_trainer.optimizers import optimizer_for
from tunesmith_trainer.precision import Device
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.progress import ProgressBoard
from tunesmith_trainer.recipe import Batch, Recipe, TokenRow
from tunesmith_trainer.stopping import StopEarly
from tunesmith_trainer.tuned import load_trained, save_trained
from tunesmith_trainer.zero import Weights

_SCHEDULES = {
    Schedule.COSINE: "cosine",
    Schedule.LINEAR: "linear",
    Schedule.CONSTANT: "constant_with_warmup",
}
#: Lines of the training log, about: a short run logs every step.
_LOG_LINES = 500
#: Evaluation rows whose loss is measured at each checkpoint: for the plot, and to decide by.
_PLOT_ROWS, _DECISION_ROWS = 64, 512
#: Checkpoints that are kept: the newest, and the one before it, for a kill while the newest is written.
_KEPT = 2


@dataclass(frozen=True)
class LoopPlan:
    """How a run is laid out.

    Attributes:
        spec: hyperparameters.
        total_steps: optimizer steps in all.
        precision: FP32, or autocast to BF16 or FP16.
        device: what it runs on.
        folder: where its checkpoints go.
        technique: what is trained.
        weights: the processes, and who of them holds the weights.
    """

    spec: TrainingSpec
    total_steps: int
    precision: Precision
    device: Device
    folder: Path
    technique: TechniqueSpec = field(default_factory=TechniqueSpec)
    weights: Weights = field(default_factory=Weights)

    @property
    def gang(self) -> Gang:
        """The processes of the training."""
        return self.weights.gang


def count_steps(spec: TrainingSpec, rows: int, world: int = 1) -> int:
    """Optimizer steps of a run: epochs over the rows, the last batch of an epoch may be smaller; at most maxSteps.

    Args:
        spec: hyperparameters.
        rows: training rows.
        world: processes that each take a batch of their own at a time.
    """
    batches = math.ceil(rows / (spec.batch_size * world))
    steps = math.ceil(spec.epochs * math.ceil(batches / spec.gradient_accumulation_steps))
    return max(1, min(steps, spec.max_steps or steps))


def training_arguments(plan: LoopPlan) -> TrainingArguments:
    """The Trainer's arguments: nothing is left to a default that matters."""
    spec = plan.spec
    on_cpu = plan.device.name == "cpu"
    every = min(spec.checkpoint_every_steps, plan.total_steps)
    return TrainingArguments(
        output_dir=str(plan.folder),
        max_steps=plan.total_steps,
        per_device_train_batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        gradient_checkpointing=spec.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},  # the other kind has no gradient below frozen weights
        learning_rate=spec.learning_rate,
        lr_scheduler_type=_SCHEDULES[spec.schedule],
        warmup_steps=round(spec.warmup_fraction * plan.total_steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_gradient_norm,
        optim="adamw_torch" if on_cpu else "adamw_torch_fused",  # torch's other one holds all denominators at once
        seed=spec.seed,
        data_seed=spec.seed,
        bf16=plan.precision is Precision.BF16 and plan.weights.config is None,
        fp16=plan.precision is Precision.FP16,
        use_cpu=on_cpu,
        logging_strategy="steps",
        logging_steps=max(1, plan.total_steps // _LOG_LINES),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=_KEPT if spec.early_stopping is None else _KEPT + 1,  # and the best one
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        prediction_loss_only=True,
        average_tokens_across_devices=True,
        ddp_find_unused_parameters=False,
        deepspeed=plan.weights.config,
    )


class TuningTrainer(Trainer):
    """transformers' Trainer with the recipe's loss and evaluation, and length-bucketed batches."""

    def __init__(self, model: Any, plan: LoopPlan, rows: Sequence[TokenRow], recipe: Recipe) -> None:
        super().__init__(
            model=model,
            args=training_arguments(plan),
            train_dataset=_Rows(rows),
            eval_dataset=_Rows(recipe.evaluation),
            data_collator=BatchCollator(recipe),
        )
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the whole step's labels
        self.remove_callback(PrinterCallback)
        self._technique = plan.technique
        self._lengths = lengths_of(rows)
        self._recipe = recipe
        self._plan = plan
        self._progress: ReportProgress | None = None

    def watch(self, board: ProgressBoard, preemption: Preemption, stopping: StopEarly | None = None) -> None:
        """Attach our callbacks; the guard comes first, so that nothing after it sees a loss that is not finite."""
        gang = self._plan.gang
        self._progress = ReportProgress(board)
        allocation = [AllocateRank(self.model)] if is_adalora(self.model) else []
        early = [] if stopping is None else [stopping]
        for callback in (
            *(DivergenceGuard(), StopTogether(preemption, gang, self._progress)),
            *(*allocation, *early, SealCheckpoints(gang), self._progress),
        ):
            self.add_callback(callback)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The technique's optimizer, else the Trainer's own."""
        tuned = self.model if model is None else model
        self.optimizer: Any = self.optimizer or optimizer_for(tuned, self.args, self._technique)
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        return optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the trained weights as they are: PEFT's own layout leaves out what an exact resume needs."""
        if self.args.should_save:
            save_trained(self.model, Path(output_dir or self.args.output_dir), state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take up the trained weights, and the importance that ranks are allocated by."""
        tuned, folder = load_trained(model or self.model, Path(resume_from_checkpoint)), Path(resume_from_checkpoint)
        if is_adalora(tuned):
            load_importance(tuned.base_model, folder)

    @property
    def tokens(self) -> int:
        """Input tokens without padding that all processes have trained on since this one began."""
        return self._progress.tokens if self._progress is not None else 0

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBucketSampler:
        del train_dataset
        whole = self.args.train_batch_size * self._plan.gang.world
        return LengthBucketSampler(self._lengths, whole, self.args.seed, fill=self._plan.gang.world > 1)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the base class's signature
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The loss of one batch over the labels of the whole optimizer step; a scalar."""
        del return_outputs
        if self._progress is not None:
            self._progress.add(int(inputs["attention_mask"].sum()))
        loss: torch.Tensor = self._recipe.loss(model, inputs, num_items_in_batch)
        if num_items_in_batch is not None:  # gradients are averaged over the processes, and the items are all of theirs
            loss = loss * self._plan.gang.world
        if is_adalora(self.model) and model.training:
            loss = loss + orthogonality(self.model) / self.args.gradient_accumulation_steps
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Log the mean loss of the first evaluation rows; what the start of a run measures decides nothing."""
        return_memory()
        metrics = {"eval_loss": self._plan.weights.measure(self._mean_loss)}
        return_memory()
        self.log(metrics)
        if self.control.should_evaluate:
            self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _mean_loss(self) -> float:
        rows = _PLOT_ROWS if self._plan.spec.early_stopping is None else _DECISION_ROWS
        return self._recipe.mean_loss(self.model, limit=rows)


#: A row, and whether it only fills a batch up.
Place = tuple[TokenRow, bool]


class _Rows(torch.utils.data.Dataset[Place]):
    def __init__(self, rows: Sequence[TokenRow]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Place:
        return (self._rows[0], True) if place == BLANK else (self._rows[place], False)


class BatchCollator:
    """Batches whose filling rows teach nothing."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, places: Sequence[Place]) -> Batch:
        """The rows' batch, with no labels where a row only fills."""
        batch = self._recipe.collate([row for row, _ in places])
        blank = torch.tensor([fills for _, fills in places])
        if blank.any():
            batch["labels"][blank] = IGNORED
        return batch
