"""The base model's folder, read without torch: where it is, whether it is safe to load, and its layers' shapes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tunesmith_api import CatalogModel, JobConfig, UnknownPresetError, find_preset, load_catalog
from tunesmith_api.enums import ModelKind
from tunesmith_api.families import family_of, is_feedforward
from tunesmith_api.finetunejob import FineTuneJobSpec, LoraSpec
from tunesmith_api.jobconfig import BUNDLED_MODELS_PATH, BUNDLED_MODELS_VARIABLE
from tunesmith_api.misfits import refusals
from tunesmith_api.parameters import Linear, Shapes
from tunesmith_api.planner import DEFAULT_SEQUENCE_LENGTH
from tunesmith_api.tasks import ENCODER_TYPES, model_kind
from tunesmith_api.techniques import virtual_tokens
from tunesmith_trainer.errors import BadConfigError, InputNotFoundError
from tunesmith_trainer.fetch import Input, locate_model
from tunesmith_trainer.marian_tokenizer import FILES, check_marian, is_marian
from tunesmith_trainer.pickles import SAFE, refuse_pickles
from tunesmith_trainer.workspace import Workspace, read_json

#: Decoders that both transformers loads and the ONNX model builder knows.
EXPORTABLE = frozenset(
    f"{name}ForCausalLM"
    for name in (
        *("Ernie4_5", "Gemma", "Gemma2", "Gemma3", "GptOss", "Granite", "HunYuanDenseV1", "Lfm2", "Llama", "Mistral"),
        *("Nemotron", "Olmo", "Phi", "Phi3", "Qwen2", "Qwen3", "SmolLM3"),
    )
)
#: Models that count positions from behind the padding token's, as fairseq's do.
_OFFSET_TYPES = frozenset({"roberta", "xlm-roberta"})
#: Encoder-decoder models that our own export knows.
SEQ2SEQ = frozenset({"MarianMTModel", "MT5ForConditionalGeneration", "T5ForConditionalGeneration"})
#: What families call the width and the layers in their config.json, the decoder's first: Marian's `num_hidden_layers`
#: are the encoder's.
_WIDTHS = ("hidden_size", "d_model", "dim")
_LAYERS = ("num_decoder_layers", "decoder_layers", "num_hidden_layers", "n_layers", "num_layers")
_NOT_ADAPTED = ("embed", "lm_head", "norm", "relative_attention", "rotary", "shared")


@dataclass(frozen=True)
class ModelFiles:
    """A model folder that was looked at.

    Attributes:
        path: the folder.
        config: config.json.
        shapes: for each module with a two-dimensional weight, its name and (output, input) widths.
    """

    path: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, int]]

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        positions = int(self.config.get("max_position_embeddings", DEFAULT_SEQUENCE_LENGTH))
        offset = int(self.config.get("pad_token_id") or 0) + 1 if self.config.get("model_type") in _OFFSET_TYPES else 0
        return positions - offset


def locate_base_model(config: JobConfig, workspace: Workspace) -> ModelFiles:
    """The base model of a job, fetched when it is not local.

    Raises:
        StageError: it is absent, unreachable, unsafe or incomplete.
    """
    source = config.spec.model
    if source.uri is not None:
        return inspect_model(locate_model(config, workspace, Input("spec.model", source.uri, source.secret_ref)))
    try:
        preset = find_preset(source.preset or "")
    except UnknownPresetError as error:
        raise BadConfigError(f"spec.{error}") from error
    if preset.bundled:
        return inspect_model(_bundled(preset))
    return inspect_model(locate_model(config, workspace, Input("spec.model", preset.uri, source.secret_ref)))


def _bundled(preset: CatalogModel) -> Path:
    path = Path(os.environ.get(BUNDLED_MODELS_VARIABLE, BUNDLED_MODELS_PATH)) / preset.name
    if not path.is_dir():
        raise InputNotFoundError(
            f"spec.model.preset: bundled model {preset.name} is not at {path}; set {BUNDLED_MODELS_VARIABLE}"
        )
    return path


def inspect_model(path: Path) -> ModelFiles:
    """Look at a model folder: configuration, safetensors headers, tokenizer; nothing is loaded and no code of it runs.

    Raises:
        InputNotFoundError: a file is missing.
        BadConfigError: the weights are pickles, the model needs code of its own, or its tokenizer is of no known kind.
    """
    config = read_json(path / "config.json")
    if config is None:
        raise InputNotFoundError(f"spec.model: {path} has no readable config.json")
    _refuse_architecture(config)
    weights = sorted(path.glob(SAFE))
    if not weights:
        refuse_pickles(str(path), (file.name for file in path.iterdir()))
        if (path / "export-report.json").is_file():
            raise BadConfigError(
                f"spec.model: {path} is a job's exported model, which cannot be tuned; set that job's export.format to"
                " Safetensors"
            )
        raise InputNotFoundError(f"spec.model: {path} has no *.safetensors")
    if is_marian(path):
        check_marian(path)
    elif not (path / "tokenizer.json").is_file():
        raise InputNotFoundError(f"spec.model: {path} has no tokenizer.json, nor Marian's {' '.join(FILES)}")
    return ModelFiles(path, config, _shapes(weights))


def _refuse_architecture(config: dict[str, Any]) -> None:
    """Refuse what the library cannot load without code of the repository, and what cannot be exported."""
    if model_kind(config) is ModelKind.ENCODER and "auto_map" not in config:
        return
    architecture = next(iter(config.get("architectures") or []), "none")
    known = EXPORTABLE | SEQ2SEQ
    if architecture not in known:
        code = " (it needs code of its own, which is never run)" if "auto_map" in config else ""
        raise BadConfigError(
            f"spec.model: architecture {architecture}{code} cannot be tuned and exported;"
            f" use one of {', '.join(sorted(known))}, or an encoder: {', '.join(sorted(ENCODER_TYPES))}"
        )


def _shapes(weights: list[Path]) -> dict[str, tuple[int, int]]:
    shapes: dict[str, tuple[int, int]] = {}
    for file in weights:
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                shape = tensors.get_slice(name).get_shape()
                if name.endswith(".weight") and len(shape) == 2:
                    shapes[name.removesuffix(".weight")] = (shape[0], shape[1])
    return shapes


def lora_targets(files: ModelFiles, lora: LoraSpec) -> list[str]:
    """The modules to adapt: the job's, else the catalog's for the model's family, else every linear layer.

    Raises:
        BadConfigError: the job names a module that the model has not.
    """
    present = {name.rpartition(".")[2] for name in files.shapes if not any(word in name for word in _NOT_ADAPTED)}
    if lora.target_modules is not None:
        missing = sorted(set(lora.target_modules) - present)
        if missing:
            raise BadConfigError(
                f"spec.technique.lora.targetModules: the model has no {', '.join(missing)};"
                f" it has {', '.join(sorted(present))}"
            )
        return sorted(lora.target_modules)
    families = [model for model in load_catalog().values() if model.family == files.config.get("model_type")]
    known = {target for model in families for target in model.lora_targets} & present
    return sorted(known or present)


def check_technique(files: ModelFiles, spec: FineTuneJobSpec) -> None:
    """Refuse a technique that the model's kind or its layers cannot take.

    Raises:
        BadConfigError: naming the option and its bound.
    """
    problems = refusals(spec, model_kind(files.config), _adapted_shapes(files, spec.technique.lora or LoraSpec()))
    if problems:
        raise BadConfigError("; ".join(problems))


def _adapted_shapes(files: ModelFiles, lora: LoraSpec) -> Shapes:
    """The shapes that a technique's bounds depend on; weights are not counted here."""
    targets, family = set(lora_targets(files, lora)), family_of(files.config)
    linears = tuple(
        Linear(inputs, outputs, is_feedforward(family, name))
        for name, (outputs, inputs) in files.shapes.items()
        if name.rpartition(".")[2] in targets and any(part.isdigit() for part in name.split("."))
    )
    layers, width = layers_of(files.config), width_of(files.config)
    return Shapes(linears, layers, width, width, norm_weights=0, total=0, layer_weights=0, tail_weights=0)


def width_of(config: dict[str, Any]) -> int:
    """The width of a model's hidden states, from its config.json; 0 when it does not say."""
    return _first(config, _WIDTHS)


def layers_of(config: dict[str, Any]) -> int:
    """The layers of the stack that is trained last (an encoder-decoder model's decoder); 0 when it does not say."""
    return _first(config, _LAYERS)


def _first(config: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((int(config[name]) for name in names if config.get(name)), 0)


def sequence_length(files: ModelFiles, spec: FineTuneJobSpec) -> int:
    """The longest row in tokens: what the job asks, at most the model's context; 2048 or the context by default.

    Virtual tokens, which stand before every row, take their part of the context.

    Raises:
        BadConfigError: the job asks for more than there is room for.
    """
    asked, virtual = spec.training.max_sequence_length, virtual_tokens(spec.technique)
    room = files.context - virtual
    if asked is not None and asked > room:
        less = f" less {virtual} virtual tokens" if virtual else ""
        raise BadConfigError(
            f"spec.training.maxSequenceLength: {asked} is above the model's context of {files.context} tokens{less};"
            f" use at most {room}"
        )
    return asked or min(room, DEFAULT_SEQUENCE_LENGTH)
