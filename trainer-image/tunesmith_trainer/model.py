"""Loading the base model."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tunesmith_trainer.quantized import keep_trainable


def load_base(path: Path, device: str = "cpu", quantization: Any = None) -> Any:
    """The base model in fp32 or quantised, from safetensors only; code of the repository is never run.

    Args:
        path: the model's folder.
        device: where it goes.
        quantization: how its linear layers are stored (see `quantized`); None for fp32.
    """
    options = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": device}}
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
    )
    return (model.to(device) if quantization is None else keep_trainable(model)).eval()
