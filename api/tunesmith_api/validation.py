"""What is wrong with a document that a person wrote: every problem at once, each with its path and the way out."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith_api.catalog import UnknownPresetError, find_preset
from tunesmith_api.model import Model
from tunesmith_api.resolve import UnresolvableError, resolve
from tunesmith_api.resource import API_VERSION, KINDS, ComputePool, FineTuneJob, Kind, ModelEndpoint
from tunesmith_api.structural import structural
from tunesmith_api.support import unsupported_endpoint_fields
from tunesmith_api.uri import UriError, parse_uri

Resource = FineTuneJob | ModelEndpoint | ComputePool


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the field, such as spec.training.learningRate; empty for the document as a whole.
        message: the value, why it is wrong, and the way out.
    """

    path: str
    message: str

    def __str__(self) -> str:
        """The problem as one line."""
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidResourceError(ValueError):
    """Raised when a document is no valid resource; `problems` has all that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse_resource(document: object) -> Resource:
    """The resource that a document states, as strictly as the API server with strict field validation reads it.

    Raises:
        InvalidResourceError: it states none, or one that this release cannot carry out.
    """
    resource = _parse(document)
    problems = list(_capability_problems(resource))
    if problems:
        raise InvalidResourceError(problems)
    return resource


def _parse(document: object) -> Resource:
    kind = _kind(document)
    try:
        # JSON mode is strict about types yet takes an enum's value; by alias only, as the server does.
        found = kind.model.model_validate_json(json.dumps(document), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        schema = structural(kind.model)
        found_wrong = [_problem(detail, schema) for detail in error.errors()]
        raise InvalidResourceError([*found_wrong, *_preset_problems(document)]) from error
    assert isinstance(found, FineTuneJob | ModelEndpoint | ComputePool)
    return found


def _preset_problems(document: Any) -> Iterator[Problem]:
    """An unknown preset beside other mistakes, which keep the spec from being resolved."""
    with contextlib.suppress(KeyError, TypeError):
        try:
            find_preset(document["spec"]["model"]["preset"])
        except UnknownPresetError as error:
            yield Problem(*_split(f"spec.{error}"))


def _kind(document: object) -> Kind:
    if not isinstance(document, dict):
        raise InvalidResourceError([Problem("", "the document is no mapping with apiVersion, kind, metadata and spec")])
    for field, known in (("apiVersion", [API_VERSION]), ("kind", list(KINDS))):
        value = document.get(field)
        if value not in known:
            raise InvalidResourceError([Problem(field, _not_one_of(value, known))])
    return KINDS[document["kind"]]


def _not_one_of(value: object, allowed: list[str]) -> str:
    near = get_close_matches(str(value), allowed, n=1, cutoff=0.5) or [
        name for name in allowed if name.lower() == str(value).lower()
    ]
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{value!r} is not known; {hint}allowed: {', '.join(allowed)}"


def _problem(detail: ErrorDetails, schema: dict[str, Any]) -> Problem:
    location = detail["loc"]
    path = dotted(location)
    if detail["type"] == "extra_forbidden":
        return Problem(path, _unknown_field(location, schema))
    if detail["type"] in {"enum", "literal_error"}:
        return Problem(path, _not_one_of(detail["input"], _node(schema, location).get("enum", [])))
    if detail["type"] == "missing":
        return Problem(path, "is required")
    if detail["type"] == "value_error":
        return Problem(path, detail["msg"].removeprefix("Value error, "))
    return Problem(path, f"{detail['msg'][:1].lower()}{detail['msg'][1:]} (is {detail['input']!r})")


def dotted(location: tuple[int | str, ...]) -> str:
    """A path as people write it: `spec.gates[0].metric`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _unknown_field(location: tuple[int | str, ...], schema: dict[str, Any]) -> str:
    name = str(location[-1])
    allowed = sorted(_node(schema, location[:-1]).get("properties", {}))
    near = get_close_matches(name, allowed, n=1, cutoff=0.6) or _same_letters(name, allowed)
    elsewhere = [] if near else [path for path in _paths(schema["properties"]["spec"], "spec") if _leaf(path) == name]
    hint = f"did you mean {(near or elsewhere)[0]}? " if near or elsewhere else ""
    return f"unknown field; {hint}allowed here: {', '.join(allowed)}"


def _same_letters(name: str, allowed: list[str]) -> list[str]:
    """Matches but for case and underscores: learning_rate is learningRate."""
    return [other for other in allowed if other.lower() == name.lower().replace("_", "").replace("-", "")]


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _paths(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _paths(child, f"{path}.{name}")


def _node(schema: dict[str, Any], location: tuple[int | str, ...]) -> dict[str, Any]:
    node = schema
    for part in location:
        inner = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
        node = inner or node.get("additionalProperties") or {}
    return node


def _capability_problems(resource: Model) -> Iterator[Problem]:
    """What the schema allows and this release cannot do."""
    if isinstance(resource, FineTuneJob):
        try:
            resolve(resource.spec)
        except UnresolvableError as error:
            yield from (Problem(*_split(sentence)) for sentence in error.problems)
    if isinstance(resource, ModelEndpoint):
        uri = resource.spec.source.uri
        try:
            parse_uri(uri or "job://any")
        except UriError as error:
            yield Problem("spec.source.uri", str(error))
            return
        yield from (Problem(*_split(str(found))) for found in unsupported_endpoint_fields(resource.spec))


def _split(sentence: str) -> tuple[str, str]:
    """A sentence that starts with its field, such as `spec.task: …` or `spec.model.preset 'x' is …`."""
    field, separator, rest = sentence.partition(": ")
    return (field, rest) if separator and " " not in field else ("", sentence)
