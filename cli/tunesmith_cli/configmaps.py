"""configmap:// without a cluster: the files that a kustomization or a ConfigMap manifest beside the job would mount."""

import base64
import binascii
from pathlib import Path
from typing import Any

from tunesmith_api import ExitCode
from tunesmith_cli.errors import CliError
from tunesmith_cli.manifest import read_documents

_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")


def config_map_file(folder: Path, name: str, key: str, into: Path) -> Path:
    """The file behind a key of a ConfigMap.

    Args:
        folder: where the job's file lies.
        name: name of the ConfigMap.
        key: key in it.
        into: where to write a value that lies in a manifest.

    Raises:
        CliError: no manifest beside the job has it.
    """
    values = _generated(folder, name) | _written(folder, name)
    if key not in values:
        known = f"it has {', '.join(sorted(values))}" if values else "there is none of that name"
        raise CliError(
            f"configmap://{name}/{key}: not found; looked for ConfigMap {name} in the kustomization and in the YAML"
            f" files of {folder}: {known}",
            ExitCode.INPUT_NOT_FOUND,
        )
    value = values[key]
    if isinstance(value, Path):
        return _existing(value, f"configmap://{name}/{key}")
    target = into / name / key
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(value)
    return target


def _existing(path: Path, uri: str) -> Path:
    if not path.is_file():
        raise CliError(f"{uri}: the kustomization names {path}, which does not exist", ExitCode.INPUT_NOT_FOUND)
    return path


def _generated(folder: Path, name: str) -> dict[str, Path | bytes]:
    """Keys that a configMapGenerator makes: files (`path` or `key=path`) and literals (`key=value`)."""
    found: dict[str, Path | bytes] = {}
    for file in (folder / candidate for candidate in _KUSTOMIZATIONS):
        for document in read_documents(file) if file.is_file() else []:
            for generator in _entries(document, "configMapGenerator"):
                if generator.get("name") == name:
                    found |= _generator_values(folder, generator)
    return found


def _generator_values(folder: Path, generator: dict[str, Any]) -> dict[str, Path | bytes]:
    values: dict[str, Path | bytes] = {}
    for entry in generator.get("files") or []:
        key, separator, path = str(entry).partition("=")
        values[key if separator else Path(key).name] = (folder / (path if separator else key)).resolve()
    for entry in generator.get("literals") or []:
        key, _, value = str(entry).partition("=")
        values[key] = value.encode()
    return values


def _written(folder: Path, name: str) -> dict[str, Path | bytes]:
    """Keys of ConfigMap manifests."""
    found: dict[str, Path | bytes] = {}
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        for document in read_documents(file):
            if isinstance(document, dict) and _is_config_map(document, name):
                found |= {key: str(value).encode() for key, value in (document.get("data") or {}).items()}
                found |= {key: _decode(value, name, key) for key, value in (document.get("binaryData") or {}).items()}
    return found


def _is_config_map(document: dict[str, Any], name: str) -> bool:
    metadata = document.get("metadata")
    return document.get("kind") == "ConfigMap" and isinstance(metadata, dict) and metadata.get("name") == name


def _decode(value: object, name: str, key: str) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except binascii.Error as error:
        raise CliError(f"ConfigMap {name}: binaryData.{key} is no base64: {error}") from error


def _entries(document: object, field: str) -> list[dict[str, Any]]:
    found = document.get(field) if isinstance(document, dict) else None
    return [entry for entry in found or [] if isinstance(entry, dict)]
