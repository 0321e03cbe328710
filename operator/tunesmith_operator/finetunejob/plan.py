"""What is to be done about a FineTuneJob. Pure: no I/O and no clock.

The only memory is the status and the children. A stage is done when its condition is True; that is written before the
next stage is created. A failed run is counted in the status, by the uid of its Job, before that Job is deleted to make
room for the next run. So a restarted operator goes on where the last one stopped, and nothing is counted or run twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from tunesmith_api import ConditionType, ExitCode, FailureCategory, FineTuneJobSpec, Reason, Stage, decode_termination
from tunesmith_operator.conditions import parse_timestamp, timestamp
from tunesmith_operator.finetunejob import diagnosis as diagnoses
from tunesmith_operator.finetunejob.decision import decide, plan_status, resolve
from tunesmith_operator.finetunejob.diagnosis import Diagnosis
from tunesmith_operator.finetunejob.manifests import (
    Facts,
    config_map,
    endpoint,
    stage_job,
    stage_name,
    workspace_claim,
)
from tunesmith_operator.finetunejob.status import Draft
from tunesmith_operator.finetunejob.validation import find_problem
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import ChildName, Children, Plan
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.pools import Diagnosis as PoolDiagnosis
from tunesmith_operator.pools import Landscape
from tunesmith_operator.settings import Images

#: Delay before the first counted retry, doubled with each further one up to the limit.
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0
#: Greatest delay after a preemption.
LONGEST_PREEMPTION_SECONDS = 60.0
#: How long the last words of a pod may take to arrive after its Job has ended.
GRACE_SECONDS = 5.0
#: How often a curable obstacle is looked at again.
RECHECK_SECONDS = 15.0


@dataclass(frozen=True)
class Observed:
    """What is the case beside the FineTuneJob itself.

    Attributes:
        children: its live children.
        pods: its pods.
        departed: the last facts of deleted pods, by the uid of their Job.
        landscape: pools and nodes.
        missing_input: what a stage would wait for in vain; empty when all inputs are there.
        progress: what the training pod said last.
        conflict: which child could not be made, as its name is taken; empty when there is none.
        refused: what the API server would not create or change, as a quota; empty when there is none.
    """

    children: Children = field(default_factory=dict)
    pods: tuple[PodFacts, ...] = ()
    departed: Mapping[str, PodFacts] = field(default_factory=dict)
    landscape: Landscape = field(default_factory=Landscape)
    missing_input: str = ""
    progress: Mapping[str, Any] | None = None
    conflict: str = ""
    refused: str = ""


def plan(body: Body, observed: Observed, now: datetime, images: Images) -> Plan:
    """What is to be done about a FineTuneJob that the API server has as `body`."""
    if "deletionTimestamp" in body["metadata"]:
        return Plan()
    draft = Draft.of(body, now)
    try:
        spec = FineTuneJobSpec.model_validate(body["spec"])
    except ValidationError as error:
        draft.conditions.stalled(Reason.INVALID_SPEC, _first_error(error))
        return Plan(draft.wire(serves=False))
    return _Planner(body, spec, observed, draft, images).plan()


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}"


class _Planner:
    """One planning: the inputs and the parts of the result."""

    def __init__(self, body: Body, spec: FineTuneJobSpec, observed: Observed, draft: Draft, images: Images) -> None:
        self._body = body
        self._spec = spec
        self._observed = observed
        self._draft = draft
        self._conditions = draft.conditions
        self._images = images
        self._apply: list[Body] = []
        self._delete: list[Body] = []
        self._wishes: list[float] = []

    def plan(self) -> Plan:
        if self._draft.finished:
            return self._after_end()
        problem = find_problem(self._spec)
        if problem is not None:
            return self._stalled(problem.reason, problem.message)
        facts = decide(self._body, self._spec, self._observed.landscape, self._images)
        if isinstance(facts, PoolDiagnosis):
            self._wishes.append(RECHECK_SECONDS)
            return self._stalled(facts.reason, facts.message)
        self._note_plan(facts)
        if self._deadline_exceeded():
            return self._result()
        self._apply += [workspace_claim(facts), config_map(facts, resolve(self._spec))]
        self._advance(facts)
        return self._result()

    def _result(self) -> Plan:
        return Plan(
            status=self._draft.wire(serves=self._spec.serve is not None),
            apply=tuple(self._apply),
            delete=tuple(self._delete),
            requeue_after=min(self._wishes, default=None),
        )

    def _stalled(self, reason: Reason, message: str) -> Plan:
        self._conditions.stalled(reason, message)
        return self._result()

    def _note_plan(self, facts: Facts) -> None:
        if not self._conditions.is_true(ConditionType.PLANNED):
            self._draft.status["plan"] = plan_status(facts, self._observed.landscape)
            message = f"{self._draft.status['plan']['technique']} on pool {facts.pool.name}"
            self._conditions.set(ConditionType.PLANNED, status=True, reason=Reason.SUCCEEDED, message=message)

    # The end.

    def _after_end(self) -> Plan:
        if self._draft.stage is None:
            self._follow_endpoint()
        ttl = self._spec.ttl_seconds_after_finished
        if ttl is None:
            return self._result()
        left = (self._draft.finished_at + timedelta(seconds=ttl) - self._draft.now).total_seconds()
        if left <= 0:
            return Plan(delete_self=True)
        self._wishes.append(left)
        return self._result()

    def _follow_endpoint(self) -> None:
        if self._spec.serve is None:
            self._conditions.ready("The model is exported.")
            return
        manifest = endpoint(self._body, self._spec.serve)
        self._apply.append(manifest)
        self._draft.status["endpoint"] = manifest["metadata"]["name"]
        if self._observed.conflict:
            self._conditions.stalled(Reason.NAME_CONFLICT, self._observed.conflict)
            return
        live = self._observed.children.get(ChildName("ModelEndpoint", manifest["metadata"]["name"]), {})
        found = {one["type"]: one for one in live.get("status", {}).get("conditions", [])}
        ready = found.get("Ready", {})
        serving, message = ready.get("status") == "True", ready.get("message", "The endpoint is being made.")
        reason = Reason.AVAILABLE if serving else Reason.ROLLING_OUT
        self._conditions.set(ConditionType.SERVING, status=serving, reason=reason, message=message)
        if serving:
            self._conditions.ready(f"The model is served. {message}")
        elif "Stalled" in found:
            self._conditions.stalled(Reason(found["Stalled"]["reason"]), found["Stalled"]["message"])
        else:
            self._conditions.progressing(Reason.ROLLING_OUT, message)

    def _deadline_exceeded(self) -> bool:
        limit, started = self._spec.active_deadline_seconds, self._draft.status.get("startedAt")
        if limit is None or started is None:
            return False
        left = (parse_timestamp(started) + timedelta(seconds=limit) - self._draft.now).total_seconds()
        if left > 0:
            self._wishes.append(left)
            return False
        stage = self._draft.stage or Stage.EXPORT
        diagnosis = Diagnosis(
            FailureCategory.DEADLINE_EXCEEDED,
            f"{stage} was not done {limit} s after the start.",
            "Raise activeDeadlineSeconds in a new FineTuneJob.",
        )
        self._draft.fail(stage, diagnosis, Reason.DEADLINE_EXCEEDED)
        self._delete += [one for name, one in self._observed.children.items() if name.kind == "Job" and not _ended(one)]
        return True

    # The stages.

    def _advance(self, facts: Facts) -> None:
        stage = self._draft.stage
        assert stage is not None, "a job whose stages are all done is finished"
        job = self._observed.children.get(ChildName("Job", stage_name(facts.name, stage)))
        if self._observed.conflict:
            self._wishes.append(RECHECK_SECONDS)
            self._conditions.stalled(Reason.NAME_CONFLICT, self._observed.conflict)
        elif self._observed.refused:
            self._wishes.append(RECHECK_SECONDS)
            self._conditions.progressing(Reason.WAITING_FOR_CAPACITY, self._observed.refused)
        elif job is None:
            self._start(facts, stage)
        elif "deletionTimestamp" in job["metadata"]:
            self._conditions.progressing(Reason.RETRYING, f"The previous Job of {stage} is being deleted.")
        elif _condition(job, "Complete"):
            self._complete(stage, job)
        elif _condition(job, "Failed"):
            self._failed(stage, job)
        else:
            self._run(facts, stage, job)

    def _start(self, facts: Facts, stage: Stage) -> None:
        retry = self._draft.status.get("retry", {})
        wait = (parse_timestamp(retry["notBefore"]) - self._draft.now).total_seconds() if retry else 0
        if self._spec.suspend:
            self._conditions.paused(f"spec.suspend is true; {stage} starts when it is set back.")
        elif self._observed.missing_input:
            self._wishes.append(RECHECK_SECONDS)
            self._conditions.stalled(Reason.INPUT_NOT_FOUND, self._observed.missing_input)
        elif wait > 0:
            self._wishes.append(wait)
            self._conditions.progressing(Reason.RETRYING, f"{stage} starts again at {retry['notBefore']}.")
        elif any(pod.stage == stage and not pod.ended for pod in self._observed.pods):
            self._conditions.progressing(Reason.RETRYING, f"The previous pod of {stage} is still ending.")
        else:
            self._draft.start()
            self._apply.append(stage_job(facts, stage, suspend=False))
            self._conditions.progressing(Reason.PENDING, f"{stage} is being started.")

    def _run(self, facts: Facts, stage: Stage, job: Body) -> None:
        self._apply.append(stage_job(facts, stage, suspend=self._spec.suspend))
        pod = _latest(self._observed.pods, job)
        if self._spec.suspend:
            self._conditions.paused(f"spec.suspend is true; {stage} resumes when it is set back.")
            return
        self._clear_start_failure(stage, pod)
        if pod is None:
            self._conditions.progressing(Reason.PENDING, f"{stage} is being started.")
        elif pod.unschedulable:
            self._conditions.progressing(Reason.WAITING_FOR_CAPACITY, f"{stage}: {pod.unschedulable}")
        elif pod.phase == "Pending":
            self._note_pending(stage, pod)
        else:
            self._conditions.progressing(Reason.RUNNING, f"{stage} runs in pod {pod.name}.")
            if stage is Stage.TRAIN and self._observed.progress is not None:
                self._draft.status["progress"] = dict(self._observed.progress)

    def _note_pending(self, stage: Stage, pod: PodFacts) -> None:
        found = diagnoses.not_starting(stage, pod)
        if found is None:
            self._conditions.progressing(Reason.PENDING, f"{stage} is being started.")
            return
        self._draft.record_failure(stage, found)
        self._conditions.progressing(Reason.PENDING, f"{found.message} {found.resolution}")

    def _clear_start_failure(self, stage: Stage, pod: PodFacts | None) -> None:
        failure = self._draft.status.get("failure", {})
        started = pod is not None and pod.phase != "Pending"
        if started and failure.get("stage") == stage and "exitCode" not in failure:
            del self._draft.status["failure"]

    def _complete(self, stage: Stage, job: Body) -> None:
        report = diagnoses.report_of(self._last_words(job))
        if report is not None and (stage is not Stage.EXPORT or report.artifact is not None):
            self._draft.record_success(stage, report)
            self._conditions.progressing(Reason.RUNNING, f"{stage} is done.")
            self._wishes.append(0)
            if stage is Stage.EXPORT:
                self._draft.finish()
                self._follow_endpoint()
        elif not self._too_early(job, "Complete"):
            self._retry_or_fail(stage, job, diagnoses.no_report(stage))

    def _failed(self, stage: Stage, job: Body) -> None:
        if self._draft.status.get("retry", {}).get("jobUid") == job["metadata"]["uid"]:
            self._delete.append(job)  # it is counted; the next run takes its name
            return
        pod = self._last_words(job)
        if (pod is None or not pod.ended) and self._too_early(job, "Failed"):
            return
        report = decode_termination(pod.exit_message) if pod is not None else None
        if report is not None and report.exit_code == ExitCode.GATE_FAILED:
            self._draft.record_evaluation(report, passed=False)
        condition = _condition(job, "Failed") or {}
        self._retry_or_fail(stage, job, diagnoses.diagnose(stage, pod, condition.get("message", "")))

    def _retry_or_fail(self, stage: Stage, job: Body, diagnosis: Diagnosis) -> None:
        if self._draft.status.get("retry", {}).get("jobUid") == job["metadata"]["uid"]:
            self._delete.append(job)
            return
        attempts = self._draft.count_failure(stage) if diagnosis.counts else self._draft.attempts(stage)
        if not diagnosis.retryable:
            reason = Reason.GATE_FAILED if diagnosis.category is FailureCategory.GATE_FAILED else Reason.FAILED
            self._draft.fail(stage, diagnosis, reason)
        elif attempts > self._spec.backoff_limit:
            self._draft.fail(stage, diagnosis, Reason.BACKOFF_LIMIT_EXCEEDED)
        else:
            self._schedule_retry(stage, job, diagnosis)

    def _schedule_retry(self, stage: Stage, job: Body, diagnosis: Diagnosis) -> None:
        before = self._draft.status.get("retry", {})
        count = before["count"] + 1 if before.get("stage") == stage else 1
        if diagnosis.counts:
            failures = self._draft.attempts(stage)
            delay = min(FIRST_RETRY_SECONDS * 2 ** (failures - 1), LONGEST_RETRY_SECONDS)
        else:
            delay = min(2.0 ** min(count - 1, 10), LONGEST_PREEMPTION_SECONDS)
        self._draft.record_failure(stage, diagnosis)
        self._draft.status["retry"] = {
            "stage": str(stage),
            "jobUid": job["metadata"]["uid"],
            "count": count,
            "notBefore": timestamp(self._draft.now + timedelta(seconds=delay)),
        }
        self._conditions.progressing(Reason.RETRYING, diagnosis.message)
        self._wishes.append(0)

    def _last_words(self, job: Body) -> PodFacts | None:
        return _latest(self._observed.pods, job) or self._observed.departed.get(job["metadata"]["uid"])

    def _too_early(self, job: Body, kind: str) -> bool:
        """Whether the pod's last event may still be on its way: the watches of Jobs and pods are two streams."""
        condition = _condition(job, kind) or {}
        age = (self._draft.now - parse_timestamp(condition["lastTransitionTime"])).total_seconds()
        if age < GRACE_SECONDS:
            self._wishes.append(0.5)
            return True
        return False


def _condition(job: Body, kind: str) -> Mapping[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def _ended(job: Body) -> bool:
    return _condition(job, "Complete") is not None or _condition(job, "Failed") is not None


def _latest(pods: tuple[PodFacts, ...], job: Body) -> PodFacts | None:
    """The newest pod of a Job; one that has ended with an exit code before one that has not."""
    uid = job["metadata"]["uid"]
    mine = [pod for pod in pods if pod.controller_uid == uid]
    return max(mine, key=lambda pod: (pod.created_at, pod.ended, pod.name), default=None)
