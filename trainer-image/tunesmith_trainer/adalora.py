"""What AdaLoRA does beside the gradient step: moving rank to where it matters, and keeping P and Q orthogonal.

PEFT leaves both to the training loop; without them no rank is ever given up and nothing says so.
"""

from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from tunesmith_trainer.workspace import read_json, write_json

#: How important each singular value has been so far, by moving averages; with the pattern of the kept ones.
_IMPORTANCE, _PATTERN = "adalora.safetensors", "adalora.json"
_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def is_adalora(model: Any) -> bool:
    """Whether a model carries AdaLoRA."""
    config = getattr(model, "active_peft_config", None)
    return config is not None and config.peft_type == peft.PeftType.ADALORA


class AllocateRank(TrainerCallback):
    """Gives up the least important singular values after each optimizer step, and remembers their importance."""

    def __init__(self, model: Any) -> None:
        self._tuner = model.base_model

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Allocate while the gradients are still there; steps count from 1, so that the last one is final."""
        del args, control
        self._tuner.update_and_allocate(state.global_step + 1)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save the importance beside the checkpoint's weights."""
        del control
        if state.is_world_process_zero:
            save_importance(self._tuner, Path(args.output_dir) / f"checkpoint-{state.global_step}")


def save_importance(tuner: Any, folder: Path) -> None:
    """Save what the allocation of ranks depends on."""
    allocator = tuner.rankallocator
    tensors = {
        f"{average}/{name}": value.detach().cpu().contiguous()
        for average in _AVERAGES
        for name, value in getattr(allocator, average).items()
    }
    save_file(tensors, folder / _IMPORTANCE)
    write_json(folder / _PATTERN, {"rank_pattern": tuner.peft_config[tuner.trainable_adapter_name].rank_pattern})


def load_importance(tuner: Any, folder: Path) -> None:
    """Restore what `save_importance` saved."""
    device = next(tuner.parameters()).device
    for key, value in load_file(folder / _IMPORTANCE).items():
        average, _, name = key.partition("/")
        getattr(tuner.rankallocator, average)[name] = value.to(device)
    pattern = read_json(folder / _PATTERN) or {}
    tuner.peft_config[tuner.trainable_adapter_name].rank_pattern = pattern.get("rank_pattern")


def orthogonality(model: Any) -> torch.Tensor:
    """The mean distance of P P' and Q' Q from the identity, weighted: Zhang et al. 2023, equation 4; a scalar."""
    config = model.active_peft_config
    products = [
        weight @ weight.T if "lora_A" in name else weight.T @ weight
        for name, weight in model.named_parameters()
        if "lora_A" in name or "lora_B" in name
    ]
    distances = [torch.linalg.norm(product - torch.eye(len(product), device=product.device)) for product in products]
    penalty: torch.Tensor = config.orth_reg_weight * torch.stack(distances).mean()
    return penalty


def kept_ranks(model: Any) -> tuple[int, int]:
    """Singular values that are not zero, and all of them."""
    values = [weight for name, weight in model.named_parameters() if "lora_E" in name]
    return sum(int(torch.count_nonzero(value)) for value in values), sum(value.numel() for value in values)
