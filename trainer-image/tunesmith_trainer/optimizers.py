"""Optimizers that a technique brings along."""

from typing import Any

import torch
from peft.optimizers import create_loraplus_optimizer
from transformers import Trainer, TrainingArguments

from tunesmith_api.finetunejob import TechniqueSpec


def optimizer_for(model: Any, arguments: TrainingArguments, technique: TechniqueSpec) -> torch.optim.Optimizer | None:
    """LoRA+'s AdamW, which gives matrix B a higher learning rate than matrix A; None when the Trainer's own will do."""
    ratio = technique.lora.learning_rate_ratio if technique.lora else None
    if ratio is None:
        return None
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    rate, decay = options.pop("lr"), arguments.weight_decay
    optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
        model, kind, lr=rate, loraplus_lr_ratio=ratio, loraplus_weight_decay=decay, **options
    )
    return optimizer
