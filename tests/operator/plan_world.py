"""A cluster in memory that does what the plans of a FineTuneJob say, for tests of the planner."""

import copy
import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tunesmith_api import FineTuneJobStatus
from tunesmith_operator.conditions import timestamp
from tunesmith_operator.finetunejob.plan import plan
from tunesmith_operator.finetunejob.planning import Observed
from tunesmith_operator.plans import ChildName, Plan, Trouble, child_name
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.pools import Landscape
from tunesmith_operator.settings import GangSettings, Images, Variables

Body = dict[str, Any]

DATASET = {
    "examples": 10,
    "evaluationExamples": 2,
    "tokens": 100,
    "longestTokens": 20,
    "format": "PromptCompletion",
    "digest": "sha256:0",
}
PARITY = {"maxLogitDifference": 0, "greedyAgreement": 1}
ARTIFACT = {
    "uri": "pvc://bot-workspace/export",
    "digest": "sha256:1",
    "sizeBytes": 4,
    "precision": "Balanced",
    "parity": PARITY,
}
GATE = {"metric": "exact_match", "value": 1, "passed": True, "message": "exact_match 1 >= 0.9"}
REPORTS: dict[str, Body] = {
    "prepare": {"dataset": DATASET},
    "train": {"evaluation": {"tuned": {"exactMatch": 1}, "gates": [GATE]}, "progress": {"step": 3, "totalSteps": 3}},
    "export": {"evaluation": {"exported": {"exactMatch": 1}, "gates": [GATE]}, "artifact": ARTIFACT},
}


def report(stage: str, code: int = 0, **parts: Any) -> str:
    """What a stage says last."""
    return json.dumps({"stage": stage, "exitCode": code, **(REPORTS[stage] if code == 0 else parts)})


@dataclass
class World:
    """A cluster that does what plans say, and lets pods end as a test wants."""

    body: Body
    images: Images
    now: datetime
    landscape: Landscape
    children: dict[ChildName, Body] = field(default_factory=dict)
    pods: list[PodFacts] = field(default_factory=list)
    departed: dict[str, tuple[PodFacts, ...]] = field(default_factory=dict)
    missing_input: str = ""
    trouble: Trouble | None = None
    started: list[str] = field(default_factory=list)
    deleted: bool = False
    serial: int = 0
    gangs: GangSettings = field(default_factory=GangSettings)
    trainer_env: Variables = ()

    def reconcile(self) -> Plan:
        """Plan once and do what the plan says."""
        observed = Observed(
            children=dict(self.children),
            pods=tuple(self.pods),
            departed=dict(self.departed),
            landscape=self.landscape,
            missing_input=self.missing_input,
            trouble=self.trouble,
        )
        body = copy.deepcopy(self.body)
        found = plan(body, observed, self.now, self.images, self.gangs, trainer_env=self.trainer_env)
        self.deleted = self.deleted or found.delete_self
        for child in found.apply:
            self._apply(child)
        if found.status is not None:
            FineTuneJobStatus.model_validate(found.status)
            self.body["status"] = found.status
        for child in found.delete:
            self._delete(child)
        return found

    def settle(self) -> Plan:
        """Reconcile until nothing changes any more."""
        for _ in range(12):
            before = copy.deepcopy((self.body["status"], sorted(self.children), self.serial))
            found = self.reconcile()
            if before == (self.body["status"], sorted(self.children), self.serial):
                return found
        raise AssertionError("plans do not come to rest")

    def _apply(self, child: Body) -> None:
        name = child_name(child)
        if name in self.children:
            if child["kind"] == "Job":
                self.children[name]["spec"]["suspend"] = child["spec"]["suspend"]
            return
        self.serial += 1
        live = copy.deepcopy(child)
        live["metadata"]["uid"] = f"uid-{self.serial}"
        self.children[name] = live
        if child["kind"] == "Job":
            self.started.append(live["metadata"]["labels"]["tunesmith.dev/stage"])
            self.pods += [self._pod(live, index) for index in range(live["spec"]["parallelism"])]

    def _pod(self, job: Body, index: int) -> PodFacts:
        stage = job["metadata"]["labels"]["tunesmith.dev/stage"]
        uid = job["metadata"]["uid"]
        return PodFacts(
            f"pod-{uid}-{index}",
            "bot",
            stage,
            uid,
            index=index,
            phase="Running",
            has_node=True,
            ip="10.0.0.1",
            created_at=timestamp(self.now),
        )

    def _delete(self, child: Body) -> None:
        name = child_name(child)
        assert self.children[name]["metadata"]["uid"] == child["metadata"]["uid"]
        del self.children[name]
        self.pods = [pod for pod in self.pods if pod.controller_uid != child["metadata"]["uid"]]

    def job(self) -> Body:
        """The Job that was created last."""
        return [one for name, one in self.children.items() if name.kind == "Job"][-1]

    def end(self, code: int, message: str = "", *, reason: str = "", keep_pod: bool = True) -> None:
        """Let the running stage's container end."""
        job = self.job()
        uid = job["metadata"]["uid"]
        kind = "Complete" if code == 0 else "Failed"
        when = timestamp(self.now)
        job["status"] = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": when}]}
        phase = "Succeeded" if code == 0 else "Failed"
        ended = [
            replace(pod, phase=phase, exit_code=code, exit_message=message, exit_reason=reason)
            for pod in self.pods
            if pod.controller_uid == uid
        ]
        others = [pod for pod in self.pods if pod.controller_uid != uid]
        self.pods = [*others, *ended] if keep_pod else others
        self.now += timedelta(seconds=6)

    def succeed(self) -> None:
        """Let the running stage succeed and the next one start."""
        self.end(0, report(self.started[-1]))
        self.settle()

    @property
    def status(self) -> Body:
        """The present status."""
        status: Body = self.body["status"]
        return status

    def condition(self, kind: str) -> Body:
        """A condition, or an empty object."""
        return next((one for one in self.status["conditions"] if one["type"] == kind), {})
