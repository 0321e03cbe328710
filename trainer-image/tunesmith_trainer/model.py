"""Loading the base model."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tunesmith_trainer.quantized import keep_trainable


def load_base(path: Path, device: str = "cpu", quantization: Any = None) -> Any:
    """The base model of a causal model; see `load_pretrained`."""
    return load_pretrained(AutoModelForCausalLM, path, device, quantization)[0]


def load_pretrained(
    auto: Any, path: Path, device: str = "cpu", quantization: Any = None, **options: Any
) -> tuple[Any, list[str]]:
    """A model in fp32 or quantised, from safetensors only; code of the repository is never run.

    Args:
        auto: transformers' class that loads it, such as `AutoModelForCausalLM`.
        path: the model's folder.
        device: where it goes.
        quantization: how its linear layers are stored (see `quantized`); None for fp32.
        options: more of `from_pretrained`'s.

    Returns:
        The model, and the names of the weights that the folder lacks, which are new.
    """
    if quantization is not None:
        options |= {"quantization_config": quantization, "device_map": {"": device}}
    model, loaded = auto.from_pretrained(
        path,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    model = model.to(device) if quantization is None else keep_trainable(model)
    return model.eval(), sorted(loaded["missing_keys"])
