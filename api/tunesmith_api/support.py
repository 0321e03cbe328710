"""What this release does not do yet: fields of the contract that are refused until they are built."""

from collections.abc import Callable
from dataclasses import dataclass

from tunesmith_api.catalog import load_catalog
from tunesmith_api.enums import (
    ModelKind,
    Precision,
    RolloutStrategy,
    Strategy,
    TrackerType,
)
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.modelendpoint import EndpointTemplate, ModelEndpointSpec
from tunesmith_api.uri import MODEL_READABLE, READABLE, SERVABLE, WRITABLE, Scheme, parse_uri

#: Why an encoder is not served; prepare says it of a model by URI, whose kind it alone knows.
NO_ENCODER_SERVER = (
    "the server runs causal models, no encoders and no encoder-decoder models; leave serve out and read the exported"
    " model with ONNX Runtime"
)


@dataclass(frozen=True)
class Unsupported:
    """A field whose value asks for something that is not built yet."""

    field: str
    value: str
    supported: str

    def __str__(self) -> str:
        """The sentence that the status shows."""
        return f"{self.field}: {self.value} is not supported yet; {self.supported}"


def _one_of(values: frozenset[str]) -> str:
    return f"use one of {', '.join(sorted(values))}"


def _uri(field: str, uri: str | None, schemes: frozenset[Scheme]) -> list[Unsupported]:
    if uri is None or parse_uri(uri).scheme in schemes:
        return []
    return [Unsupported(field, uri, f"use one of {', '.join(sorted(f'{scheme}://' for scheme in schemes))}")]


def _enum(field: str, value: str, values: frozenset[str]) -> list[Unsupported]:
    return [] if value in values else [Unsupported(field, value, _one_of(values))]


def _absent(field: str, value: object, way_out: str) -> list[Unsupported]:
    return [Unsupported(field, "this field", way_out)] if value else []


def _job_model(spec: FineTuneJobSpec) -> list[Unsupported]:
    """A preset that the trainer cannot tune or export; an unknown one is an error of its own (`find_preset`)."""
    model = load_catalog().get(spec.model.preset or "")
    if model is None or (model.trainable and model.exportable):
        return []
    known = sorted(name for name, other in load_catalog().items() if other.trainable and other.exportable)
    return [Unsupported("spec.model.preset", model.name, _one_of(frozenset(known)))]


def _job_distribution(spec: FineTuneJobSpec) -> list[Unsupported]:
    if spec.distribution.strategy is Strategy.DEEPSPEED and spec.training.precision is Precision.FP16:
        return [Unsupported("spec.training.precision", "FP16 with DeepSpeed", "use BF16 or FP32")]
    return []


def _job_uris(spec: FineTuneJobSpec) -> list[Unsupported]:
    found = _uri("spec.model.uri", spec.model.uri, MODEL_READABLE)
    found += _uri("spec.dataset.train.uri", spec.dataset.train.uri, READABLE)
    found += _uri("spec.dataset.evaluation.uri", spec.dataset.evaluation.uri, READABLE)
    return found + _uri("spec.output.uri", spec.output.uri if spec.output else None, WRITABLE)


def _job_fields(spec: FineTuneJobSpec) -> list[Unsupported]:
    return _absent("spec.queue", spec.queue, "leave it out; the job starts without a queue")


def _logins(spec: FineTuneJobSpec) -> list[Unsupported]:
    """MLflow's client reads its login from the environment at each request, so every server would get the last one."""
    trackers = [(place, one) for place, one in enumerate(spec.tracking) if one.type is TrackerType.MLFLOW]
    for place, tracker in trackers:
        first, other = trackers[0][0], trackers[0][1].secret_ref
        if tracker.secret_ref != other:
            names = [ref.name if ref else "none" for ref in (tracker.secret_ref, other)]
            value = f"{names[0]} beside {names[1]} of spec.tracking[{first}]"
            way_out = "MLflow's client has one login; give both trackers the same secret, or keep one of them"
            return [Unsupported(f"spec.tracking[{place}].secretRef", value, way_out)]
    return []


def _serve(spec: FineTuneJobSpec) -> list[Unsupported]:
    if spec.serve is None:
        return []
    model = load_catalog().get(spec.model.preset or "")
    if model is not None and model.architecture.kind is not ModelKind.CAUSAL:
        what = f"serving a model of kind {model.architecture.kind}"
        return [Unsupported("spec.serve", what, NO_ENCODER_SERVER)]
    return unsupported_endpoint_fields(spec.serve, "spec.serve")


_JOB_CHECKS: tuple[Callable[[FineTuneJobSpec], list[Unsupported]], ...] = (
    _job_model,
    _job_distribution,
    _job_uris,
    _job_fields,
    _logins,
    _serve,
)


def unsupported_job_fields(spec: FineTuneJobSpec) -> list[Unsupported]:
    """Every field of a FineTuneJob that asks for something that is not built yet, in the order of the spec."""
    return [found for check in _JOB_CHECKS for found in check(spec)]


def unsupported_endpoint_fields(spec: EndpointTemplate, prefix: str = "spec") -> list[Unsupported]:
    """Every field of a ModelEndpoint (or of a job's `serve`) that asks for something that is not built yet."""
    found = _absent(f"{prefix}.adapters", spec.adapters, "export a merged model for each adapter")
    found += _enum(f"{prefix}.rollout.strategy", spec.rollout.strategy, frozenset({RolloutStrategy.REPLACE}))
    found += _absent(f"{prefix}.rollout.analysis", spec.rollout.analysis, "leave it out")
    found += _absent(f"{prefix}.runtime.precision", spec.runtime.precision, "set the job's export.precision instead")
    if isinstance(spec, ModelEndpointSpec):
        found += _uri(f"{prefix}.source.uri", spec.source.uri, SERVABLE)
    return found
