"""A job for this machine: the plan, the inputs as local paths, and what has a meaning in a cluster only."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api import Architecture, ExitCode, FineTuneJob, JobConfig, Resolution, Scheme, parse_uri, resolve
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner import ANYWHERE, PoolOffer
from tunesmith_api.reports import EXPORT_FOLDER
from tunesmith_api.resolve import Source, every_uri, sources
from tunesmith_api.shapes import architecture_of
from tunesmith_api.uri import Location
from tunesmith_cli.configmaps import config_map_file
from tunesmith_cli.errors import CliError
from tunesmith_cli.folder import RunFolder
from tunesmith_cli.machine import MACHINE, Machine

#: Fields that only a cluster gives a meaning to, by their path in the Python model.
_CLUSTER_ONLY = (
    "compute.pool",
    "compute.device_class",
    "compute.resources",
    "workspace.size",
    "workspace.storage_class_name",
    "workspace.access_mode",
    "backoff_limit",
    "ttl_seconds_after_finished",
    "suspend",
    "serve.compute",
    "serve.replicas",
    "serve.rollout",
)


@dataclass(frozen=True)
class LocalJob:
    """What a local run does.

    Attributes:
        config: the stages' job config.
        resolution: the plan.
        notes: sentences about fields that have no effect on this machine.
    """

    config: JobConfig
    resolution: Resolution
    notes: tuple[str, ...]


def local_job(
    job: FineTuneJob, origin: Path, folder: RunFolder, secrets: Mapping[str, Path], machine: Machine | None = None
) -> LocalJob:
    """Resolve a job for this machine.

    Args:
        job: the job.
        origin: the folder of the job's file, where ConfigMaps are looked for.
        folder: the run's folder.
        secrets: folders of the secrets that the job names.
        machine: what technique Auto must fit; anything goes when None.

    Raises:
        CliError: an input lies in a cluster only, or a secret is missing.
    """
    pool = ANYWHERE if machine is None else PoolOffer(MACHINE, host_bytes=machine.memory_bytes, nodes=1)
    resolution = resolve(job.spec, (pool,), architecture=local_architecture(job.spec))
    workers = job.spec.distribution.workers
    if workers > 1:
        raise CliError(f"spec.distribution.workers: {workers} pods need a cluster; use processesPerWorker here")
    inputs = {source.uri: str(path) for source in sources(job.spec) for path in _local(source, origin, folder)}
    config = JobConfig(
        name=job.metadata.name,
        namespace=job.metadata.namespace or "default",
        workspace=str(folder.workspace),
        spec=resolution.spec,
        inputs=inputs,
        outputs=_outputs(job.spec),
        secrets=_secrets(job.spec, secrets),
    )
    return LocalJob(config, resolution, tuple(_notes(job.spec)))


def local_architecture(spec: FineTuneJobSpec) -> Architecture | None:
    """The numbers of a base model whose folder is on this machine; None where it is not, or does not say them."""
    location = parse_uri(spec.model.uri) if spec.model.uri is not None else None
    if location is None or location.scheme is not Scheme.FILE:
        return None
    try:
        return architecture_of(json.loads((Path(location.path) / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # prepare says what is wrong with it
        return None


def local_data(job: FineTuneJob, origin: Path, scratch: Path) -> Path | None:
    """The training rows' file where it is on this machine: of a file:// URI, or a ConfigMap's beside the job."""
    location = parse_uri(job.spec.dataset.train.uri)
    if location.scheme is Scheme.FILE:
        return Path(location.path)
    if location.scheme is not Scheme.CONFIGMAP:
        return None
    try:
        return config_map_file(origin, location.authority, location.path, scratch)
    except CliError:
        return None


def _local(source: Source, origin: Path, folder: RunFolder) -> Iterator[Path]:
    location = parse_uri(source.uri)
    if location.scheme is Scheme.PVC:
        raise CliError(f"{source.field}: {source.uri} exists only in a cluster; use file:///absolute/path here")
    if location.scheme is Scheme.JOB:
        yield _output_of(source, location, folder)
    if location.scheme is Scheme.CONFIGMAP:
        try:
            yield config_map_file(origin, location.authority, location.path, folder.inputs)
        except CliError as error:
            raise CliError(f"{source.field}: {error}", error.exit_code) from error


def _output_of(source: Source, location: Location, folder: RunFolder) -> Path:
    """What an earlier run beside this one has left: the newest of the folders NAME and NAME-TIME that has it.

    Raises:
        CliError: no such run has it.
    """
    name, runs = location.authority, folder.root.parent
    stamped = re.compile(rf"{re.escape(name)}(-\d{{8}}-\d{{6}})?")
    known = sorted((run for run in runs.glob(f"{name}*") if stamped.fullmatch(run.name)), reverse=True)
    for run in known:
        found = RunFolder(run).workspace / (location.path or EXPORT_FOLDER)
        if run != folder.root and found.exists():
            return found
    raise CliError(
        f"{source.field}: {source.uri}: no run of {name!r} in {runs} has {location.path or EXPORT_FOLDER};"
        f" run that job first, with --output {runs / name}",
        ExitCode.INPUT_NOT_FOUND,
    )


def _outputs(spec: FineTuneJobSpec) -> dict[str, str]:
    if spec.output is None:
        return {}
    location = parse_uri(spec.output.uri)
    if location.scheme is Scheme.PVC:
        raise CliError(f"spec.output.uri: {spec.output.uri} exists only in a cluster; use file:///absolute/path here")
    return {spec.output.uri: location.path} if location.scheme is Scheme.FILE else {}


def _secrets(spec: FineTuneJobSpec, given: Mapping[str, Path]) -> dict[str, str]:
    preset = Source("spec.model", spec.model.preset or "", spec.model.secret_ref)
    trackers = (Source(f"spec.tracking[{place}]", "", one.secret_ref) for place, one in enumerate(spec.tracking))
    named = {source.secret.name: source.field for source in (preset, *every_uri(spec), *trackers) if source.secret}
    for name, field in named.items():
        if name not in given:
            raise CliError(
                f"{field}: secret {name!r} lies in a cluster; give its keys as files: --secret {name}=FOLDER"
            )
        if not given[name].is_dir():
            raise CliError(f"--secret {name}: {given[name]} is no folder", ExitCode.INPUT_NOT_FOUND)
    return {name: str(given[name].absolute()) for name in named}


def _notes(spec: FineTuneJobSpec) -> Iterator[str]:
    """Fields that a person set and that do nothing here, said instead of ignored."""
    for path in _CLUSTER_ONLY:
        node: object = spec
        for part in path.split("."):
            if node is None or part not in getattr(node, "model_fields_set", ()):
                break
            node = getattr(node, part)
        else:
            yield f"spec.{_wire_path(path)} has an effect in a cluster only"


def _wire_path(path: str) -> str:
    words = path.replace("device_class", "class").split("_")
    return words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])


def require_memory(resolution: Resolution, machine: Machine) -> None:
    """Refuse a job that this machine can never hold.

    Raises:
        CliError: a stage needs more than the machine's whole memory.
    """
    wants = {
        "training": (
            resolution.memory.total if resolution.memory else 0,
            "lower training.batchSize or maxSequenceLength",
        ),
        "export": (resolution.export_memory_bytes or 0, "set export.precision Exact, which needs least"),
    }
    for stage, (needed, way_out) in wants.items():
        if needed > machine.memory_bytes:
            raise CliError(
                f"{stage} needs about {needed / 2**30:.1f} GiB, this machine has"
                f" {machine.memory_bytes / 2**30:.1f} GiB; {way_out}, or use a cluster (--ignore-memory tries anyway)"
            )
