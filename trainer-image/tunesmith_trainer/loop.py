"""The training loop: transformers' Trainer with our loss, our batches and our callbacks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from tunesmith_api.enums import Precision, Schedule
from tunesmith_api.finetunejob import TrainingSpec
from tunesmith_trainer.batches import LengthBucketSampler
from tunesmith_trainer.callbacks import DivergenceGuard, ReportProgress, SealCheckpoints, StopOnPreemption
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.loss import Batch, collate, completion_loss
from tunesmith_trainer.precision import Device
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.progress import ProgressBoard
from tunesmith_trainer.torch_model import TorchModel

_SCHEDULES = {
    Schedule.COSINE: "cosine",
    Schedule.LINEAR: "linear",
    Schedule.CONSTANT: "constant_with_warmup",
}
#: Lines of the training log, about: a short run logs every step.
_LOG_LINES = 500
#: Evaluation rows whose loss is measured at each checkpoint, for the plot.
_CHECKPOINT_ROWS = 64


@dataclass(frozen=True)
class LoopPlan:
    """How a run is laid out.

    Attributes:
        spec: hyperparameters.
        total_steps: optimizer steps in all.
        precision: FP32, or autocast to BF16 or FP16.
        device: what it runs on.
        folder: where its checkpoints go.
    """

    spec: TrainingSpec
    total_steps: int
    precision: Precision
    device: Device
    folder: Path


def count_steps(spec: TrainingSpec, rows: int) -> int:
    """Optimizer steps of a run: epochs over the rows, the last batch of an epoch may be smaller; at most maxSteps."""
    batches = math.ceil(rows / spec.batch_size)
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
        learning_rate=spec.learning_rate,
        lr_scheduler_type=_SCHEDULES[spec.schedule],
        warmup_steps=round(spec.warmup_fraction * plan.total_steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_gradient_norm,
        optim="adamw_torch",
        seed=spec.seed,
        data_seed=spec.seed,
        bf16=plan.precision is Precision.BF16,
        fp16=plan.precision is Precision.FP16,
        use_cpu=on_cpu,
        logging_strategy="steps",
        logging_steps=max(1, plan.total_steps // _LOG_LINES),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        prediction_loss_only=True,
    )


class TuningTrainer(Trainer):
    """transformers' Trainer with completion-only logits, length-bucketed batches and our evaluation."""

    def __init__(self, model: Any, plan: LoopPlan, rows: Sequence[EncodedRow], evaluator: Evaluator) -> None:
        super().__init__(
            model=model,
            args=training_arguments(plan),
            train_dataset=_Rows(rows),
            eval_dataset=_Rows(evaluator.rows),
            data_collator=collate,
        )
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the whole step's tokens
        self.remove_callback(PrinterCallback)
        self._lengths = [len(row.input_ids) for row in rows]
        self._evaluator = evaluator
        self._progress: ReportProgress | None = None

    def watch(self, board: ProgressBoard, preemption: Preemption) -> None:
        """Attach our callbacks; the guard comes first, so that nothing after it sees a loss that is not finite."""
        self._progress = ReportProgress(board)
        for callback in (DivergenceGuard(), StopOnPreemption(preemption), SealCheckpoints(), self._progress):
            self.add_callback(callback)

    @property
    def tokens(self) -> int:
        """Input tokens without padding that this process has trained on."""
        return self._progress.tokens if self._progress is not None else 0

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBucketSampler:
        del train_dataset
        return LengthBucketSampler(self._lengths, self.args.train_batch_size, self.args.seed)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the base class's signature
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The loss of one batch over the labelled tokens of the whole optimizer step; a scalar."""
        del return_outputs
        if self._progress is not None:
            self._progress.tokens += int(inputs["attention_mask"].sum())
        return completion_loss(model, inputs, num_items_in_batch)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Log the mean loss per labelled token of the first evaluation rows."""
        counts = self._evaluator.count(TorchModel(self.model), limit=_CHECKPOINT_ROWS)
        metrics = {"eval_loss": counts.loss / max(counts.tokens, 1)}
        self.log(metrics)
        return metrics


class _Rows(torch.utils.data.Dataset[EncodedRow]):
    def __init__(self, rows: Sequence[EncodedRow]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> EncodedRow:
        return self._rows[place]
