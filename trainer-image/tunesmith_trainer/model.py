"""Loading the base model and putting an adapter on it."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tunesmith_api.enums import LoraInit
from tunesmith_api.finetunejob import LoraSpec

#: PEFT's names of the initialisations.
_INITS: dict[LoraInit, bool | str] = {LoraInit.DEFAULT: True, LoraInit.GAUSSIAN: "gaussian"}


def load_base(path: Path, device: str = "cpu") -> Any:
    """The base model in fp32, from safetensors only; code of the repository is never run."""
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    return model.to(device).eval()


def add_lora(model: Any, lora: LoraSpec, targets: list[str]) -> Any:
    """The model with a fresh LoRA adapter on some modules; only the adapter is trained."""
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rank_stabilized,
        init_lora_weights=_INITS[lora.init],
        target_modules=targets,
    )
    return get_peft_model(model, config)


def load_adapter(model: Any, path: Path) -> Any:
    """The model with the adapter that lies in a folder (also a checkpoint)."""
    return PeftModel.from_pretrained(model, path, is_trainable=False, local_files_only=True).eval()


def count_parameters(model: Any) -> tuple[int, int]:
    """Trained weights, and weights in all."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return trained, sum(weight.numel() for weight in model.parameters())
