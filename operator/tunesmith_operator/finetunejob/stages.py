"""The stages of a FineTuneJob: start the next one, follow the one that runs, judge how it ended. Pure."""

from tunesmith_api import ExitCode, FailureCategory, Reason, Stage, decode_termination
from tunesmith_operator.finetunejob import diagnosis as diagnoses
from tunesmith_operator.finetunejob import rendezvous, retries, workers
from tunesmith_operator.finetunejob.ending import follow_endpoint
from tunesmith_operator.finetunejob.manifests import Facts, stage_job, stage_name
from tunesmith_operator.finetunejob.planning import RECHECK_SECONDS, Planning, condition_of
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import ChildName
from tunesmith_operator.pods import PodFacts

#: How long the last words of a pod may take to arrive after its Job has ended.
GRACE_SECONDS = 5.0
#: After this time a pod that has a node and no running container is worth a hint.
SLOW_START_SECONDS = 60.0


def advance(planning: Planning, facts: Facts) -> None:
    """Bring the first stage that is not done one step further."""
    observed, conditions = planning.observed, planning.conditions
    stage = planning.draft.stage
    assert stage is not None, "a job whose stages are all done is finished"
    _meet(planning, facts, stage)
    job = observed.children.get(ChildName("Job", stage_name(facts.name, stage)))
    if observed.trouble is not None:
        planning.note(observed.trouble)
    elif job is None:
        _start(planning, facts, stage)
    elif "deletionTimestamp" in job["metadata"]:
        conditions.progressing(Reason.RETRYING, f"The previous Job of {stage} is being deleted.")
    elif condition_of(job, "Complete"):
        _complete(planning, stage, job)
    elif condition_of(job, "Failed"):
        _failed(planning, facts, stage, job)
    else:
        _run(planning, facts, stage, job)


def _meet(planning: Planning, facts: Facts, stage: Stage) -> None:
    """Let the workers of the training find each other while it lasts."""
    if stage is Stage.TRAIN:
        closed = facts.body["metadata"]["namespace"] in planning.gangs.closed_namespaces
        planning.apply += rendezvous.children(facts, closed=closed)
    else:
        planning.delete += rendezvous.leftovers(planning.observed.children)


def _start(planning: Planning, facts: Facts, stage: Stage) -> None:
    observed, conditions = planning.observed, planning.conditions
    retry = planning.draft.status.get("retry", {})
    wait = planning.seconds_until(retry["notBefore"]) if retry else 0
    if planning.spec.suspend:
        conditions.paused(f"spec.suspend is true; {stage} starts when it is set back.")
    elif facts.obstacle is not None:
        planning.note(facts.obstacle)
    elif observed.missing_input:
        planning.wishes.append(RECHECK_SECONDS)
        conditions.stalled(Reason.INPUT_NOT_FOUND, observed.missing_input)
    elif observed.waiting:
        conditions.progressing(Reason.PENDING, observed.waiting)
    elif wait > 0:
        planning.wishes.append(wait)
        _note_wait(planning, stage, retry["notBefore"])
    elif any(pod.stage == stage and not pod.ended for pod in observed.pods):
        conditions.progressing(Reason.RETRYING, f"The previous pod of {stage} is still ending.")
    else:
        planning.draft.start()
        planning.apply.append(stage_job(facts, stage, suspend=False))
        conditions.progressing(Reason.PENDING, f"{stage} is being started.")


def _note_wait(planning: Planning, stage: Stage, until: str) -> None:
    failure = planning.draft.status.get("failure", {})
    if failure.get("category") == FailureCategory.UNSCHEDULABLE:
        message = f"{failure['message']} {stage} starts again at {until}."
        planning.conditions.progressing(Reason.WAITING_FOR_CAPACITY, message)
    else:
        planning.conditions.progressing(Reason.RETRYING, f"{stage} starts again at {until}.")


def _run(planning: Planning, facts: Facts, stage: Stage, job: Body) -> None:
    if retries.is_counted(planning.draft, job):
        planning.delete.append(job)  # it has given its nodes back; the next run takes its name
        return
    planning.apply.append(stage_job(facts, stage, suspend=planning.spec.suspend))
    if planning.spec.suspend:
        planning.conditions.paused(f"spec.suspend is true; {stage} resumes when it is set back.")
        return
    wanted, pods = facts.workers_of(stage), workers.newest(planning.observed.pods, job)
    if len(pods) == wanted and all(pod.phase != "Pending" for pod in pods):
        _note_running(planning, stage, pods)
        return
    message = _note_pending(planning, facts, stage, pods)
    if 0 < sum(pod.has_node for pod in pods) < wanted:
        _give_way_in_time(planning, stage, job, pods, message)


def _note_running(planning: Planning, stage: Stage, pods: tuple[PodFacts, ...]) -> None:
    failure = planning.draft.status.get("failure", {})
    if failure.get("stage") == stage and "exitCode" not in failure:
        del planning.draft.status["failure"]
    others = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
    planning.conditions.progressing(Reason.RUNNING, f"{stage} runs in pod {pods[0].name}{others}.")
    if stage is Stage.TRAIN and planning.observed.progress is not None:
        planning.draft.status["progress"] = dict(planning.observed.progress)


def _note_pending(planning: Planning, facts: Facts, stage: Stage, pods: tuple[PodFacts, ...]) -> str:
    """Say why not all pods of a stage run, with a way out where one is known; the reason alone."""
    placed, wanted = sum(pod.has_node for pod in pods), facts.workers_of(stage)
    troubles = filter(None, (diagnoses.not_starting(stage, pod) for pod in pods))
    found = min(troubles, key=lambda one: one.category is not FailureCategory.UNSCHEDULABLE, default=None)
    reason, message = Reason.PENDING, f"{stage} is being started."
    if found is not None and found.category is FailureCategory.UNSCHEDULABLE:
        share = f"{placed} of {wanted} workers have a node; " if wanted > 1 else ""
        reason, message = Reason.WAITING_FOR_CAPACITY, f"{stage}: {share}{found.message}"
    elif found is not None:
        message = found.message
    elif slow := _slow_start(planning, facts, stage, pods):
        message = slow
    elif wanted > 1:
        message = f"{stage} is being started: {placed} of {wanted} workers have a node."
    if found is not None:
        planning.draft.record_failure(stage, found)
    way_out = f" {found.resolution}" if found is not None else ""
    planning.conditions.progressing(reason, message + way_out)
    return message


def _slow_start(planning: Planning, facts: Facts, stage: Stage, pods: tuple[PodFacts, ...]) -> str:
    """A hint once a pod with a node has waited for its container longer than images and volumes mostly take."""
    waiting = [pod for pod in pods if pod.has_node and pod.phase == "Pending" and pod.created_at]
    if not waiting:
        return ""
    first = min(waiting, key=lambda pod: pod.created_at)
    left = planning.seconds_until(first.created_at) + SLOW_START_SECONDS
    if left > 0:
        planning.wishes.append(left)
        return ""
    secrets = ", ".join(facts.mounts.secrets[stage])
    mounted = f" It mounts the Secrets {secrets}, which must exist." if secrets else ""
    return (
        f"{stage} does not start: pod {first.name} waits for its volumes or its image;"
        f" `kubectl describe pod {first.name}` says more.{mounted}"
    )


def _give_way_in_time(planning: Planning, stage: Stage, job: Body, pods: tuple[PodFacts, ...], message: str) -> None:
    """Let workers that hold nodes without the others give them back: two gangs would wait for each other for ever."""
    left = planning.seconds_until(max(pod.created_at for pod in pods)) + planning.gangs.wait_seconds
    if left > 0:
        planning.wishes.append(left)
    else:
        retries.give_way(planning, stage, job, message)


def _complete(planning: Planning, stage: Stage, job: Body) -> None:
    first = next((pod for pod in workers.last_words(planning.observed, job) if pod.index == 0), None)
    report = diagnoses.report_of(first)
    if report is not None and (stage is not Stage.EXPORT or report.artifact is not None):
        planning.draft.record_success(stage, report)
        planning.conditions.progressing(Reason.RUNNING, f"{stage} is done.")
        planning.wishes.append(0)
        if stage is Stage.EXPORT:
            planning.draft.finish()
            follow_endpoint(planning)
    elif not _too_early(planning, job, "Complete"):
        retries.retry_or_fail(planning, stage, job, diagnoses.no_report(stage))


def _failed(planning: Planning, facts: Facts, stage: Stage, job: Body) -> None:
    if retries.is_counted(planning.draft, job):
        planning.delete.append(job)  # it is counted; the next run takes its name
        return
    wanted, pods = facts.workers_of(stage), workers.last_words(planning.observed, job)
    if sum(pod.ended for pod in pods) < wanted and _too_early(planning, job, "Failed"):
        return
    for report in filter(None, (decode_termination(pod.exit_message) for pod in pods)):
        if report.exit_code == ExitCode.GATE_FAILED:
            planning.draft.record_evaluation(report, passed=False)
    said = (condition_of(job, "Failed") or {}).get("message", "")
    retries.retry_or_fail(planning, stage, job, workers.judge(stage, pods, wanted, said))


def _too_early(planning: Planning, job: Body, kind: str) -> bool:
    """Whether a pod's last event may still be on its way: the watches of Jobs and pods are two streams."""
    condition = condition_of(job, kind) or {}
    early = -planning.seconds_until(condition["lastTransitionTime"]) < GRACE_SECONDS
    if early:
        planning.wishes.append(0.5)
    return early
