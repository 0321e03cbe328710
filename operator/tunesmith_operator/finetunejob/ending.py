"""The end of a FineTuneJob: its endpoint, its time to live, its deadline. Pure."""

from datetime import timedelta

from tunesmith_api import ConditionType, FailureCategory, Reason, Stage
from tunesmith_operator.conditions import timestamp
from tunesmith_operator.finetunejob.diagnosis import Diagnosis
from tunesmith_operator.finetunejob.manifests import endpoint
from tunesmith_operator.finetunejob.planning import Planning, condition_of
from tunesmith_operator.finetunejob.rendezvous import leftovers
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import ChildName, Plan


def after_end(planning: Planning) -> Plan:
    """What is to be done about a job that has succeeded or failed."""
    draft, ttl = planning.draft, planning.spec.ttl_seconds_after_finished
    planning.delete += leftovers(planning.observed.children)
    if draft.stage is None:
        follow_endpoint(planning)
    if ttl is None:
        return planning.result()
    left = planning.seconds_until(timestamp(draft.finished_at + timedelta(seconds=ttl)))
    if left <= 0:
        return Plan(delete_self=True)
    planning.wishes.append(left)
    return planning.result()


def follow_endpoint(planning: Planning) -> None:
    """Make the endpoint that the job asks for, and say how it is."""
    if planning.spec.serve is None:
        planning.conditions.ready("The model is exported.")
        return
    manifest = endpoint(planning.body, planning.spec.serve)
    name = manifest["metadata"]["name"]
    planning.apply.append(manifest)
    planning.draft.status["endpoint"] = name
    if planning.observed.trouble is not None:
        planning.note(planning.observed.trouble)
    else:
        _show_endpoint(planning, planning.observed.children.get(ChildName("ModelEndpoint", name), {}))


def _show_endpoint(planning: Planning, live: Body) -> None:
    conditions = planning.conditions
    found = {one["type"]: one for one in live.get("status", {}).get("conditions", [])}
    ready = found.get("Ready", {})
    serving, message = ready.get("status") == "True", ready.get("message", "The endpoint is being made.")
    reason = Reason.AVAILABLE if serving else Reason.ROLLING_OUT
    conditions.set(ConditionType.SERVING, status=serving, reason=reason, message=message)
    if serving:
        conditions.ready(f"The model is served. {message}")
    elif "Stalled" in found:
        conditions.stalled(Reason(found["Stalled"]["reason"]), found["Stalled"]["message"])
    else:
        conditions.progressing(Reason.ROLLING_OUT, message)


def deadline_exceeded(planning: Planning) -> bool:
    """Whether the job is not done in its time; then it fails, and its running Jobs go."""
    draft, limit = planning.draft, planning.spec.active_deadline_seconds
    started = draft.status.get("startedAt")
    if limit is None or started is None:
        return False
    left = planning.seconds_until(started) + limit
    if left > 0:
        planning.wishes.append(left)
        return False
    stage = draft.stage or Stage.EXPORT
    diagnosis = Diagnosis(
        FailureCategory.DEADLINE_EXCEEDED,
        f"{stage} was not done {limit} s after the start.",
        "Raise activeDeadlineSeconds in a new FineTuneJob.",
    )
    draft.fail(stage, diagnosis, Reason.DEADLINE_EXCEEDED)
    children = planning.observed.children
    planning.delete += [one for name, one in children.items() if name.kind == "Job" and not _ended(one)]
    return True


def _ended(job: Body) -> bool:
    return condition_of(job, "Complete") is not None or condition_of(job, "Failed") is not None
