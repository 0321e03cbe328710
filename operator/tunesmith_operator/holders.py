"""Who holds resources on the nodes: every running pod of the cluster, listed now and then, never watched."""

import asyncio
import logging

from tunesmith_operator.cluster import Cluster
from tunesmith_operator.errors import ApiError
from tunesmith_operator.kinds import POD, Body

logger = logging.getLogger(__name__)

#: How long one listing serves all pools.
FRESH_SECONDS = 10.0
_HOLDING = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"


class PodHolders:
    """Lists the pods that hold resources; None when the operator may not."""

    def __init__(self, cluster: Cluster, *, clusterwide: bool) -> None:
        self._cluster = cluster
        self._allowed = clusterwide
        self._found: tuple[Body, ...] = ()
        self._listed_at = float("-inf")
        self._lock = asyncio.Lock()

    async def list(self) -> tuple[Body, ...] | None:
        """The pods, at most a few seconds old and without anything but their place and their requests."""
        if not self._allowed:
            return None
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._listed_at > FRESH_SECONDS:
                try:
                    pods = await self._cluster.list(POD, fieldSelector=_HOLDING)
                except ApiError as error:
                    logger.warning("Pods could not be listed", extra={"error": str(error)})
                    return None
                self._found = tuple({"spec": _essence(pod["spec"])} for pod in pods)
                self._listed_at = now
            return self._found


def _essence(spec: Body) -> Body:
    kept = ("nodeName", "overhead")
    found = {key: spec[key] for key in kept if key in spec}
    for name in ("containers", "initContainers"):
        found[name] = [
            {key: one[key] for key in ("resources", "restartPolicy") if key in one} for one in spec.get(name, [])
        ]
    return found
