"""What each kind's planner is told: gathered from the caches and, where nothing is cached, from the API server."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tunesmith_api import ConditionType, FineTuneJobSpec, Stage
from tunesmith_operator.caches import Caches
from tunesmith_operator.cluster import Cluster
from tunesmith_operator.computepool import plan as computepools
from tunesmith_operator.conditions import is_true
from tunesmith_operator.finetunejob import plan as jobs
from tunesmith_operator.finetunejob.inputs import Lacking, await_jobs, find_missing
from tunesmith_operator.finetunejob.manifests import stage_name
from tunesmith_operator.finetunejob.mounts import mounts_of
from tunesmith_operator.finetunejob.planning import Observed
from tunesmith_operator.finetunejob.validation import find_problem
from tunesmith_operator.holders import PodHolders
from tunesmith_operator.kinds import CLAIM, JOB, Body
from tunesmith_operator.modelendpoint import plan as endpoints
from tunesmith_operator.modelendpoint.providers import ProviderProbe
from tunesmith_operator.plans import ChildName, Children, Key, Plan, Trouble, controlled_by
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.settings import Settings

#: Jobs whose deleted pods' last facts are remembered.
DEPARTED_LIMIT = 5000

Planner = Callable[[Trouble | None], Plan]


class Observer:
    """Gathers what planners need."""

    def __init__(self, cluster: Cluster, caches: Caches, settings: Settings) -> None:
        self._cluster = cluster
        self._caches = caches
        self._settings = settings
        self._gather = {"FineTuneJob": self._job, "ModelEndpoint": self._endpoint, "ComputePool": self._pool}
        self._providers = ProviderProbe()
        self._holders = PodHolders(cluster, clusterwide=settings.clusterwide)
        #: The last facts of deleted pods by the uid of their controller, until their owner has used them.
        self.departed: dict[str, tuple[PodFacts, ...]] = {}
        #: What training pods said last, by the uid of their FineTuneJob.
        self.progress: dict[str, Mapping[str, Any]] = {}

    def depart(self, pod: PodFacts) -> None:
        """Keep the last facts of a deleted pod: the exit code that its Job's failure will be judged by."""
        if len(self.departed) >= DEPARTED_LIMIT:
            self.departed.pop(next(iter(self.departed)))
        before = self.departed.get(pod.controller_uid, ())
        self.departed[pod.controller_uid] = (*(one for one in before if one.index != pod.index), pod)

    async def planner(self, key: Key, body: Body, now: datetime) -> Planner:
        """A function from what went wrong with the children to the object's plan."""
        return await self._gather[key.kind](key, body, now)

    async def _job(self, key: Key, body: Body, now: datetime) -> Planner:
        uid = body["metadata"]["uid"]
        pods = self._caches.pods(key)
        children = await self._with_unlabelled(key, uid, self._caches.children(key, uid), pods)
        lacking = await self._lacking(key, body, children)
        observed = Observed(
            children=children,
            pods=pods,
            departed=self.departed,
            landscape=self._caches.landscape(),
            missing_input=lacking.missing,
            waiting=lacking.waiting,
            progress=self.progress.get(uid),
        )
        settings = self._settings
        return lambda trouble: jobs.plan(
            body,
            replace(observed, trouble=trouble),
            now,
            settings.images,
            settings.gangs,
            trainer_env=settings.trainer_env,
        )

    async def _endpoint(self, key: Key, body: Body, now: datetime) -> Planner:
        pods = self._caches.pods(key)
        jobs_here = [
            job
            for one in self._caches.keys("FineTuneJob")
            if one.namespace == key.namespace and (job := self._caches.get(one)) is not None
        ]
        observed = endpoints.Observed(
            children=self._caches.children(key, body["metadata"]["uid"]),
            pods=pods,
            jobs=tuple(jobs_here),
            landscape=self._caches.landscape(),
            providers=await self._providers.ask(pods),
            missing_claim=await self._missing_claim(key, body),
        )
        return lambda trouble: endpoints.plan(body, replace(observed, trouble=trouble), now, self._settings.images)

    async def _missing_claim(self, key: Key, body: Body) -> str:
        uri = body["spec"].get("source", {}).get("uri", "")
        claim: str = uri.removeprefix("pvc://").partition("/")[0] if uri.startswith("pvc://") else ""
        if claim and await self._cluster.get(CLAIM, key.namespace, claim) is None:
            return claim
        return ""

    async def _pool(self, key: Key, body: Body, now: datetime) -> Planner:
        del key
        observed = computepools.Observed(self._caches.landscape().nodes, await self._holders.list())
        return lambda *_: computepools.plan(body, observed, now)

    async def _with_unlabelled(self, key: Key, uid: str, children: Children, pods: tuple[PodFacts, ...]) -> Children:
        """The children, and the Jobs of running pods whose labels somebody has removed: no informer shows those."""
        found = dict(children)
        known = {body["metadata"]["uid"] for body in children.values()}
        for pod in pods:
            if pod.ended or pod.deleting or pod.controller_uid in known or pod.stage not in set(Stage):
                continue
            name = stage_name(key.name, Stage(pod.stage))
            job = await self._cluster.get(JOB, key.namespace, name)
            if job is not None and controlled_by(job, uid):
                found[ChildName(JOB.name, name)] = job
        return found

    async def _lacking(self, key: Key, body: Body, children: Children) -> Lacking:
        """What the next stage's pod would wait for in vain; asked only while that pod does not exist."""
        conditions = body.get("status", {}).get("conditions", [])
        prepared = is_true(conditions, ConditionType.PREPARED)
        if "finishedAt" in body.get("status", {}) or ChildName("Job", stage_name(key.name, Stage.PREPARE)) in children:
            return Lacking()
        try:
            spec = FineTuneJobSpec.model_validate(body["spec"])
        except ValidationError:
            return Lacking()
        if find_problem(spec) is not None:
            return Lacking()
        mounts = mounts_of(spec)
        if not prepared:
            lacking = await_jobs(
                key.name, mounts, lambda name: self._caches.get(Key("FineTuneJob", key.namespace, name))
            )
            if lacking != Lacking():
                return lacking
        return Lacking(await find_missing(self._cluster, key.namespace, mounts, configmaps=not prepared))
