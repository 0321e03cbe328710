"""Which ConfigMaps, claims and Secrets the stages of a job need, and where they are mounted. Pure."""

from dataclasses import dataclass
from typing import Any

from tunesmith_api import FineTuneJobSpec, Scheme, Stage, parse_uri
from tunesmith_api.finetunejob import SecretReference
from tunesmith_api.reports import EXPORT_FOLDER
from tunesmith_api.resolve import OUTPUT_FIELD, every_uri

CONFIGMAPS_PATH = "/inputs/configmap"
CLAIMS_PATH = "/inputs/pvc"
OUTPUTS_PATH = "/outputs/pvc"
SECRETS_PATH = "/secrets"


@dataclass(frozen=True)
class Mounts:
    """What is mounted into the stages of a job.

    Attributes:
        inputs: URI to local path.
        outputs: URI to local path.
        configmaps: ConfigMap name to the keys that are read.
        claims: names of claims that are read.
        output_claims: names of claims that are written.
        secrets: for each stage the names of the Secrets that are mounted into it.
        jobs: FineTuneJobs whose output is read, from their workspace claims, which are among `claims`.
        base: the one of them whose exported model is tuned further; empty when there is none.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    configmaps: dict[str, tuple[str, ...]]
    claims: tuple[str, ...]
    output_claims: tuple[str, ...]
    secrets: dict[Stage, tuple[str, ...]]
    jobs: tuple[str, ...] = ()
    base: str = ""


def workspace_name(job: str) -> str:
    """Name of a job's workspace claim."""
    return f"{job}-workspace"


def mounts_of(spec: FineTuneJobSpec) -> Mounts:
    """The mounts of a spec whose URIs are valid."""
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    keys: dict[str, set[str]] = {}
    claims: set[str] = set()
    output_claims: set[str] = set()
    jobs: set[str] = set()
    for source in every_uri(spec):
        field, uri = source.field, source.uri
        location = parse_uri(uri)
        if location.scheme is Scheme.CONFIGMAP:
            inputs[uri] = f"{CONFIGMAPS_PATH}/{location.authority}/{location.path}"
            keys.setdefault(location.authority, set()).add(location.path)
        elif location.scheme is Scheme.PVC and field == OUTPUT_FIELD:
            outputs[uri] = f"{OUTPUTS_PATH}/{location.authority}/{location.path}".rstrip("/")
            output_claims.add(location.authority)
        elif location.scheme is Scheme.PVC:
            inputs[uri] = f"{CLAIMS_PATH}/{location.authority}/{location.path}".rstrip("/")
            claims.add(location.authority)
        elif location.scheme is Scheme.JOB:
            claim = workspace_name(location.authority)
            inputs[uri] = f"{CLAIMS_PATH}/{claim}/{location.path or EXPORT_FOLDER}".rstrip("/")
            claims.add(claim)
            jobs.add(location.authority)
    return Mounts(
        inputs,
        outputs,
        {name: tuple(sorted(found)) for name, found in sorted(keys.items())},
        tuple(sorted(claims)),
        tuple(sorted(output_claims)),
        secrets_of(spec),
        tuple(sorted(jobs)),
        _base(spec),
    )


def _base(spec: FineTuneJobSpec) -> str:
    location = parse_uri(spec.model.uri) if spec.model.uri else None
    exported = location is not None and location.scheme is Scheme.JOB and location.path in {"", EXPORT_FOLDER}
    return location.authority if location is not None and exported else ""


def secrets_of(spec: FineTuneJobSpec) -> dict[Stage, tuple[str, ...]]:
    """The Secrets that each stage mounts.

    The first stage mounts all of them: one that does not exist keeps it from starting, before anything is spent. The
    others have only those that they read.
    """
    inputs = _names(spec.model.secret_ref, spec.dataset.train.secret_ref, spec.dataset.evaluation.secret_ref)
    trackers = _names(*(tracker.secret_ref for tracker in spec.tracking))
    output = _names(spec.output.secret_ref if spec.output else None)
    found = {Stage.PREPARE: inputs | trackers | output, Stage.TRAIN: trackers, Stage.EXPORT: output}
    return {stage: tuple(sorted(names)) for stage, names in found.items()}


def _names(*references: SecretReference | None) -> set[str]:
    return {reference.name for reference in references if reference is not None}


def volumes(mounts: Mounts, stage: Stage) -> list[dict[str, Any]]:
    """The pod's volumes; a ConfigMap is optional for the stages after the one that reads it."""
    found: list[dict[str, Any]] = [
        {"name": f"configmap-{index}", "configMap": {"name": name, "optional": stage is not Stage.PREPARE}}
        for index, name in enumerate(mounts.configmaps)
    ]
    found += [
        {"name": f"input-{index}", "persistentVolumeClaim": {"claimName": name}}
        for index, name in enumerate(mounts.claims)
    ]
    if stage is Stage.EXPORT:
        found += [
            {"name": f"output-{index}", "persistentVolumeClaim": {"claimName": name}}
            for index, name in enumerate(mounts.output_claims)
        ]
    found += [
        {"name": f"secret-{index}", "secret": {"secretName": name, "defaultMode": 0o440}}
        for index, name in enumerate(mounts.secrets[stage])
    ]
    return found


def volume_mounts(mounts: Mounts, stage: Stage) -> list[dict[str, Any]]:
    """The container's mounts of `volumes`."""
    found: list[dict[str, Any]] = [
        {"name": f"configmap-{index}", "mountPath": f"{CONFIGMAPS_PATH}/{name}", "readOnly": True}
        for index, name in enumerate(mounts.configmaps)
    ]
    found += [
        {"name": f"input-{index}", "mountPath": f"{CLAIMS_PATH}/{name}", "readOnly": True}
        for index, name in enumerate(mounts.claims)
    ]
    if stage is Stage.EXPORT:
        found += [
            {"name": f"output-{index}", "mountPath": f"{OUTPUTS_PATH}/{name}"}
            for index, name in enumerate(mounts.output_claims)
        ]
    found += [
        {"name": f"secret-{index}", "mountPath": f"{SECRETS_PATH}/{name}", "readOnly": True}
        for index, name in enumerate(mounts.secrets[stage])
    ]
    return found
