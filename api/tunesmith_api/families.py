"""What the layers of each model family are called, which decides what a technique adapts. Pure data.

Names are relative to a layer; where two match, the longer one decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One model family.

    Attributes:
        layers: where the stack of layers lies that is trained last (of an encoder-decoder model: the decoder's).
        attention: linear layers of the attention.
        feedforward: linear layers of the feed-forward block.
        tail: what follows the last layer, beside a task's head.
    """

    layers: str
    attention: tuple[str, ...]
    feedforward: tuple[str, ...]
    tail: tuple[str, ...]


_LLAMA = Family(
    layers="model.layers",
    attention=("q_proj", "k_proj", "v_proj", "o_proj"),
    feedforward=("gate_proj", "up_proj", "down_proj"),
    tail=("model.norm", "lm_head"),
)
_BERT = Family(
    layers="encoder.layer",
    attention=("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    feedforward=("intermediate.dense", "output.dense"),
    tail=("pooler",),
)

#: By `model_type` of the configuration.
FAMILIES: dict[str, Family] = {
    "phi3": Family(
        layers="model.layers",
        attention=("qkv_proj", "o_proj"),
        feedforward=("gate_up_proj", "down_proj"),
        tail=("model.norm", "lm_head"),
    ),
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "smollm3"), _LLAMA),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), _BERT),
    "distilbert": Family(
        layers="transformer.layer",
        attention=("q_lin", "k_lin", "v_lin", "out_lin"),
        feedforward=("lin1", "lin2"),
        tail=(),
    ),
    "t5": Family(
        layers="decoder.block",
        attention=("q", "k", "v", "o"),
        feedforward=("wi", "wi_0", "wi_1", "wo"),
        tail=("decoder.final_layer_norm", "lm_head"),
    ),
    "marian": Family(
        layers="decoder.layers",
        attention=("q_proj", "k_proj", "v_proj", "out_proj"),
        feedforward=("fc1", "fc2"),
        tail=("lm_head",),
    ),
}

#: Layers that a task puts on a model: new, so always trained in full and never quantised or adapted.
HEADS = frozenset({"score", "classifier", "pre_classifier", "qa_outputs"})


def family_of(config: Mapping[str, object]) -> Family:
    """The family of a model by its config.json; a causal one that is not listed has Llama's layout or fused layers."""
    return FAMILIES.get(str(config.get("model_type")), _LLAMA)


def is_feedforward(family: Family, name: str) -> bool:
    """Whether a linear layer, by its name in the model, belongs to the feed-forward block."""
    found = {
        part: part in family.feedforward
        for part in (*family.attention, *family.feedforward)
        if f".{name}".endswith(f".{part}")
    }
    return found[max(found, key=len)] if found else False
