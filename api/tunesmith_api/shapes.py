"""The linear layers of a model and how many weights it has, from the numbers of its configuration. Pure arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import ModelKind
from tunesmith_api.tasks import model_kind

#: Families whose projections of queries, keys and values, and of gate and up, are one module each.
_FUSED = frozenset({"phi3"})
#: Decoders whose feed-forward layer has no gate.
_UNGATED = frozenset({"phi", "nemotron"})
#: T5's relative positions, in each of both stacks: a weight per head and distance, of which there are 32 kinds.
_DISTANCES = 32
#: How BERT's family, Llama's and Marian's, and T5 name the share of the attention's weights that training drops out.
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "dropout_rate")


#: DistilBERT's, Marian's and Phi-2's names, and BERT's, whose modules end in the same word.
_OTHER_NAMES = {
    "query": {"q_lin"},
    "key": {"k_lin"},
    "value": {"v_lin"},
    "dense": {"out_lin"},
    "intermediate": {"dense", "lin1"},
    "output": {"dense", "lin2"},
    "q": {"q_proj"},
    "k": {"k_proj"},
    "v": {"v_proj"},
    "o": {"out_proj"},
    "wi": {"fc1"},
    "wo": {"fc2"},
    "o_proj": {"dense"},
    "up_proj": {"fc1"},
    "down_proj": {"fc2"},
}


@dataclass(frozen=True)
class Linear:
    """One kind of linear module.

    Attributes:
        name: last part of the module's name.
        inputs, outputs: its widths.
        count: how many of it the model has.
        feed_forward: whether it is part of the feed-forward block.
    """

    name: str
    inputs: int
    outputs: int
    count: int
    feed_forward: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Last parts of what the families of the model's kind call it; by these a job names what to adapt."""
        return frozenset({self.name, *_OTHER_NAMES.get(self.name, ())})

    @property
    def weights(self) -> int:
        """Weights of all of its modules, biases aside."""
        return self.inputs * self.outputs * self.count


def query_width(model: Architecture) -> int:
    """Width of all query heads together."""
    return _head(model) * model.num_attention_heads


def key_width(model: Architecture) -> int:
    """Width of all key heads together, which is also that of all value heads."""
    return _head(model) * model.num_key_value_heads


def _head(model: Architecture) -> int:
    return model.head_dim or model.hidden_size // model.num_attention_heads


def layers(model: Architecture) -> int:
    """Layers in all: of an encoder-decoder those of both."""
    return model.num_hidden_layers + model.num_decoder_layers


def linears(model: Architecture) -> tuple[Linear, ...]:
    """Every linear module of the model's layers, embeddings and heads aside."""
    return tuple(
        Linear(name, *widths, count=count, feed_forward=name in _FEED_FORWARD)
        for name, widths, count in _modules(model)
    )


_FEED_FORWARD = frozenset({"gate_up_proj", "gate_proj", "up_proj", "down_proj", "intermediate", "output"})
_FEED_FORWARD |= {"wi", "wi_0", "wi_1", "wo"}


def _modules(model: Architecture) -> list[tuple[str, tuple[int, int], int]]:
    hidden, wide, query, key = model.hidden_size, model.intermediate_size, query_width(model), key_width(model)
    count = model.num_hidden_layers
    if model.kind is ModelKind.CAUSAL and model.fused_projections:
        return [
            ("qkv_proj", (hidden, query + 2 * key), count),
            ("o_proj", (query, hidden), count),
            ("gate_up_proj", (hidden, 2 * wide), count),
            ("down_proj", (wide, hidden), count),
        ]
    if model.kind is ModelKind.CAUSAL:
        return [
            ("q_proj", (hidden, query), count),
            ("k_proj", (hidden, key), count),
            ("v_proj", (hidden, key), count),
            ("o_proj", (query, hidden), count),
            *(
                (name, (hidden, wide), count)
                for name in (("gate_proj", "up_proj") if model.gated_feed_forward else ("up_proj",))
            ),
            ("down_proj", (wide, hidden), count),
        ]
    if model.kind is ModelKind.ENCODER:
        attention = [(name, (hidden, query), count) for name in ("query", "key", "value", "dense")]
        return [*attention, ("intermediate", (hidden, wide), count), ("output", (wide, hidden), count)]
    every, attentions = layers(model), layers(model) + model.num_decoder_layers
    attention = [(name, (hidden, query), attentions) for name in ("q", "k", "v")]
    return [
        *attention,
        ("o", (query, hidden), attentions),
        *((name, (hidden, wide), every) for name in (("wi_0", "wi_1") if model.gated_feed_forward else ("wi",))),
        ("wo", (wide, hidden), every),
    ]


def linear_widths(model: Architecture) -> dict[str, tuple[int, int]]:
    """Input and output width of each linear module of a layer, by its name."""
    return {module.name: (module.inputs, module.outputs) for module in linears(model)}


def linear_weights(model: Architecture) -> int:
    """Weights of all linear modules of the layers: what a quantised base stores in few bits."""
    return sum(module.weights for module in linears(model))


def lora_parameters(model: Architecture, rank: int) -> int:
    """Trained weights of LoRA on every linear layer: rank x (input + output) each (Hu et al. 2021, section 4)."""
    return sum(rank * (module.inputs + module.outputs) * module.count for module in linears(model))


def widest_rank(model: Architecture) -> int:
    """The greatest rank that still is a low-rank update: the narrowest side of any adapted layer."""
    return min(min(widths) for widths in linear_widths(model).values())


def norm_weights(model: Architecture) -> int:
    """Weights of all norms: two a layer, three where a decoder reads an encoder, and those before or behind a stack.

    Layer norms have a bias beside the scale. T5 has a norm behind each stack, Marian none.
    """
    stacks = 2 if model.num_decoder_layers else 1
    ends = 0 if _is_marian(model) else stacks
    return (2 * layers(model) + model.num_decoder_layers + ends) * model.hidden_size * (2 if _biased(model) else 1)


def last_stack(model: Architecture) -> int:
    """Layers of the stack that is trained last: of an encoder-decoder the decoder's."""
    return model.num_decoder_layers or model.num_hidden_layers


def layer_weights(model: Architecture) -> int:
    """Weights of one layer of the stack that is trained last."""
    behind_encoder = model.kind is ModelKind.SEQ2SEQ
    norms = (3 if behind_encoder else 2) * model.hidden_size * (2 if _biased(model) else 1)
    return norms + sum(
        (module.inputs + _biased(model)) * module.outputs * (2 if behind_encoder and not module.feed_forward else 1)
        for module in linears(model)
    )


def tail_weights(model: Architecture) -> int:
    """Weights behind the last layer: the norm and the language head, or the dense layer of an encoder of texts.

    A layer for the labels of a task comes on top. Encoders that tag tokens or find answers have that one alone.
    """
    if model.kind is ModelKind.ENCODER:
        return (model.hidden_size + 1) * model.hidden_size
    return (model.vocab_size + (not _is_marian(model))) * model.hidden_size


def count_weights(model: Architecture) -> int:
    """Weights in all: embeddings (once where tied), positions, linear layers with biases, norms, an encoder's tail."""
    hidden, modules = model.hidden_size, linears(model)
    embeddings = model.vocab_size * hidden * (1 if model.tie_word_embeddings else 2)
    total = embeddings + sum(module.weights for module in modules) + norm_weights(model)
    if _biased(model):
        total += sum(module.outputs * module.count for module in modules)
    if model.kind is ModelKind.ENCODER:
        token_types = 2
        return total + (model.max_position_embeddings + token_types) * hidden + tail_weights(model)
    if model.kind is ModelKind.SEQ2SEQ:
        total += 2 * (
            model.max_position_embeddings * hidden if _biased(model) else _DISTANCES * model.num_attention_heads
        )
    return total


def _biased(model: Architecture) -> bool:
    return model.biases or model.kind is ModelKind.ENCODER


def _is_marian(model: Architecture) -> bool:
    return model.biases and model.kind is ModelKind.SEQ2SEQ


#: Names of one number in the configurations of the families.
_NAMES = {
    "hidden_size": ("hidden_size", "d_model", "dim"),
    "intermediate_size": ("intermediate_size", "d_ff", "encoder_ffn_dim", "hidden_dim"),
    "num_hidden_layers": ("num_hidden_layers", "num_layers", "encoder_layers", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "num_heads", "encoder_attention_heads", "n_heads"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
}


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The numbers of a model from its config.json.

    Raises:
        ValueError: a number that is needed is missing.
    """
    kind = model_kind(config)
    found = {name: _first(config, name, keys) for name, keys in _NAMES.items()}
    heads = found["num_attention_heads"]
    decoders = config.get("num_decoder_layers") or config.get("decoder_layers") or found["num_hidden_layers"]
    model = Architecture(
        **found,
        parameters=0,
        kind=kind,
        num_key_value_heads=config.get("num_key_value_heads") or heads,
        vocab_size=_first(config, "vocab_size", ("vocab_size",)),
        head_dim=config.get("head_dim") or config.get("d_kv"),
        num_decoder_layers=decoders if kind is ModelKind.SEQ2SEQ else 0,
        tie_word_embeddings=kind is not ModelKind.CAUSAL or bool(config.get("tie_word_embeddings")),
        fused_projections=config.get("model_type") in _FUSED,
        gated_feed_forward=_is_gated(config, kind),
        biases=kind is ModelKind.ENCODER or config.get("model_type") == "marian",
        attention_dropout=any(config.get(name) for name in _DROPOUTS),
        stored_in_bf16=(config.get("dtype") or config.get("torch_dtype")) == "bfloat16",
    )
    return model.model_copy(update={"parameters": count_weights(model)})


def _is_gated(config: Mapping[str, Any], kind: ModelKind) -> bool:
    """Of decoders by their type; T5 says it of itself, and without a word it is the first one, without a gate."""
    if kind is ModelKind.SEQ2SEQ:
        return str(config.get("feed_forward_proj", "")).startswith("gated") or bool(config.get("is_gated_act"))
    return config.get("model_type") not in _UNGATED


def _first(config: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> int:
    value = next((config[key] for key in keys if config.get(key) is not None), None)
    if value is None and name == "max_position_embeddings":
        return 512  # T5 has relative positions, and was trained on 512
    if not isinstance(value, int):
        raise ValueError(f"config.json: {name} is missing or is no whole number: {value!r}")  # noqa: TRY004 - of the file's value
    return value
