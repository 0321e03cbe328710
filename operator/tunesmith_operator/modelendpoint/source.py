"""Which model an endpoint serves, and what its pods mount for it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api import ConditionType, ModelEndpointSpec, Scheme, parse_uri
from tunesmith_api.enums import ExportFormat
from tunesmith_api.reports import EXPORT_FOLDER
from tunesmith_api.uri import SERVABLE
from tunesmith_operator.conditions import is_true
from tunesmith_operator.finetunejob.mounts import workspace_name
from tunesmith_operator.kinds import Body

MODEL_VOLUME = "model"
MODELS_PATH = "/models"


@dataclass(frozen=True)
class Served:
    """A model that can be served.

    Attributes:
        source: where it came from, in words of a URI.
        uri: where the model folder lies.
        digest: digest of the folder, where it is known.
    """

    source: str
    uri: str
    digest: str | None = None


@dataclass(frozen=True)
class Waiting:
    """There is no model to serve yet."""

    message: str


def find_model(spec: ModelEndpointSpec, jobs: Iterable[Body]) -> Served | Waiting:
    """The model of an endpoint's source.

    Args:
        spec: the endpoint's spec.
        jobs: the FineTuneJobs of its namespace.
    """
    source = spec.source
    if source.uri is not None:
        return Served(source.uri, source.uri)
    if source.job is not None:
        return _of_job(source.job, {job["metadata"]["name"]: job for job in jobs})
    assert source.latest is not None
    return _latest(source.latest.match_labels, jobs)


def _of_job(name: str, jobs: Mapping[str, Body]) -> Served | Waiting:
    job = jobs.get(name)
    if job is None:
        return Waiting(f"FineTuneJob {name!r} does not exist yet.")
    wanted = _format(job)
    if wanted != ExportFormat.ONNX:
        return Waiting(f"FineTuneJob {name!r} exports {wanted}, which no endpoint serves; name one that exports ONNX.")
    if not _is_exported(job):
        phase = job.get("status", {}).get("phase", "new")
        return Waiting(f"FineTuneJob {name!r} has no exported model with passed gates yet; it is {phase}.")
    return _served(job)


def _latest(labels: Mapping[str, str], jobs: Iterable[Body]) -> Served | Waiting:
    matching = [job for job in jobs if _matches(job, labels) and _is_exported(job)]
    if not matching:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        return Waiting(f"No FineTuneJob with the labels {wanted} has an exported model with passed gates yet.")
    return _served(max(matching, key=lambda job: (job["status"]["finishedAt"], job["metadata"]["name"])))


def _matches(job: Body, labels: Mapping[str, str]) -> bool:
    present = job["metadata"].get("labels", {})
    return all(present.get(key) == value for key, value in labels.items())


def _is_exported(job: Body) -> bool:
    status = job.get("status", {})
    gates = status.get("evaluation", {}).get("gates", [])
    exported = is_true(status.get("conditions", []), ConditionType.EXPORTED)
    deleting = "deletionTimestamp" in job["metadata"]
    found = exported and not deleting and "artifact" in status and _format(job) == ExportFormat.ONNX
    return found and all(gate["passed"] for gate in gates)


def _format(job: Body) -> str:
    return str(job.get("spec", {}).get("export", {}).get("format", ExportFormat.ONNX))


def _served(job: Body) -> Served:
    """The model where it can be mounted: at the job's output, else in the job's workspace, which has it as well."""
    name, artifact = job["metadata"]["name"], job["status"]["artifact"]
    uri = artifact["uri"]
    if parse_uri(uri).scheme not in SERVABLE:
        uri = f"{Scheme.PVC}://{workspace_name(name)}/{EXPORT_FOLDER}"
    return Served(f"job://{name}", uri, artifact["digest"])


def model_folder(model: Served) -> str:
    """Where the model folder is mounted in the server's container."""
    path = parse_uri(model.uri).path
    return f"{MODELS_PATH}/{path}".rstrip("/") if parse_uri(model.uri).scheme is Scheme.PVC else MODELS_PATH


def model_volume(model: Served) -> dict[str, Any]:
    """The pod's volume with the model: a claim, or an image of the registry."""
    location = parse_uri(model.uri)
    if location.scheme is Scheme.OCI:
        return {
            "name": MODEL_VOLUME,
            "image": {"reference": model.uri.removeprefix(f"{Scheme.OCI}://"), "pullPolicy": "IfNotPresent"},
        }
    claim = {"claimName": location.authority, "readOnly": True}
    return {"name": MODEL_VOLUME, "persistentVolumeClaim": claim}


def model_mount(model: Served) -> dict[str, Any]:
    """The container's mount of the model; the folder of a claim alone, not its neighbours."""
    location = parse_uri(model.uri)
    mount: dict[str, Any] = {"name": MODEL_VOLUME, "mountPath": model_folder(model), "readOnly": True}
    if location.scheme is Scheme.PVC and location.path:
        mount["subPath"] = location.path.rstrip("/")
    return mount
