"""What a model folder says about itself: `genai_config.json`, tokenizer, `inference_model.json`, export report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_server.errors import ModelError

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_DEFAULTS: Mapping[str, type[float | int]] = {"temperature": float, "top_p": float, "top_k": int}


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk, read once.

    `context_length` is in tokens. `names` maps the roles of graph inputs and outputs to their names; those of past and
    present keys and values carry a `%d` for the layer. `shares_buffers` says that past and present may be one buffer.
    `defaults` are the sampling defaults of `inference_model.json`. `artifact` is the export report's entry (digest,
    precision…), empty without a report.
    """

    path: Path
    name: str
    graph: Path
    context_length: int
    layers: int
    head_size: int | None
    shares_buffers: bool
    end_tokens: frozenset[int]
    names: Mapping[str, str]
    chat_template: str | None
    special_tokens: Mapping[str, str]
    defaults: Mapping[str, float | int] = field(default_factory=dict)
    artifact: Mapping[str, Any] = field(default_factory=dict)


def read_folder(path: Path) -> ModelFolder:
    """Read the folder at `path`.

    Raises:
        ModelError: a needed file is missing or malformed; the message names it.
    """
    config = _required(path / "genai_config.json")
    try:
        model, decoder = config["model"], config["model"]["decoder"]
        graph = path / decoder["filename"]
        names = {**decoder["inputs"], **decoder["outputs"]}
        context, layers = int(model["context_length"]), int(decoder["num_hidden_layers"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path / 'genai_config.json'}: has no decoder of a causal language model: {error}") from error
    if not graph.is_file():
        raise ModelError(f"{graph}: not found, but genai_config.json names it")
    tokenizer, inference = _optional(path / "tokenizer_config.json"), _optional(path / "inference_model.json")
    return ModelFolder(
        path=path,
        name=str(inference.get("Name") or path.resolve().name),
        graph=graph,
        context_length=context,
        layers=layers,
        head_size=decoder.get("head_size"),
        shares_buffers=bool((config.get("search") or {}).get("past_present_share_buffer")),
        end_tokens=_end_tokens(model, _optional(path / "generation_config.json")),
        names=names,
        chat_template=_chat_template(path, tokenizer),
        special_tokens=_special_tokens(tokenizer),
        defaults=_defaults(inference, path),
        artifact=_optional(path / "export-report.json").get("artifact") or {},
    )


def _end_tokens(*configs: Mapping[str, Any]) -> frozenset[int]:
    found: set[int] = set()
    for config in configs:
        tokens = config.get("eos_token_id")
        found.update([] if tokens is None else [tokens] if isinstance(tokens, int) else tokens)
    return frozenset(found)


def _chat_template(path: Path, tokenizer: Mapping[str, Any]) -> str | None:
    if (file := path / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    template = tokenizer.get("chat_template")
    if isinstance(template, list):  # several named templates: the default one serves chats
        template = next((one["template"] for one in template if one.get("name") == "default"), None)
    return template


def _special_tokens(tokenizer: Mapping[str, Any]) -> dict[str, str]:
    tokens = {name: tokenizer.get(name) for name in _SPECIAL_TOKENS}
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _defaults(inference: Mapping[str, Any], path: Path) -> dict[str, float | int]:
    enabled = (inference.get("ParameterSchema") or {}).get("enabled") or []
    given = {one.get("name"): one.get("default") for one in enabled if isinstance(one, dict)}
    try:
        return {name: kind(value) for name, kind in _DEFAULTS.items() if (value := given.get(name)) is not None}
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path / 'inference_model.json'}: ParameterSchema: {error}") from error


def _required(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(
            f"{path}: not found; MODEL_DIR must be a folder written by the onnxruntime-genai model builder"
        )
    return _optional(path)


def _optional(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must be a JSON object")
    return content
