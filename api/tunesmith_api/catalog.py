"""The model catalog: one YAML file per model, with the numbers that the planner needs."""

from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Annotated

import yaml
from pydantic import Field

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import Task
from tunesmith_api.model import Model
from tunesmith_api.strings import Identifier, Message
from tunesmith_api.uri import Uri


class CatalogModel(Model):
    """One model of the catalog."""

    name: Identifier
    """Preset name."""
    family: Identifier
    """Model family, as `model_type` of the configuration."""
    uri: Uri
    """Where the weights lie."""
    bundled: bool = False
    """Whether the trainer image carries the weights (the tiny test model)."""
    gated: bool = False
    """Whether the source asks for a token."""
    license: Identifier
    """SPDX identifier of the licence."""
    tasks: Annotated[list[Task], Field(min_length=1)]
    """Tasks that the model can be tuned for."""
    lora_targets: Annotated[list[Identifier], Field(min_length=1)]
    """Linear modules that LoRA adapts by default."""
    trainable: bool = True
    """Whether the trainer's libraries know the architecture without code from the model's repository."""
    exportable: bool = True
    """Whether the ONNX model builder knows the architecture."""
    architecture: Architecture
    """Numbers for the planner."""
    notes: Message = ""
    """What a user should know."""


class UnknownPresetError(ValueError):
    """Raised when no catalog model has the asked name; the message names the nearest ones."""


@cache
def load_catalog() -> dict[str, CatalogModel]:
    """Every model of the catalog by its preset name, in alphabetical order."""
    folder = resources.files("tunesmith_api") / "catalog"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    models = [CatalogModel.model_validate(yaml.safe_load(entry.read_text())) for entry in files]
    return {model.name: model for model in models}


def find_preset(name: str) -> CatalogModel:
    """The catalog model of a preset name.

    Raises:
        UnknownPresetError: there is none.
    """
    catalog = load_catalog()
    if name in catalog:
        return catalog[name]
    near = get_close_matches(name, catalog, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"known presets: {', '.join(catalog)}"
    raise UnknownPresetError(f"model.preset: {name!r} is not in the catalog; {hint}")
