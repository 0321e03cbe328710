"""Whether the objects that a stage mounts are there: a pod would wait for them for ever without saying so."""

from tunesmith_operator.cluster import Cluster
from tunesmith_operator.finetunejob.mounts import Mounts
from tunesmith_operator.kinds import CLAIM, CONFIGMAP


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
