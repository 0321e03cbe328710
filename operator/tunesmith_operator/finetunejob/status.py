"""The next status of a FineTuneJob while it is worked out: facts recorded, conditions set, the phase derived. Pure."""

from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunesmith_api import ConditionType, Reason, Stage, Termination
from tunesmith_operator.conditions import Conditions, parse_timestamp, timestamp
from tunesmith_operator.finetunejob.diagnosis import Diagnosis
from tunesmith_operator.kinds import Body

#: The fact that a stage leaves behind.
DONE = {
    Stage.PREPARE: ConditionType.PREPARED,
    Stage.TRAIN: ConditionType.TRAINED,
    Stage.EXPORT: ConditionType.EXPORTED,
}
_PHASES = {Stage.PREPARE: "Preparing", Stage.TRAIN: "Training", Stage.EXPORT: "Exporting"}
#: Reasons to stall that time or another object can mend: the job is pending, not failed.
CURABLE = frozenset(
    {
        Reason.POOL_NOT_FOUND,
        Reason.NO_POOL_FITS,
        Reason.INPUT_NOT_FOUND,
        Reason.NAME_CONFLICT,
        Reason.REFUSED,
    }
)


@dataclass
class Draft:
    """The status under construction.

    Attributes:
        status: the fields, without conditions and phase.
        conditions: the conditions.
        now: the present moment.
    """

    status: dict[str, Any]
    conditions: Conditions
    now: datetime

    @classmethod
    def of(cls, body: Body, now: datetime) -> "Draft":
        """A draft that starts from the present status."""
        present = deepcopy(body.get("status", {}))
        generation = body["metadata"]["generation"]
        conditions = Conditions.of(present, generation, now)
        present["observedGeneration"] = generation
        return cls(present, conditions, now)

    @property
    def stage(self) -> Stage | None:
        """The first stage that is not done."""
        return next((stage for stage in Stage if not self.conditions.is_true(DONE[stage])), None)

    @property
    def finished(self) -> bool:
        """Whether the job has succeeded or failed for good."""
        return "finishedAt" in self.status

    @property
    def finished_at(self) -> datetime:
        """When the job succeeded or failed."""
        return parse_timestamp(self.status["finishedAt"])

    def start(self) -> None:
        """Note when the first stage was started."""
        self.status.setdefault("startedAt", timestamp(self.now))

    def finish(self) -> None:
        """Note that no stage will run any more."""
        self.status.setdefault("finishedAt", timestamp(self.now))
        self.status.pop("retry", None)

    def attempts(self, stage: Stage) -> int:
        """Failed runs of a stage that counted."""
        return int(self.status.get("attempts", {}).get(stage, 0))

    def count_failure(self, stage: Stage) -> int:
        """Count a failed run; the number of them."""
        counts = self.status.setdefault("attempts", {"prepare": 0, "train": 0, "export": 0})
        counts[str(stage)] = self.attempts(stage) + 1
        return self.attempts(stage)

    def record_failure(self, stage: str, diagnosis: Diagnosis) -> None:
        """Say what went wrong last."""
        failure: dict[str, Any] = {
            "category": str(diagnosis.category),
            "stage": str(stage),
            "message": diagnosis.message,
            "resolution": diagnosis.resolution,
        }
        if diagnosis.exit_code is not None:
            failure["exitCode"] = diagnosis.exit_code
        self.status["failure"] = failure

    def fail(self, stage: str, diagnosis: Diagnosis, reason: Reason) -> None:
        """End the job without success."""
        self.record_failure(stage, diagnosis)
        self.finish()
        self.conditions.stalled(reason, f"{diagnosis.message} {diagnosis.resolution}")

    def record_evaluation(self, report: Termination, *, passed: bool) -> None:
        """Keep what a stage measured; gates of later stages come after those of earlier ones."""
        if report.evaluation is None:
            return
        before = self.status.get("evaluation", {})
        found = report.evaluation.wire()
        gates = [*before.get("gates", []), *found.get("gates", [])]
        self.status["evaluation"] = {**before, **found, "gates": gates}
        reason = Reason.SUCCEEDED if passed else Reason.GATE_FAILED
        message = "; ".join(gate["message"] for gate in gates)
        self.conditions.set(ConditionType.EVALUATED, status=passed, reason=reason, message=message)

    def record_success(self, stage: Stage, report: Termination) -> None:
        """Keep what a stage reported, and that it is done: from now on it does not run again."""
        self.record_evaluation(report, passed=True)
        if report.model is not None:
            self.status["model"] = report.model.wire()
        if report.dataset is not None:
            self.status["dataset"] = report.dataset.wire()
        if report.progress is not None:
            self.status["progress"] = report.progress.wire()
        if report.artifact is not None:
            self.status["artifact"] = report.artifact.wire()
        self.conditions.set(DONE[stage], status=True, reason=Reason.SUCCEEDED, message=_said(report))
        self.status.pop("failure", None)
        self.status.pop("retry", None)

    def wire(self, *, serves: bool) -> dict[str, Any]:
        """The whole status."""
        return {**self.status, "phase": self._phase(serves=serves), "conditions": self.conditions.wire()}

    def _phase(self, *, serves: bool) -> str:
        items, stage = self.conditions.items, self.stage
        stalled = items.get(ConditionType.STALLED)
        if stalled is not None:
            return "Pending" if stalled["reason"] in CURABLE and not self.finished else "Failed"
        if items.get(ConditionType.READY, {}).get("reason") == Reason.SUSPENDED:
            return "Suspended"
        if stage is None:
            return "Deploying" if serves and not self.conditions.is_true(ConditionType.READY) else "Succeeded"
        waiting = items.get(ConditionType.RECONCILING, {}).get("reason") == Reason.WAITING_FOR_CAPACITY
        return "Pending" if waiting or "startedAt" not in self.status else _PHASES[stage]


def _said(report: Termination) -> str:
    if report.dataset is not None:
        data = report.dataset
        return f"{data.examples} examples, {data.evaluation_examples} for evaluation, {data.tokens} tokens."
    if report.artifact is not None:
        kind = f"{report.artifact.precision} model" if report.artifact.precision else "Weights"
        return f"{kind} of {report.artifact.size_bytes} bytes, {report.artifact.digest}."
    return f"{report.progress.step} steps." if report.progress is not None else ""
