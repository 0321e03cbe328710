"""What a FineTuneJob's spec can ask for that can never work: said before anything is created. Pure."""

from dataclasses import dataclass

from tunesmith_api import (
    Architecture,
    CatalogModel,
    FineTuneJobSpec,
    Reason,
    Scheme,
    UnknownPresetError,
    UriError,
    find_preset,
    parse_uri,
    unsupported_job_fields,
)
from tunesmith_api.resolve import every_uri, misfits


@dataclass(frozen=True)
class Problem:
    """Why a spec cannot work."""

    reason: Reason
    message: str


def find_problem(spec: FineTuneJobSpec) -> Problem | None:
    """The first reason why a spec cannot work in a cluster, or None."""
    return _uri_problem(spec) or _unsupported(spec) or _model_problem(spec)


def _uri_problem(spec: FineTuneJobSpec) -> Problem | None:
    for source in every_uri(spec):
        field, uri = source.field, source.uri
        try:
            location = parse_uri(uri)
        except UriError as error:
            return Problem(Reason.INVALID_SPEC, f"{field}: {error}")
        if location.scheme is Scheme.FILE:
            message = f"{field}: {uri} is a path of one machine; use pvc:// or configmap:// in a cluster"
            return Problem(Reason.NOT_SUPPORTED, message)
    return None


def _unsupported(spec: FineTuneJobSpec) -> Problem | None:
    found = unsupported_job_fields(spec)
    return Problem(Reason.NOT_SUPPORTED, "; ".join(map(str, found))) if found else None


def _model_problem(spec: FineTuneJobSpec) -> Problem | None:
    if spec.model.preset is None:
        return None
    try:
        model = find_preset(spec.model.preset)
    except UnknownPresetError as error:
        return Problem(Reason.UNKNOWN_PRESET, f"spec.{error}")
    if not model.exportable:
        return Problem(Reason.NOT_SUPPORTED, f"spec.model.preset: {model.name} cannot be exported to ONNX yet")
    found = misfits(spec, model)
    return Problem(Reason.INVALID_SPEC, "; ".join(found)) if found else None


def model_of(spec: FineTuneJobSpec) -> CatalogModel | None:
    """The catalog's entry of the base model, where it has one."""
    return find_preset(spec.model.preset) if spec.model.preset else None


def architecture_of(spec: FineTuneJobSpec) -> Architecture | None:
    """The numbers of the base model, where the catalog knows them."""
    model = model_of(spec)
    return model.architecture if model else None
