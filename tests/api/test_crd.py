"""The generated CustomResourceDefinitions, without a server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import V1JSONSchemaProps

from tunesmith_api.crd import crd, files
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.resource import KINDS

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "uniqueItems", "title", "propertyNames", "nullable"}
#: Changing these does not change what the job computes.
MUTABLE = {"suspend", "ttlSecondsAfterFinished"}

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def root_schema(kind: Any) -> dict[str, Any]:
    """The schema of a whole object."""
    schema: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def ours(kind: Any) -> list[tuple[str, dict[str, Any]]]:
    """Every schema below spec and status."""
    properties = root_schema(kind)["properties"]
    return [node for part in ("spec", "status") for node in nodes(properties[part], part)]


@pytest.mark.parametrize("path", files(), ids=str)
def test_generated_files_are_up_to_date(path: Path) -> None:
    """`crds/` and the chart's copy are what the types generate; run `make generate` after a change."""
    assert (ROOT / path).read_text() == files()[path]


@pytest.mark.parametrize("folder", ["crds", "charts/tunesmith/templates/crds"])
def test_no_generated_file_is_left_over(folder: str) -> None:
    """A folder of generated files holds nothing else."""
    assert {path.relative_to(ROOT) for path in (ROOT / folder).iterdir()} == {
        path for path in files() if path.parent == Path(folder)
    }


def test_the_module_writes_the_files(tmp_path: Path) -> None:
    """`python -m tunesmith_api.crd FOLDER` writes every generated file below the folder."""
    subprocess.run([sys.executable, "-m", "tunesmith_api.crd", str(tmp_path)], check=True)
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    assert written == files()


@pytest.mark.parametrize("path", [path for path in files() if path.parts[0] == "crds"], ids=str)
def test_the_plain_copy_is_one_manifest(path: Path) -> None:
    """The files of `crds/` are plain YAML below 100 kB, without Helm's marks."""
    text = files()[path]
    assert len(text.encode()) < 100_000
    assert "helm" not in text
    assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition"


@every_kind
def test_schemas_fit_the_client_type(kind: Any) -> None:
    """Every schema is made of JSONSchemaProps' fields only."""
    snake = {"$ref": "_ref", "x-kubernetes-validations": "x_kubernetes_validations", "enum": "enum"}
    for path, schema in ours(kind):
        names = {snake.get(key, re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower().replace("-", "_")) for key in schema}
        assert names <= set(V1JSONSchemaProps.openapi_types), path


@every_kind
def test_schemas_are_structural(kind: Any) -> None:
    """No schema uses what a structural schema forbids, and each has a type or keeps what it gets."""
    for path, schema in ours(kind):
        assert not FORBIDDEN & set(schema), path
        assert "type" in schema or schema.get("x-kubernetes-preserve-unknown-fields"), path
        assert not ("properties" in schema and "additionalProperties" in schema), path
        assert not isinstance(schema.get("exclusiveMinimum", True), float), path


@every_kind
def test_every_string_list_and_map_is_bounded(kind: Any) -> None:
    """Bounds give CEL rules a known cost and keep objects small."""
    bounds = {"string": ("maxLength", "enum"), "array": ("maxItems",)}
    for path, schema in ours(kind):
        wanted = ("maxProperties",) if "additionalProperties" in schema else bounds.get(schema.get("type", ""), ())
        assert not wanted or set(wanted) & set(schema), path


@every_kind
def test_every_field_is_described(kind: Any) -> None:
    """`kubectl explain` has a sentence for every field."""
    for path, schema in ours(kind):
        for name, child in schema.get("properties", {}).items():
            assert child.get("description", "").endswith("."), f"{path}.{name}"


@every_kind
def test_conditions_are_merged_by_type(kind: Any) -> None:
    """Several managers may own one condition each."""
    conditions = root_schema(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@every_kind
def test_printer_columns_and_scale_point_at_fields(kind: Any) -> None:
    """Every JSONPath of a column or of the scale subresource names a field of the schema."""
    known = {f".{path}" for path, _ in ours(kind)} | {".metadata.creationTimestamp"}
    paths = [column.path for column in kind.columns] + list(kind.scale or ())
    plain = [path for path in paths if "[?" not in path]
    assert set(plain) <= known
    assert len(paths) - len(plain) == 1


def test_every_field_of_a_job_is_immutable_or_says_why_not() -> None:
    """A new field of the spec cannot be forgotten in the immutability rules."""
    (rule,) = FineTuneJobSpec.rules
    named = set(re.findall(r"'([a-z][A-Za-z]*)'", rule.message_cel))
    assert named == set(re.findall(r"has\(oldSelf\.(\w+)\)", rule.cel))
    fields = {field.alias for field in FineTuneJobSpec.model_fields.values()}
    assert fields - named == MUTABLE
    assert named <= fields
