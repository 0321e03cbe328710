"""A spec to the resolved job: `Auto` replaced, limits checked against the model, memory estimated. Pure.

The operator and local runs share it; what differs is only where inputs are mounted and what the pool or machine has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith_api.catalog import Architecture, CatalogModel, UnknownPresetError, find_preset
from tunesmith_api.enums import ExportPrecision, Goal, Strategy, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, LoraSpec, SecretReference, TechniqueSpec
from tunesmith_api.planner import (
    DEFAULT_SEQUENCE_LENGTH,
    MemoryEstimate,
    estimate_export_memory,
    estimate_lora_memory,
    widest_rank,
)
from tunesmith_api.support import TASKS, unsupported_job_fields
from tunesmith_api.uri import UriError, parse_uri


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
        model: the catalog's entry of the base model; None for a model by URI, whose size is not known yet.
        memory: estimated peak of the train stage; None where the model's size is not known.
        export_memory_bytes: estimated peak of the export stage; None as above.
        reasons: why the plan is what it is, a sentence each.
    """

    spec: FineTuneJobSpec
    model: CatalogModel | None
    memory: MemoryEstimate | None
    export_memory_bytes: int | None
    reasons: tuple[str, ...]


class UnresolvableError(ValueError):
    """Raised when a spec cannot be run; `problems` are sentences that each name a field, its value and the way out."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class _GoalRow:
    rank: int
    rank_stabilized: bool
    why: str


#: What `Auto` makes of each goal. LoRA learns less but also forgets less with a lower rank (Biderman et al. 2024), and
#: needs rsLoRA's scale to profit from a high one (Kalajdzievski 2023).
GOALS: dict[Goal, _GoalRow] = {
    Goal.BALANCED: _GoalRow(16, rank_stabilized=False, why="rank 16 suits most tasks"),
    Goal.LOWEST_COST: _GoalRow(8, rank_stabilized=False, why="rank 8 trains fastest without losing much quality"),
    Goal.LOWEST_MEMORY: _GoalRow(8, rank_stabilized=False, why="rank 8 keeps gradients and optimizer states small"),
    Goal.FEWEST_PARAMETERS: _GoalRow(2, rank_stabilized=False, why="rank 2 trains the fewest weights"),
    Goal.BEST_QUALITY: _GoalRow(64, rank_stabilized=True, why="rank 64, rank-stabilised, comes closest to full tuning"),
}


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
        yield Source("spec.output.uri", spec.output.uri, spec.output.secret_ref)


def resolve(spec: FineTuneJobSpec) -> Resolution:
    """Resolve a spec.

    Raises:
        UnresolvableError: a URI cannot be understood, the preset is unknown, a field asks for what is not built yet, or
            a number does not fit the model. All problems at once.
    """
    problems = _uri_problems(spec)
    if not problems:
        problems = [str(found) for found in unsupported_job_fields(spec)]
    model = None
    try:
        model = find_preset(spec.model.preset) if spec.model.preset is not None else None
    except UnknownPresetError as error:
        problems.append(f"spec.{error}")
    if model is not None:
        problems += misfits(spec, model)
    if problems:
        raise UnresolvableError(problems)
    return _estimated(*planned(spec, model), model)


def planned(spec: FineTuneJobSpec, model: CatalogModel | None) -> tuple[FineTuneJobSpec, str]:
    """The spec with every `Auto` of technique and distribution replaced, and why the technique is what it is."""
    technique, reason = _technique(spec.technique, model)
    distribution = spec.distribution.model_copy(update={"strategy": Strategy.NONE})
    return spec.model_copy(update={"technique": technique, "distribution": distribution}), reason


def _uri_problems(spec: FineTuneJobSpec) -> list[str]:
    found = []
    for source in every_uri(spec):
        try:
            parse_uri(source.uri)
        except UriError as error:
            found.append(f"{source.field}: {error}")
    return found


def _technique(asked: TechniqueSpec, model: CatalogModel | None) -> tuple[TechniqueSpec, str]:
    if asked.type is not TechniqueType.AUTO:
        return asked, f"technique {asked.type}: asked for"
    goal = asked.goal or Goal.BALANCED
    row = GOALS[goal]
    if asked.lora is not None:
        chosen = TechniqueSpec(type=TechniqueType.LORA, lora=asked.lora)
        return chosen, f"technique LoRA: the one of this release; rank {asked.lora.rank} as asked"
    rank = min(row.rank, widest_rank(model.architecture)) if model else row.rank
    lora = LoraSpec(rank=rank, alpha=2 * rank, rank_stabilized=row.rank_stabilized)
    reason = f"technique LoRA: the one of this release; goal {goal}: {row.why}"
    return TechniqueSpec(type=TechniqueType.LORA, lora=lora), reason


def misfits(spec: FineTuneJobSpec, model: CatalogModel) -> list[str]:
    """What of a spec does not fit its model, a sentence each."""
    found = []
    if spec.task in TASKS - set(model.tasks):
        tasks = ", ".join(model.tasks)
        found.append(f"spec.task: {model.name} is not made for {spec.task}; use one of {tasks}")
    technique = spec.technique
    widest, context = widest_rank(model.architecture), model.architecture.max_position_embeddings
    if technique.lora is not None and technique.lora.rank > widest:
        found.append(
            f"spec.technique.lora.rank: {technique.lora.rank} is above the width {widest} of the narrowest layer of"
            f" {model.name}; use at most {widest}"
        )
    length = spec.training.max_sequence_length
    if length is not None and length > context:
        found.append(
            f"spec.training.maxSequenceLength: {length} is above the context of {model.name}; use at most {context}"
        )
    return found


def sequence_length(spec: FineTuneJobSpec, model: Architecture) -> int:
    """The longest row in tokens that the job trains on."""
    return min(spec.training.max_sequence_length or DEFAULT_SEQUENCE_LENGTH, model.max_position_embeddings)


def _estimated(spec: FineTuneJobSpec, reason: str, model: CatalogModel | None) -> Resolution:
    if model is None:
        unknown = "memory: not estimated, since the model's size is known only once prepare has fetched it"
        return Resolution(spec, None, None, None, (reason, unknown))
    length = sequence_length(spec, model.architecture)
    batch = spec.training.batch_size
    memory = estimate_lora_memory(
        model.architecture, spec.technique.lora or LoraSpec(), batch_size=batch, sequence_length=length
    )
    quantized = spec.export.precision is not ExportPrecision.EXACT
    export = estimate_export_memory(model.architecture, quantized=quantized)
    largest = max(
        ("weights", "optimizer", "activations", "logits", "framework"), key=lambda part: getattr(memory, part)
    )
    sentence = (
        f"memory: {memory.total / 2**30:.1f} GiB at batch {batch} and {length} tokens, most of it {largest}"
        f" ({getattr(memory, largest) / 2**30:.1f} GiB); export {export / 2**30:.1f} GiB"
    )
    return Resolution(spec, model, memory, export, (reason, sentence))
