"""Bringing children to what a plan says: created under their own name, restored when they drift, never adopted."""

import logging

from tunesmith_operator.cluster import Cluster
from tunesmith_operator.drift import drifted
from tunesmith_operator.errors import AlreadyExistsError, ConflictError, NameConflictError
from tunesmith_operator.kinds import AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, NETWORK_POLICY, SERVICE, Body, kind_of
from tunesmith_operator.plans import Children, child_name, controlled_by

logger = logging.getLogger(__name__)

#: Kinds whose fields come and go with the owner's spec: only server-side apply from the first write on can remove them.
_APPLIED_FROM_BIRTH = frozenset(
    {DEPLOYMENT.name, SERVICE.name, AUTOSCALER.name, DISRUPTION_BUDGET.name, NETWORK_POLICY.name}
)


async def bring(cluster: Cluster, desired: Body, live: Children, uid: str) -> None:
    """Create a child, restore it, or leave it alone when it is as it should be.

    Raises:
        NameConflictError: an object of this name exists that the owner of `uid` does not control.
        ApiError: the API server does not do it.
    """
    present = live.get(child_name(desired))
    if present is None:
        present = await _create(cluster, desired, uid)
    if present is not None and "deletionTimestamp" not in present["metadata"]:
        await _restore(cluster, desired, present)


async def _create(cluster: Cluster, desired: Body, uid: str) -> Body | None:
    """Create a child; the object that is there already, if the caches did not know it yet."""
    kind, metadata = kind_of(desired), desired["metadata"]
    if kind.name in _APPLIED_FROM_BIRTH:
        found = await cluster.get(kind, metadata["namespace"], metadata["name"])
        if found is None:
            try:
                await cluster.apply(desired, force=False)
            except ConflictError as error:  # somebody else was a moment faster
                raise NameConflictError(kind.name, metadata["name"]) from error
            return None
    else:
        try:
            await cluster.create(desired)
        except AlreadyExistsError:
            found = await cluster.get(kind, metadata["namespace"], metadata["name"])
        else:
            return None
    if found is not None and not controlled_by(found, uid):
        raise NameConflictError(kind.name, metadata["name"])
    return found


async def _restore(cluster: Cluster, desired: Body, present: Body) -> None:
    kind = kind_of(desired)
    wanted = kind.mutable(desired)
    if not drifted(present, wanted):
        return
    pinned = {**wanted, "metadata": {**wanted["metadata"], "uid": present["metadata"]["uid"]}}
    try:
        await cluster.apply(pinned)
    except ConflictError:
        # Deleted and made anew meanwhile: its next event brings the owner back here.
        logger.info("A child changed its identity", extra={"child": desired["metadata"]["name"], "kind": kind.name})
