"""Reading the job config: every mistake is told with the field's name, before any work is done."""

import json
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith_api import JobConfig, unsupported_job_fields
from tunesmith_api.enums import DataFormat, ModelKind, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, LoraSpec
from tunesmith_api.gated import evaluation_problems
from tunesmith_api.misfits import refusals
from tunesmith_api.resolve import uri_problems
from tunesmith_api.tasks import format_problem
from tunesmith_api.techniques import with_learning_rate
from tunesmith_trainer.errors import BadConfigError, InputNotFoundError


def load_config(path: Path) -> JobConfig:
    """The job config in a file.

    Raises:
        InputNotFoundError: there is no such file.
        BadConfigError: it is no JSON, breaks the contract, or asks for something that is not built yet.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputNotFoundError(f"job config {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadConfigError(f"job config {path} is no JSON: {error}") from error
    return parse_config(content)


def parse_config(content: object) -> JobConfig:
    """A job config from its JSON form.

    Raises:
        BadConfigError: it breaks the contract, or asks for something that is not built yet.
    """
    try:
        config = JobConfig.model_validate(content)
    except ValidationError as error:
        raise BadConfigError(_sentence(error)) from error
    refuse_unsupported(config.spec)
    return config.model_copy(update={"spec": with_learning_rate(config.spec)})


def _sentence(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)
    rest = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(map(_part, found[:3])) + rest


def _part(one: ErrorDetails) -> str:
    """One mistake; the value of a rule over several fields is the whole object, whose URI may hold a password."""
    value = "" if one["type"] == "value_error" else f" (is {one['input']!r})"
    return f"{'.'.join(map(str, one['loc']))}: {one['msg']}{value}"


def refuse_unsupported(spec: FineTuneJobSpec) -> None:
    """Refuse what is not built yet, and combinations that cannot work.

    Raises:
        BadConfigError: naming the fields.
    """
    problems = uri_problems(spec) or [str(found) for found in unsupported_job_fields(spec)]
    problems += refusals(spec)
    if spec.technique.type is TechniqueType.AUTO:
        problems.append("spec.technique.type: Auto must be replaced by a technique before a stage starts")
    mismatch = format_problem(spec.task, spec.dataset.format)
    if mismatch:
        problems.append(f"spec.dataset.format: {mismatch}")
    problems += evaluation_problems(spec)
    if problems:
        raise BadConfigError("; ".join(problems))


def refuse_unmeasured_gates(spec: FineTuneJobSpec, format_: DataFormat, kind: ModelKind) -> None:
    """Refuse a gate on a metric that rows of a (detected) format and the model's kind cannot give.

    Raises:
        BadConfigError: naming the metric and why it is not measured.
    """
    problems = evaluation_problems(spec, kind, format_)
    if problems:
        raise BadConfigError("; ".join(problems))


def lora_of(spec: FineTuneJobSpec) -> LoraSpec:
    """The LoRA settings of a job, with the defaults where it says nothing."""
    return spec.technique.lora or LoraSpec()
