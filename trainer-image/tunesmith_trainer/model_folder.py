"""The model folder around the ONNX graph: what the server, Foundry Local and AI Toolkit read, and its digest."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from tunesmith_api.reports import EXPORT_REPORT
from tunesmith_trainer.errors import OutputNotWritableError
from tunesmith_trainer.examples import ASSISTANT, SYSTEM, USER, Turn
from tunesmith_trainer.marian_tokenizer import is_marian
from tunesmith_trainer.tokenizer import render
from tunesmith_trainer.workspace import file_digest, make_readable, replace_folder, write_json, write_text

_CONTENT = "{Content}"
_ANSWER = "{Answer}"
_TOKENIZER_FILES = ("tokenizer.json", "special_tokens_map.json")


def write_tokenizer(folder: Path, base: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Put the base model's tokenizer beside the graph, unchanged, and its chat template in a file of its own.

    Of Marian's own files the tokenizer.json is made that reads sources, and names what the model writes.
    """
    if is_marian(base):
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        return
    for name in _TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    if isinstance(tokenizer.chat_template, str):
        write_text(folder / "chat_template.jinja", tokenizer.chat_template)


def prompt_template(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """Foundry Local's PromptTemplate, by rendering the chat template with sentinels in the place of the messages.

    Templates that refuse or ignore a system message have no `system` entry.
    """
    opening = render(tokenizer, (Turn(USER, _CONTENT),), answer_next=True)
    whole = render(tokenizer, (Turn(USER, _CONTENT), Turn(ASSISTANT, _ANSWER)), answer_next=False)
    user = render(tokenizer, (Turn(USER, _CONTENT),), answer_next=False).removesuffix(str(tokenizer.eos_token))
    template = {"user": user, "prompt": opening}
    if whole.startswith(opening):
        start = opening[len(user) :] if opening.startswith(user) else ""
        template["assistant"] = start + whole[len(opening) :].removesuffix(str(tokenizer.eos_token)).replace(
            _ANSWER, _CONTENT
        )
    system = _system_template(tokenizer, opening)
    return {"system": system, **template} if system else template


def _system_template(tokenizer: PreTrainedTokenizerFast, opening: str) -> str:
    turns = (Turn(SYSTEM, _ANSWER), Turn(USER, _CONTENT))
    text = render(tokenizer, turns, answer_next=True)
    if _ANSWER not in text or not text.endswith(opening):
        return ""
    return text.removesuffix(opening).replace(_ANSWER, _CONTENT)


def foundry_description(name: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """`inference_model.json`: with `genai_config.json` beside it, Foundry Local and AI Toolkit load the folder."""
    described: dict[str, Any] = {"Name": name}
    if tokenizer.chat_template:
        described["PromptTemplate"] = prompt_template(tokenizer)
    parameters = [("max_tokens", 256), ("temperature", 0), ("top_p", 1), ("top_k", 1)]
    described["ParameterSchema"] = {"enabled": [{"name": key, "default": value} for key, value in parameters]}
    return described


def write_description(folder: Path, name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write `inference_model.json`."""
    write_json(folder / "inference_model.json", foundry_description(name, tokenizer))


def _content(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != EXPORT_REPORT]


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a model folder's files, the report apart, which states it."""
    whole = hashlib.sha256()
    for file in _content(folder):
        whole.update(f"{file.relative_to(folder).as_posix()}\0{file_digest(file)}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def folder_size(folder: Path) -> int:
    """Bytes of a model folder's files, the report apart."""
    return sum(file.stat().st_size for file in _content(folder))


def publish(folder: Path, target: Path) -> None:
    """Copy a model folder to the output, whole or not at all.

    Raises:
        OutputNotWritableError: the output cannot be written.
    """
    neighbour = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(neighbour, ignore_errors=True)
        shutil.copytree(folder, neighbour, copy_function=shutil.copyfile)
        make_readable([neighbour])
        replace_folder(neighbour, target)
    except OSError as error:
        raise OutputNotWritableError(f"spec.output.uri: {target} cannot be written: {error.strerror}") from error
