"""Whether the objects that a stage mounts are there: a pod would wait for them for ever without saying so."""

from collections.abc import Callable
from dataclasses import dataclass

from tunesmith_api import ConditionType
from tunesmith_api.enums import ExportFormat
from tunesmith_operator.cluster import Cluster
from tunesmith_operator.conditions import is_true
from tunesmith_operator.finetunejob.mounts import Mounts
from tunesmith_operator.kinds import CLAIM, CONFIGMAP, Body


@dataclass(frozen=True)
class Lacking:
    """Why a stage cannot start yet.

    Attributes:
        missing: what a person must bring; empty when nothing is missing.
        waiting: what comes by itself, as another job's output; empty when there is nothing to wait for.
    """

    missing: str = ""
    waiting: str = ""


def await_jobs(name: str, mounts: Mounts, find: Callable[[str], Body | None]) -> Lacking:
    """Whether the jobs whose output is read have succeeded.

    Args:
        name: the reading job.
        mounts: of the reading job.
        find: a job of the same namespace by its name.
    """
    for other in mounts.jobs:
        if other == name:
            return Lacking(missing=f"job://{other} is this job itself; name another one.")
        body = find(other)
        if body is None:
            return Lacking(waiting=f"FineTuneJob {other!r} does not exist yet; this job starts when it has succeeded.")
        wanted = body.get("spec", {}).get("export", {}).get("format", ExportFormat.ONNX)
        if other == mounts.base and wanted != ExportFormat.SAFETENSORS:
            return Lacking(
                missing=f"spec.model.uri: FineTuneJob {other!r} exports {wanted}, which cannot be tuned further; set"
                f" its export.format to {ExportFormat.SAFETENSORS}."
            )
        status = body.get("status", {})
        if not is_true(status.get("conditions", []), ConditionType.EXPORTED):
            phase = status.get("phase", "new")
            if "finishedAt" in status:
                return Lacking(
                    missing=f"FineTuneJob {other!r} has no output, it is {phase}; run it again, or name another."
                )
            return Lacking(waiting=f"Waits for the output of FineTuneJob {other!r}, which is {phase}.")
    return Lacking()


async def find_missing(cluster: Cluster, namespace: str, mounts: Mounts, *, configmaps: bool) -> str:
    """What is missing, in words; empty when all is there.

    Args:
        cluster: where to look.
        namespace: the job's namespace.
        mounts: what the stage mounts.
        configmaps: whether ConfigMaps are needed, as by the stage that reads them.
    """
    for name, keys in mounts.configmaps.items() if configmaps else ():
        found = await cluster.get(CONFIGMAP, namespace, name)
        if found is None:
            return f"ConfigMap {name!r} does not exist in namespace {namespace!r}; create it, and the job goes on."
        present = {**found.get("data", {}), **found.get("binaryData", {})}
        for key in keys:
            if key not in present:
                listed = ", ".join(sorted(present)) or "none"
                return f"ConfigMap {name!r} has no key {key!r}; its keys are: {listed}."
    for name in sorted({*mounts.claims, *mounts.output_claims}):
        if await cluster.get(CLAIM, namespace, name) is None:
            return f"Claim {name!r} does not exist in namespace {namespace!r}; create it, and the job goes on."
    return ""
