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
_T5 = Family(
    layers="decoder.block",
    attention=("q", "k", "v", "o"),
    feedforward=("wi", "wi_0", "wi_1", "wo"),
    tail=("decoder.final_layer_norm", "lm_head"),
)

#: By `model_type` of the configuration: every one that the trainer accepts.
FAMILIES: dict[str, Family] = {
    "phi3": Family(
        layers="model.layers",
        attention=("qkv_proj", "o_proj"),
        feedforward=("gate_up_proj", "down_proj"),
        tail=("model.norm", "lm_head"),
    ),
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "smollm3"), _LLAMA),
    **dict.fromkeys(("ernie4_5", "granite", "hunyuan_v1_dense", "nemotron", "olmo"), _LLAMA),
    "phi": Family(
        layers="model.layers",
        attention=("q_proj", "k_proj", "v_proj", "dense"),
        feedforward=("fc1", "fc2"),
        tail=("model.final_layernorm", "lm_head"),
    ),
    # Its experts are stacked weights, no linear layers.
    "gpt_oss": Family(layers=_LLAMA.layers, attention=_LLAMA.attention, feedforward=(), tail=_LLAMA.tail),
    # Most of its layers are convolutions in the place of attention.
    "lfm2": Family(
        layers="model.layers",
        attention=("q_proj", "k_proj", "v_proj", "in_proj", "out_proj"),
        feedforward=("w1", "w2", "w3"),
        tail=("model.embedding_norm", "lm_head"),
    ),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), _BERT),
    "distilbert": Family(
        layers="transformer.layer",
        attention=("q_lin", "k_lin", "v_lin", "out_lin"),
        feedforward=("lin1", "lin2"),
        tail=(),
    ),
    **dict.fromkeys(("t5", "mt5"), _T5),
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
    """The family of a model by its config.json.

    Raises:
        KeyError: the trainer does not know the model's type.
    """
    return FAMILIES[str(config.get("model_type"))]


def is_feedforward(family: Family, name: str) -> bool:
    """Whether a linear layer, by its name in the model, belongs to the feed-forward block."""
    found = {
        part: part in family.feedforward
        for part in (*family.attention, *family.feedforward)
        if f".{name}".endswith(f".{part}")
    }
    return found[max(found, key=len)] if found else False
