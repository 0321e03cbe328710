"""The base of every contract type: camelCase on the wire, unknown fields refused, cross-field rules stated once.

A rule is one row that carries its CEL expression (enforced by the API server), its Python twin (enforced by the command
line and the trainer) and the message that a person reads from either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


@dataclass(frozen=True)
class Rule:
    """One cross-field rule of a type.

    Attributes:
        cel: the expression that the API server evaluates, with `self` (and `oldSelf` in a transition rule).
        message: what a person reads when the rule does not hold: the field, and the way out.
        holds: the same rule over the pydantic model; None for a transition rule, which needs the old object.
        field_path: where the API server reports the failure, such as `.rank`; the type itself when empty.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    field_path: str = ""


class Model(BaseModel):
    """A value of the contract: immutable, camelCase by alias, no unknown field."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in type(self).rules:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.message)
        return self

    def wire(self) -> dict[str, Any]:
        """The JSON form: camelCase keys, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def exactly_one(*fields: str) -> Rule:
    """The rule that exactly one of some optional fields is set; `fields` are Python names."""
    wire_names = [to_camel(name) for name in fields]
    listed = ", ".join(f"has(self.{name})" for name in wire_names)
    return Rule(
        cel=f"[{listed}].exists_one(x, x)",
        message=f"set exactly one of {', '.join(wire_names)}",
        holds=lambda value: sum(getattr(value, name) is not None for name in fields) == 1,
    )


def immutable(*fields: str, way_out: str) -> tuple[Rule, ...]:
    """A transition rule for each field: it may not change, appear or go. `fields` are Python names."""
    return tuple(
        Rule(
            cel=f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
            message=f"spec.{name} is immutable: {way_out}",
        )
        for name in map(to_camel, fields)
    )
