"""Every architecture that the trainer accepts has a row in the table of families, and the row fits its layers."""

from collections import Counter

import pytest
import torch
import transformers
from torch import nn

from tunesmith_api.enums import PeftMethod, TechniqueType
from tunesmith_api.families import FAMILIES
from tunesmith_api.finetunejob import FullSpec, PeftSpec, TechniqueSpec
from tunesmith_api.parameters import narrowed
from tunesmith_api.planner import shapes_of as planned_shapes
from tunesmith_api.shapes import architecture_of
from tunesmith_api.tasks import ENCODER_TYPES
from tunesmith_trainer.adapters import Adaptation, adapt, norm_names, shapes_of
from tunesmith_trainer.model_files import EXPORTABLE, SEQ2SEQ

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

WIDTH, LAYERS = 64, 2
#: No other width of a model is a multiple of it, so that it tells the feed-forward block from all else.
INNER = 112
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
DECODER = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}
T5 = {"d_model": WIDTH, "d_kv": 16, "d_ff": INNER, "num_layers": LAYERS, "num_heads": 4}
#: What the configurations of some architectures call otherwise, or need beside.
SIZES = {
    "GptOssForCausalLM": {**DECODER, "num_local_experts": 2, "rope_parameters": {"rope_type": "default"}},
    "Lfm2ForCausalLM": {**DECODER, "block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention"]},
    "MarianMTModel": {
        "d_model": WIDTH,
        **{
            f"{side}_{key}": value
            for side in ("encoder", "decoder")
            for key, value in (("ffn_dim", INNER), ("layers", LAYERS), ("attention_heads", 4))
        },
    },
    "MT5ForConditionalGeneration": T5,
    "T5ForConditionalGeneration": T5,
    "distilbert": {"dim": WIDTH, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": 4},
}
ACCEPTED = sorted(EXPORTABLE | SEQ2SEQ | ENCODER_TYPES)


def make(name):
    """A tiny random model of an architecture, or of an encoder's type with a head for classes."""
    sizes = {"vocab_size": 320, **ENDS, **SIZES.get(name, DECODER)}
    torch.manual_seed(0)
    if name in ENCODER_TYPES:
        config = transformers.AutoConfig.for_model(name, **sizes)
        return transformers.AutoModelForSequenceClassification.from_config(config)
    architecture = getattr(transformers, name)
    return architecture(architecture.config_class(**sizes))


def test_the_table_has_a_row_for_each_accepted_type_and_no_other():
    """A row that no job can reach promises what is refused."""
    types = {getattr(transformers, name).config_class.model_type for name in EXPORTABLE | SEQ2SEQ}
    assert set(FAMILIES) == types | ENCODER_TYPES


@pytest.mark.parametrize("name", sorted(SEQ2SEQ | ENCODER_TYPES | {"LlamaForCausalLM", "Phi3ForCausalLM"}))
def test_the_planner_counts_what_the_trainer_finds(name):
    """From the configuration alone come the loaded model's layers and weights, but for the layer of the labels."""
    model = make(name)
    counted, found = planned_shapes(architecture_of(model.config.to_dict())), shapes_of(model)
    labels = sum(weight.numel() for part, weight in model.named_parameters() if is_of_labels(part))
    assert widths(counted) == widths(found)
    assert counted.tail_weights == found.tail_weights - labels
    # Two token types are counted; DistilBERT has none, and XLM-RoBERTa may have one.
    assert 0 <= counted.total - (found.total - labels) <= 2 * WIDTH
    for part in ("layers", "hidden_size", "key_value_width", "norm_weights", "layer_weights"):
        assert getattr(counted, part) == getattr(found, part), part


@pytest.mark.parametrize("name", [name for name in ACCEPTED if name not in {"GptOssForCausalLM", "Lfm2ForCausalLM"}])
def test_the_planner_knows_every_linear_layer(name):
    """By its name too, and a gate where there is one; of other decoders' norms and biases only a few weights differ."""
    model = make(name)
    counted, found = planned_shapes(architecture_of(model.config.to_dict())), shapes_of(model)
    for target in frozenset().union(*(layer.names for layer in found.linears)):
        assert widths(narrowed(counted, [target])) == widths(narrowed(found, [target])), target
    assert widths(counted) == widths(found)
    assert counted.total == pytest.approx(found.total, rel=0.02)


def widths(shapes):
    """How many linear layers there are of each shape."""
    return Counter((layer.inputs, layer.outputs, layer.feedforward) for layer in shapes.linears)


def is_of_labels(name):
    """Whether a weight belongs to the layer behind which an encoder's labels stand."""
    return name.startswith(("classifier.out_proj", "classifier.weight", "classifier.bias"))


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_last_layer_is_trained_with_what_follows_it(name):
    """Of the layers only the last has gradients; so have the norm behind the decoder's layers, and the head."""
    model = adapt(make(name), Adaptation(TechniqueSpec(type=TechniqueType.FULL, full=FullSpec(last_layers=1))))
    trained = {part for part, weight in model.named_parameters() if weight.requires_grad}
    places = {next(word for word in part.split(".") if word.isdigit()) for part in trained if is_layer(part)}
    assert places == {str(LAYERS - 1)}
    assert not any("encoder.block" in part or "encoder.layers" in part for part in trained)
    norms = {part for part in norm_names(model) if not is_layer(part) and not part.startswith("encoder")}
    behind = {norm for norm in norms if "embeddings" not in norm}
    assert {f"{norm}.weight" for norm in behind} <= trained
    assert model.get_output_embeddings() is None or model.get_output_embeddings().weight.requires_grad


@pytest.mark.parametrize("name", ACCEPTED)
def test_ia3_scales_the_inputs_of_the_whole_feed_forward_block(name):
    """The layers that widen to the inner width or narrow from it, and no layer of the attention."""
    asked = TechniqueSpec(type=TechniqueType.PEFT, peft=PeftSpec(method=PeftMethod.IA3))
    model = adapt(make(name), Adaptation(asked, task=""))
    adapted = [part for part in model.modules() if hasattr(part, "is_feedforward")]
    assert adapted
    for part in adapted:
        assert part.is_feedforward == is_inner(part.get_base_layer()), part


@pytest.mark.parametrize("name", ACCEPTED)
def test_norms_with_weights_are_known(name):
    """Every one-dimensional weight that is no bias belongs to a norm."""
    model = make(name)
    known = {f"{norm}.weight" for norm in norm_names(model)}
    flat = {part for part, weight in model.named_parameters() if part.endswith(".weight") and weight.dim() == 1}
    assert flat == known


def is_layer(part):
    """Whether a weight or a module lies in a stack of layers."""
    return any(word.isdigit() for word in part.split("."))


def is_inner(linear: nn.Linear):
    """Whether one side of a linear layer has the inner width of the feed-forward block, or two of it side by side."""
    return linear.in_features % INNER == 0 or linear.out_features % INNER == 0
