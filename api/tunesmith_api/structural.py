"""pydantic models to structural schemas: the subset of OpenAPI 3.0 that a CustomResourceDefinition may use.

What pydantic emits and a structural schema forbids is replaced where it arises: references are inlined, `T | None`
becomes an absent field, a single literal an enum, a default factory a default (without which nested defaults never
apply), a union of scalars a value that the server keeps as it is. A type's cross-field rules become
`x-kubernetes-validations`.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

from tunesmith_api.model import Model, Rule

_DROPPED = frozenset({"title", "examples", "deprecated", "readOnly", "writeOnly", "propertyNames"})


class StructuralSchema(GenerateJsonSchema):
    """Emits what a structural schema can say, still with references (see `structural`)."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """`T | None` is T: an object without the field, never one with a null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The inner schema with its default, be it a value or a factory's product."""
        inner = self.generate_inner(schema["schema"])
        factory = schema.get("default_factory")
        value = factory() if callable(factory) else schema.get("default")  # type: ignore[call-arg]
        if value is None:
            return inner
        reference = {"allOf": [inner]} if "$ref" in inner else inner
        return {**reference, "default": _default(value)}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """A closed set of strings."""
        return {"type": "string", "enum": list(schema["expected"])}

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:  # noqa: ARG002 - the base class's signature
        """A union of scalars, which only the client can check: the server keeps the value."""
        return {"x-kubernetes-preserve-unknown-fields": True}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """An object with its rules, without `additionalProperties: false` (the server prunes)."""
        result = super().model_schema(schema)
        result.pop("additionalProperties", None)
        model = schema["cls"]
        if issubclass(model, Model) and model.rules:
            result["x-kubernetes-validations"] = [validation_of(rule) for rule in model.rules]
        return result


def _default(value: Any) -> Any:
    """A default as JSON; a model's in full, since the server evaluates rules on it before it fills in nested ones."""
    return value.wire() if isinstance(value, Model) else to_jsonable_python(value)


def validation_of(rule: Rule) -> dict[str, Any]:
    """A rule as an entry of `x-kubernetes-validations`."""
    found = {"rule": rule.cel, "message": rule.message}
    if rule.message_cel:
        found["messageExpression"] = rule.message_cel
    if rule.field_path:
        found["fieldPath"] = rule.field_path
    return found


def structural(model: type[BaseModel], *, defaults: bool = True) -> dict[str, Any]:
    """The structural schema of a type.

    Args:
        model: the pydantic type; must not refer to itself.
        defaults: whether the server fills in defaults. A status has none: what was written is what is read.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=StructuralSchema)
    definitions = schema.pop("$defs", {})
    result: dict[str, Any] = _inline(schema, definitions, defaults=defaults)
    return result


def _inline(node: Any, definitions: dict[str, Any], *, defaults: bool) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions, defaults=defaults) for item in node]
    if not isinstance(node, dict):
        return node
    merged = _resolve(node, definitions)
    inlined = {
        key: _properties(value, definitions, defaults=defaults) if key == "properties" else value
        for key, value in merged.items()
        if key not in _DROPPED and (defaults or key != "default")
    }
    for key in ("items", "additionalProperties"):
        if key in inlined:
            inlined[key] = _inline(inlined[key], definitions, defaults=defaults)
    return _number_bounds(inlined)


def _properties(properties: dict[str, Any], definitions: dict[str, Any], *, defaults: bool) -> dict[str, Any]:
    return {name: _inline(schema, definitions, defaults=defaults) for name, schema in properties.items()}


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The node with its reference replaced by what it refers to; the node's own keywords win."""
    merged = dict(node)
    targets = merged.pop("allOf", [])
    targets = [*targets, {"$ref": merged.pop("$ref")}] if "$ref" in merged else targets
    for target in targets:
        found = definitions[target["$ref"].removeprefix("#/$defs/")] if "$ref" in target else target
        merged = {**_resolve(found, definitions), **merged}
    return merged


def _number_bounds(node: dict[str, Any]) -> dict[str, Any]:
    """Exclusive bounds in OpenAPI 3.0's form: the bound, and a flag."""
    result = dict(node)
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if flag in result:
            result[bound] = result[flag]
            result[flag] = True
    return result
