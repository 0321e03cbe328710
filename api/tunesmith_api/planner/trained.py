"""How many weights a technique trains on a model of the catalog. Pure arithmetic."""

from tunesmith_api import parameters, techniques
from tunesmith_api.architecture import Architecture
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.parameters import Shapes
from tunesmith_api.shapes import key_width, last_stack, layer_weights, linears, norm_weights, tail_weights


def shapes_of(model: Architecture) -> Shapes:
    """What the technique table's formulas need of a model."""
    adapted = tuple(
        parameters.Linear(module.inputs, module.outputs, module.feed_forward, module.names)
        for module in linears(model)
        for _ in range(module.count)
    )
    return Shapes(
        linears=adapted,
        layers=last_stack(model),
        hidden_size=model.hidden_size,
        key_value_width=key_width(model),
        norm_weights=norm_weights(model),
        total=model.parameters,
        layer_weights=layer_weights(model),
        tail_weights=tail_weights(model),
    )


def trained_parameters(model: Architecture, technique: TechniqueSpec) -> int:
    """The weights that a technique trains."""
    return techniques.trained_parameters(technique, shapes_of(model))
