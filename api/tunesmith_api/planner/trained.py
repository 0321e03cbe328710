"""How many weights a technique trains on a model of the catalog. Pure arithmetic."""

from tunesmith_api import parameters, techniques
from tunesmith_api.architecture import Architecture
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.parameters import Shapes
from tunesmith_api.shapes import key_width, layers, linear_weights, linears


def shapes_of(model: Architecture) -> Shapes:
    """What the technique table's formulas need of a model."""
    adapted = tuple(
        parameters.Linear(module.inputs, module.outputs, module.feed_forward)
        for module in linears(model)
        for _ in range(module.count)
    )
    count = layers(model)
    return Shapes(
        linears=adapted,
        layers=count,
        hidden_size=model.hidden_size,
        key_value_width=key_width(model),
        norm_weights=(2 * count + 1) * model.hidden_size,
        total=model.parameters,
        layer_weights=linear_weights(model) // count + 2 * model.hidden_size,
        tail_weights=(model.vocab_size + 1) * model.hidden_size,
    )


def trained_parameters(model: Architecture, technique: TechniqueSpec) -> int:
    """The weights that a technique trains."""
    return techniques.trained_parameters(technique, shapes_of(model))
