"""What a technique trained: saved exactly, loaded again, merged into the base weights, counted."""

from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file

from tunesmith_trainer.adapters import expected_warnings
from tunesmith_trainer.workspace import make_readable

#: Every trained weight by its name in the model: a checkpoint's, and the result of full tuning.
TRAINED = "trained.safetensors"


def count_parameters(model: Any) -> tuple[int, int]:
    """Trained weights, and weights in all; a 4-bit weight or a parted one counts as what it stands for."""
    counts = [(_logical(weight), weight.requires_grad) for weight in model.parameters()]
    return sum(count for count, trained in counts if trained), sum(count for count, _ in counts)


def _logical(weight: Any) -> int:
    state = getattr(weight, "quant_state", None)
    return int(getattr(weight, "ds_numel", weight.numel())) if state is None else int(torch.Size(state.shape).numel())


def trained_weights(model: Any, weights: dict[str, Any] | None = None) -> dict[str, Any]:
    """Every trained weight by its name, from the model or from weights that were gathered for it."""
    named = dict(model.named_parameters()) if weights is None else weights
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    return {name: named[name].detach().cpu().contiguous() for name in trained}


def save_trained(model: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Save every trained weight as it is, so that a run goes on exactly."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(trained_weights(model, weights), folder / TRAINED)


def load_trained(model: Any, folder: Path) -> Any:
    """Put the trained weights of a folder into a model that was adapted alike."""
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_file(folder / TRAINED).items():
            weights[name].copy_(value)
    return model


def save_tuned(model: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Save the result: an adapter in PEFT's layout, or the weights that full tuning trained.

    Args:
        model: the tuned model.
        folder: where the result goes.
        weights: the trained weights, where they were gathered for it.
    """
    if isinstance(model, peft.PeftModel):
        model.save_pretrained(folder, state_dict=weights)
    else:
        save_trained(model, folder, weights)
    make_readable([folder])


def load_tuned(base: Any, folder: Path) -> Any:
    """A full-precision base model with the result of a training on it."""
    if (folder / TRAINED).is_file():
        return load_trained(base, folder).eval()
    with expected_warnings():
        return peft.PeftModel.from_pretrained(base, folder, is_trainable=False, local_files_only=True).eval()


def merged(model: Any) -> Any:
    """The plain model that a tuned one amounts to; the base must not be quantised."""
    return model.merge_and_unload() if isinstance(model, peft.PeftModel) else model


def result_file(folder: Path) -> Path:
    """The file that holds a result's weights."""
    full = folder / TRAINED
    return full if full.is_file() else folder / "adapter_model.safetensors"
