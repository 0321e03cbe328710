"""From pydantic types to structural schemas."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from tunesmith_api.model import Model, Rule, immutable
from tunesmith_api.structural import structural


class Colour(StrEnum):
    """A colour."""

    RED = "Red"


class Inner(Model):
    """An inner object."""

    number: int = 3
    """A number."""


class Outer(Model):
    """An outer object."""

    rules: ClassVar = (Rule("self.a_rule", "keep the rule", field_path=".inner"), Rule("true", "no path"))

    inner: Inner = Field(default_factory=Inner)
    """Its own words."""
    wanted: Inner
    """Required."""
    absent: Inner | None = None
    """Optional."""
    colour: Colour = Colour.RED
    """An enum."""
    constant: Literal["only"] = "only"
    """A constant."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Exclusive bounds."""
    snake_case: Annotated[list[Inner], Field(max_length=2)] = Field(default_factory=list)
    """A list."""
    options: Annotated[dict[str, float | str | bool], Field(max_length=4)] = Field(default_factory=dict)
    """Any scalar."""


NUMBER = {"type": "integer", "default": 3, "description": "A number."}

EXPECTED = {
    "inner": {
        "type": "object",
        "description": "Its own words.",
        "properties": {"number": NUMBER},
        "default": {"number": 3},
    },
    "wanted": {"type": "object", "description": "Required.", "properties": {"number": NUMBER}},
    "absent": {"type": "object", "description": "Optional.", "properties": {"number": NUMBER}},
    "colour": {"type": "string", "enum": ["Red"], "default": "Red", "description": "An enum."},
    "constant": {"type": "string", "enum": ["only"], "default": "only", "description": "A constant."},
    "share": {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
        "description": "Exclusive bounds.",
    },
    "snakeCase": {
        "type": "array",
        "maxItems": 2,
        "items": {"type": "object", "description": "An inner object.", "properties": {"number": NUMBER}},
        "default": [],
        "description": "A list.",
    },
    "options": {
        "type": "object",
        "maxProperties": 4,
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": True},
        "default": {},
        "description": "Any scalar.",
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_field_becomes_its_structural_form(name: str) -> None:
    """Each kind of field has one structural form, without references, nulls, titles or literals."""
    assert structural(Outer)["properties"][name] == EXPECTED[name]


def test_every_field_is_in_the_table() -> None:
    """The table above speaks of every field, and only required fields are required."""
    schema = structural(Outer)
    assert set(schema["properties"]) == set(EXPECTED)
    assert schema["required"] == ["wanted"]


def test_rules_become_validations() -> None:
    """A type's rules are its validations, with a field path where one is set."""
    assert structural(Outer)["x-kubernetes-validations"] == [
        {"rule": "self.a_rule", "message": "keep the rule", "fieldPath": ".inner"},
        {"rule": "true", "message": "no path"},
    ]


def test_a_status_has_no_defaults() -> None:
    """Without defaults, the server adds nothing to what was written."""
    assert "default" not in str(structural(Outer, defaults=False))


def test_immutable_names_the_field_by_its_wire_name() -> None:
    """The transition rule and its message use the camelCase name."""
    rule = immutable("snake_case", "other", way_out="make a new one")
    assert "has(oldSelf.snakeCase)" in rule.cel
    assert "? 'snakeCase' : 'other'" in rule.message_cel
    assert "is immutable: make a new one" in rule.message_cel
