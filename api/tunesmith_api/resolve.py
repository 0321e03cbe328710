"""A spec to the resolved job: `Auto` replaced, limits checked against the model, memory estimated. Pure.

The operator and local runs share it; what differs is only where inputs are mounted and what the pool or machine has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunesmith_api.architecture import Architecture
from tunesmith_api.catalog import CatalogModel, UnknownPresetError, find_preset
from tunesmith_api.conditions import Reason
from tunesmith_api.finetunejob import FineTuneJobSpec, SecretReference
from tunesmith_api.gated import evaluation_problems
from tunesmith_api.misfits import refusals
from tunesmith_api.planner import (
    ANYWHERE,
    DataSize,
    MemoryEstimate,
    PoolOffer,
    Settled,
    estimate_job,
    export_bytes,
    sequence_length,
    settle,
    shapes_of,
)
from tunesmith_api.support import unsupported_job_fields
from tunesmith_api.tasks import answer_reasons, foreign_columns, format_problem
from tunesmith_api.techniques import virtual_tokens, with_learning_rate
from tunesmith_api.uri import UriError, parse_uri, require_output

#: The field that is written to.
OUTPUT_FIELD = "spec.output.uri"


@dataclass(frozen=True)
class Source:
    """A URI of a spec.

    Attributes:
        field: the spec's field that holds the URI.
        uri: where the thing lies.
        secret: credentials.
    """

    field: str
    uri: str
    secret: SecretReference | None = None


@dataclass(frozen=True)
class Resolution:
    """What a spec means.

    Attributes:
        spec: the spec with every `Auto` of technique and distribution replaced.
        pool: the pool that Auto chose; None where the technique was asked for.
        model: the catalog's entry of the base model; None for a model by URI.
        architecture: the base model's numbers; None where they are not known yet.
        memory: estimated peak of the train stage; None as above.
        export_memory_bytes: estimated peak of the export stage; None as above.
        reasons: why the plan is what it is, a sentence each.
    """

    spec: FineTuneJobSpec
    pool: str | None
    model: CatalogModel | None
    architecture: Architecture | None
    memory: MemoryEstimate | None
    export_memory_bytes: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Objection:
    """Something that keeps a spec from being run.

    Attributes:
        reason: what kind of thing it is, for programs.
        message: a sentence that names a field, its value and the way out.
    """

    reason: Reason
    message: str

    @property
    def field(self) -> str:
        """The field that it names first, such as `spec.serve.replicas`."""
        return self.message.partition(":")[0]


class UnresolvableError(ValueError):
    """Raised when a spec cannot be run; `problems` are sentences that each name a field, its value and the way out."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def sources(spec: FineTuneJobSpec) -> Iterator[Source]:
    """Every URI that the job reads."""
    if spec.model.uri is not None:
        yield Source("spec.model.uri", spec.model.uri, spec.model.secret_ref)
    train, evaluation = spec.dataset.train, spec.dataset.evaluation
    yield Source("spec.dataset.train.uri", train.uri, train.secret_ref)
    if evaluation.uri is not None:
        yield Source("spec.dataset.evaluation.uri", evaluation.uri, evaluation.secret_ref)


def every_uri(spec: FineTuneJobSpec) -> Iterator[Source]:
    """Every URI of the job: what it reads, then where it writes."""
    yield from sources(spec)
    if spec.output is not None:
        yield Source(OUTPUT_FIELD, spec.output.uri, spec.output.secret_ref)


def objections(spec: FineTuneJobSpec) -> list[Objection]:
    """Everything that keeps a spec from being run, wherever it runs; the most basic first."""
    found = [Objection(Reason.INVALID_SPEC, problem) for problem in uri_problems(spec)]
    if not found:
        found = [Objection(Reason.NOT_SUPPORTED, str(field)) for field in unsupported_job_fields(spec)]
    mismatch = format_problem(spec.task, spec.dataset.format)
    if mismatch:
        found.append(Objection(Reason.INVALID_SPEC, f"spec.dataset.format: {mismatch}"))
    found += _invalid(foreign_columns(spec.dataset.columns, spec.dataset.format))
    try:
        model = find_preset(spec.model.preset) if spec.model.preset is not None else None
    except UnknownPresetError as error:
        return [*found, Objection(Reason.UNKNOWN_PRESET, f"spec.{error}"), *_invalid(_kindless(spec))]
    return [*found, *_invalid(misfits(spec, model) if model is not None else _kindless(spec))]


def _kindless(spec: FineTuneJobSpec) -> list[str]:
    """What cannot work whatever kind of model it is; prepare tells the rest."""
    return refusals(spec) + evaluation_problems(spec)


def _invalid(problems: list[str]) -> list[Objection]:
    return [Objection(Reason.INVALID_SPEC, problem) for problem in problems]


def resolve(
    spec: FineTuneJobSpec,
    pools: Sequence[PoolOffer] = (ANYWHERE,),
    data: DataSize | None = None,
    architecture: Architecture | None = None,
) -> Resolution:
    """Resolve a spec.

    Args:
        spec: what a person wrote.
        pools: where it could train; a pool of unknown size unless said otherwise.
        data: what is known of the training rows.
        architecture: the numbers of a base model by URI, where they are known; a preset's are in the catalog.

    Raises:
        UnresolvableError: a URI cannot be understood, the preset is unknown, a field asks for what is not built yet, or
            a number does not fit the model. All problems at once.
    """
    found = objections(spec)
    if found:
        raise UnresolvableError([one.message for one in found])
    model = find_preset(spec.model.preset) if spec.model.preset is not None else None
    numbers = model.architecture if model else architecture
    settled = settle(spec, numbers, pools, data=data)
    return _estimated(planned(spec, settled), settled, model, numbers)


def planned(spec: FineTuneJobSpec, settled: Settled) -> FineTuneJobSpec:
    """The spec with its technique, its distribution and the technique's learning rate settled."""
    update = {"technique": settled.technique, "distribution": settled.distribution}
    return with_learning_rate(spec.model_copy(update=update))


def uri_problems(spec: FineTuneJobSpec) -> list[str]:
    """URIs of a job that cannot be understood, a sentence each."""
    found = []
    for source in every_uri(spec):
        try:
            (require_output if source.field == OUTPUT_FIELD else parse_uri)(source.uri)
        except UriError as error:
            found.append(f"{source.field}: {error}")
    return found


def misfits(spec: FineTuneJobSpec, model: CatalogModel) -> list[str]:
    """What of a spec does not fit its model, a sentence each."""
    found = []
    if spec.task not in model.tasks:
        tasks = ", ".join(model.tasks)
        found.append(f"spec.task: {model.name} is not made for {spec.task}; use one of {tasks}")
    found += refusals(spec, model.architecture.kind, shapes_of(model.architecture))
    found += evaluation_problems(spec, model.architecture.kind)
    virtual = virtual_tokens(spec.technique)
    room = model.architecture.max_position_embeddings - virtual
    length = spec.training.max_sequence_length
    if length is not None and length > room:
        less = f" less {virtual} virtual tokens" if virtual else ""
        found.append(
            f"spec.training.maxSequenceLength: {length} is above the context of {model.name}{less}; use at most {room}"
        )
    return found


def _estimated(
    spec: FineTuneJobSpec, settled: Settled, model: CatalogModel | None, numbers: Architecture | None
) -> Resolution:
    if numbers is None:
        unknown = "memory: not estimated, since the model's size is known only once prepare has fetched it"
        return Resolution(spec, settled.pool, None, None, None, None, (*settled.reasons, unknown))
    length = sequence_length(spec, numbers)
    batch = spec.training.batch_size
    memory = estimate_job(spec, numbers)
    export = export_bytes(spec, numbers)
    parts = memory.parts()
    largest = max(parts, key=lambda part: parts[part])
    sentence = (
        f"memory: {memory.total / 2**30:.1f} GiB at batch {batch} and {length} tokens, most of it {largest}"
        f" ({parts[largest] / 2**30:.1f} GiB); export {export / 2**30:.1f} GiB"
    )
    reasons = (*settled.reasons, *answer_reasons(spec.task, numbers.kind), sentence)
    return Resolution(spec, settled.pool, model, numbers, memory, export, reasons)
