"""Reading manifests: YAML as kubectl reads it where PyYAML differs, and the resources in it."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tunesmith_api import API_VERSION, ExitCode, FineTuneJob, InvalidResourceError, parse_resource
from tunesmith_cli.errors import CliError

_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_REPLACED = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2, so that 2e-4 is one, without dates, and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = sorted({key for key in keys if keys.count(key) > 1 and key != "<<"})
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated[0]!r} is repeated", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_documents(text: str) -> list[Any]:
    """Every document of a YAML text but the empty ones.

    Raises:
        yaml.YAMLError: it is no YAML, or repeats a key.
    """
    return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]


def read_documents(path: Path) -> list[Any]:
    """Every document of a file.

    Raises:
        CliError: it cannot be read, or is no YAML.
    """
    try:
        return parse_documents(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", ExitCode.INPUT_NOT_FOUND) from error
    except UnicodeDecodeError as error:
        raise CliError(f"{path}: is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise CliError(f"{path}: {error}") from error


def is_ours(document: object) -> bool:
    """Whether a document means to be a resource of ours, be its version known or not."""
    group = API_VERSION.partition("/")[0]
    return not isinstance(document, dict) or str(document.get("apiVersion", group)).startswith(group)


def read_job(path: Path) -> FineTuneJob:
    """The one FineTuneJob of a file.

    Raises:
        CliError: the file has none or several, or it is not valid.
    """
    documents = [document for document in read_documents(path) if is_ours(document)]
    jobs = [document for document in documents if not isinstance(document, dict) or _may_be_job(document)]
    if len(jobs) != 1:
        raise CliError(f"{path}: has {len(jobs)} FineTuneJobs; a run needs a file with exactly one")
    try:
        job = parse_resource(jobs[0])
    except InvalidResourceError as error:
        raise CliError("\n".join(f"{path}: {problem}" for problem in error.problems)) from error
    assert isinstance(job, FineTuneJob)
    return job


def _may_be_job(document: dict[str, Any]) -> bool:
    return document.get("kind") not in {"ModelEndpoint", "ComputePool"}
