"""The numbers of a model, as far as the planner needs them."""

from tunesmith_api.enums import ModelKind
from tunesmith_api.model import Model


class Architecture(Model):
    """The numbers of a model, by the names of Hugging Face's configuration."""

    parameters: int
    """Weights in all."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the feed-forward layer."""
    num_hidden_layers: int
    """Layers; of an encoder-decoder those of the encoder."""
    num_attention_heads: int
    """Query heads."""
    num_key_value_heads: int
    """Key and value heads."""
    vocab_size: int
    """Tokens of the vocabulary, padding included."""
    max_position_embeddings: int
    """Context length in tokens."""
    tie_word_embeddings: bool = False
    """Whether input and output embeddings share their weights."""
    kind: ModelKind = ModelKind.CAUSAL
    """How the model reads and writes."""
    num_decoder_layers: int = 0
    """Decoder layers of an encoder-decoder."""
    head_dim: int | None = None
    """Width of a head; the hidden size over the heads unless said otherwise."""
    fused_projections: bool = True
    """Whether queries, keys and values (and gate and up) are one module each, as in Phi-3."""
    gated_feed_forward: bool = True
    """Whether a decoder's feed-forward layer, or an encoder-decoder's, has a gate beside the projection upwards."""
    biases: bool = False
    """Whether linear layers and norms have biases, as those of encoders and of Marian."""
    attention_dropout: bool = False
    """Whether training drops out some of the attention's weights, whose whole matrix a CPU then keeps."""
    stored_in_bf16: bool = False
    """Whether the checkpoint's weights are in bf16, so that training by autocast can hold the frozen ones in it."""
