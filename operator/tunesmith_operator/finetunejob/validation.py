"""What a FineTuneJob's spec can ask for that can never work: said before anything is created. Pure."""

from collections.abc import Mapping
from typing import Any

from tunesmith_api import Architecture, CatalogModel, FineTuneJobSpec, Reason, Scheme, find_preset, parse_uri
from tunesmith_api.resolve import Objection, every_uri, objections


def find_problem(spec: FineTuneJobSpec) -> Objection | None:
    """The first reason why a spec cannot work in a cluster, with all that there is to say of its kind; or None."""
    found = objections(spec) or _of_one_machine(spec)
    if not found:
        return None
    reason = found[0].reason
    return Objection(reason, "; ".join(one.message for one in found if one.reason is reason))


def _of_one_machine(spec: FineTuneJobSpec) -> list[Objection]:
    way_out = "is a path of one machine; use pvc:// or configmap:// in a cluster"
    return [
        Objection(Reason.NOT_SUPPORTED, f"{source.field}: {source.uri} {way_out}")
        for source in every_uri(spec)
        if parse_uri(source.uri).scheme is Scheme.FILE
    ]


def model_of(spec: FineTuneJobSpec) -> CatalogModel | None:
    """The catalog's entry of the base model, where it has one."""
    return find_preset(spec.model.preset) if spec.model.preset else None


def architecture_of(spec: FineTuneJobSpec, status: Mapping[str, Any]) -> Architecture | None:
    """The numbers of the base model: the catalog's, or what prepare has read of a model by URI."""
    model = model_of(spec)
    if model is not None:
        return model.architecture
    return Architecture.model_validate(status["model"]) if "model" in status else None
