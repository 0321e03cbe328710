"""What a job needs before anything is spent: memory, by formulas that each cite their source. Pure arithmetic."""

from dataclasses import dataclass

from tunesmith_api.catalog import Architecture
from tunesmith_api.finetunejob import LoraSpec

#: Python, torch, transformers and PEFT before a model is loaded: a 0.8 M-parameter job peaks at 1.04 GB in all.
FRAMEWORK_BYTES = 950 * 2**20
#: Longest sequence that is trained on when the job does not say: longer rows rarely pay for their memory.
DEFAULT_SEQUENCE_LENGTH = 2048


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory of a training process by its parts, all in bytes."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    framework: int

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return (
            self.weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
            + self.logits
            + self.framework
        )


def linear_widths(model: Architecture) -> dict[str, tuple[int, int]]:
    """Input and output width of each linear module of a decoder layer, by Phi-3's fused names."""
    head = model.hidden_size // model.num_attention_heads
    fused = head * (model.num_attention_heads + 2 * model.num_key_value_heads)
    return {
        "qkv_proj": (model.hidden_size, fused),
        "o_proj": (head * model.num_attention_heads, model.hidden_size),
        "gate_up_proj": (model.hidden_size, 2 * model.intermediate_size),
        "down_proj": (model.intermediate_size, model.hidden_size),
    }


def lora_parameters(model: Architecture, rank: int) -> int:
    """Trained weights of LoRA on every linear layer: rank x (input + output) each (Hu et al. 2021, section 4)."""
    return model.num_hidden_layers * sum(rank * (a + b) for a, b in linear_widths(model).values())


def widest_rank(model: Architecture) -> int:
    """The greatest rank that still is a low-rank update: the narrowest side of any adapted layer."""
    return min(min(widths) for widths in linear_widths(model).values())


def estimate_lora_memory(
    model: Architecture, lora: LoraSpec, *, batch_size: int, sequence_length: int, weight_bytes: int = 4
) -> MemoryEstimate:
    """Peak memory of LoRA training without gradient checkpointing.

    Activations per layer and token, in half precision: 18 x hidden bytes for attention, norms and residuals
    (Korthikanti et al. 2022, section 4.1, without the attention matrix, which scaled-dot-product attention does not
    keep) and 8 x intermediate bytes for a gated feed-forward layer; twice that in fp32.
    Logits: one fp32 row of the vocabulary per token, three copies (logits, log-softmax, gradient).
    """
    trained = lora_parameters(model, lora.rank)
    tokens = batch_size * sequence_length
    per_token = 18 * model.hidden_size + 8 * model.intermediate_size
    return MemoryEstimate(
        weights=model.parameters * weight_bytes,
        adapter=trained * 4,
        gradients=trained * 4,
        optimizer=trained * 8,
        activations=model.num_hidden_layers * tokens * per_token * 4 // 2,
        logits=tokens * model.vocab_size * 4 * 3,
        framework=FRAMEWORK_BYTES,
    )


def estimate_export_memory(model: Architecture, *, quantized: bool) -> int:
    """Peak memory of the ONNX model builder in bytes.

    Measured: 0.5 GB, and per weight 4.2 bytes in fp32 or 10 bytes when it quantises.
    """
    return int(0.5e9 + model.parameters * (10 if quantized else 4.2)) + FRAMEWORK_BYTES
