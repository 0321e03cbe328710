"""What the planner says that a forward pass keeps, against the storages that autograd really keeps."""

from typing import Any

import pytest
import torch
import transformers

from tunesmith_api.enums import ModelKind
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.planner import Workload
from tunesmith_api.planner.memory import activation_bytes
from tunesmith_api.shapes import architecture_of
from tunesmith_trainer.adapters import Adaptation, adapt

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

ROWS, LENGTH = 4, 64
COMMON = {"vocab_size": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {**COMMON, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 8, "num_attention_heads": 4}
T5 = {**COMMON, "d_model": 64, "d_ff": 160, "d_kv": 16, "num_layers": 8, "num_heads": 4, "decoder_start_token_id": 0}
MARIAN = {**COMMON, "d_model": 64, "encoder_ffn_dim": 160, "decoder_ffn_dim": 160, "encoder_layers": 8}
MARIAN |= {"decoder_layers": 8, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_start_token_id": 0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Phi-3": ("phi3", {**DECODER, "num_key_value_heads": 4}),
    "Llama": ("llama", {**DECODER, "num_key_value_heads": 2}),
    "BERT": ("bert", DECODER),
    "T5": ("t5", {**T5, "feed_forward_proj": "relu"}),
    "Marian": ("marian", MARIAN),
    "gated T5": ("t5", {**T5, "feed_forward_proj": "gated-gelu"}),
}
PEFT = {name: {"type": "PEFT", "peft": {"method": name}} for name in ("IA3", "LoHa", "OFT", "BOFT", "HRA")}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "LoRA": {"type": "LoRA", "lora": {"rank": 1, "alpha": 1}},
    "DoRA": {"type": "DoRA", "lora": {"rank": 1, "alpha": 1}},
    "Full": {"type": "Full"},
    **PEFT,
}
CLASSES = {"bert": transformers.AutoModelForMaskedLM, "t5": transformers.AutoModelForSeq2SeqLM}
CLASSES["marian"] = CLASSES["t5"]


def kept_bytes(model: Any, call: dict[str, Any]) -> int:
    """Bytes of the storages that a forward pass keeps for the backward pass, weights aside."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # else another tensor could be given the same place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(**call)
    assert output is not None
    return sum(kept.values())


def batch() -> dict[str, torch.Tensor]:
    """Rows of different lengths."""
    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    mask[0, -3:] = 0
    return {"input_ids": torch.randint(3, COMMON["vocab_size"], (ROWS, LENGTH)), "attention_mask": mask}


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("name", MODELS)
def test_activations_are_what_autograd_keeps(name: str, technique: str) -> None:
    """At most 5 % below and an eighth above; the body of the model only, as logits have a part of their own."""
    model_type, settings = MODELS[name]
    config = transformers.AutoConfig.for_model(model_type, **settings)
    torch.manual_seed(0)
    base = CLASSES.get(model_type, transformers.AutoModelForCausalLM).from_config(config).train()
    architecture = architecture_of(config.to_dict())
    spec = TechniqueSpec.model_validate(TECHNIQUES[technique])
    model = adapt(base, Adaptation(spec, total_steps=3, task=""))
    body = model if technique == "Full" else model.get_base_model()
    call: dict[str, Any] = batch()
    if architecture.kind is ModelKind.SEQ2SEQ:
        call["decoder_input_ids"] = call["input_ids"]
    kept = kept_bytes(body.base_model, call)
    planned = activation_bytes(architecture, spec, Workload(ROWS, LENGTH))
    assert 0.95 * kept <= planned <= 1.125 * kept, f"{planned / kept:.3f} of what is kept"
