"""What is to be done about a FineTuneJob. Pure: no I/O and no clock.

The only memory is the status and the children. A stage is done when its condition is True; that is written before the
next stage is created. A failed run is counted in the status, by the uid of its Job, before that Job is deleted to make
room for the next run. So a restarted operator goes on where the last one stopped, and nothing is counted or run twice.
"""

from datetime import datetime

from pydantic import ValidationError

from tunesmith_api import ConditionType, FineTuneJobSpec, Reason
from tunesmith_operator.finetunejob import ending, stages
from tunesmith_operator.finetunejob.decision import decide, plan_status, spending_of
from tunesmith_operator.finetunejob.manifests import Facts, config_map, unsized_config_name, workspace_claim
from tunesmith_operator.finetunejob.planning import Observed, Planning
from tunesmith_operator.finetunejob.rendezvous import name_problem
from tunesmith_operator.finetunejob.status import Draft
from tunesmith_operator.finetunejob.validation import find_problem
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import ChildName, Plan, Trouble
from tunesmith_operator.settings import GangSettings, Images, Variables

_GANGS = GangSettings()


def plan(
    body: Body,
    observed: Observed,
    now: datetime,
    images: Images,
    gangs: GangSettings = _GANGS,
    *,
    trainer_env: Variables = (),
) -> Plan:
    """What is to be done about a FineTuneJob that the API server has as `body`."""
    if "deletionTimestamp" in body["metadata"]:
        return Plan()
    draft = Draft.of(body, now)
    try:
        spec = FineTuneJobSpec.model_validate(body["spec"])
    except ValidationError as error:
        draft.conditions.stalled(Reason.INVALID_SPEC, _first_error(error))
        return Plan(draft.wire(serves=False))
    return _plan(Planning(body, spec, observed, draft, images, gangs, trainer_env))


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _plan(planning: Planning) -> Plan:
    spec, body = planning.spec, planning.body
    if planning.draft.finished:
        return ending.after_end(planning)
    problem = find_problem(spec)
    if problem is not None:
        return planning.stalled(problem.reason, problem.message)
    too_long = name_problem(body["metadata"]["name"], spec.distribution.workers)
    if too_long:
        return planning.stalled(Reason.INVALID_SPEC, too_long)
    facts = decide(body, spec, planning.observed.landscape, planning.images, planning.trainer_env)
    if isinstance(facts, Trouble):
        planning.note(facts)
        return planning.result()
    _note_plan(planning, facts)
    if not ending.deadline_exceeded(planning):
        if facts.obstacle is None:
            planning.apply += [workspace_claim(facts), config_map(facts, facts.job)]
            planning.delete += _outdated(planning, facts)
        stages.advance(planning, facts)
    return planning.result()


def _outdated(planning: Planning, facts: Facts) -> list[Body]:
    """The ConfigMap of a plan that another has replaced."""
    old = planning.observed.children.get(ChildName("ConfigMap", unsized_config_name(facts.name)))
    return [old] if facts.model is not None and old is not None and "deletionTimestamp" not in old["metadata"] else []


def _note_plan(planning: Planning, facts: Facts) -> None:
    if planning.conditions.is_true(ConditionType.PLANNED) and (not facts.anew or facts.obstacle is not None):
        _time_plan(planning, facts)
        return
    status = planning.draft.status["plan"] = plan_status(facts, planning.observed.landscape)
    workers = f", {facts.workers} workers" if facts.workers > 1 else ""
    message = f"{status['technique']} on pool {facts.pool.name}{workers}"
    planning.conditions.set(ConditionType.PLANNED, status=True, reason=Reason.SUCCEEDED, message=message)


def _time_plan(planning: Planning, facts: Facts) -> None:
    """Once prepare has read the data a plan without time gets it, as far as it is known."""
    made = planning.draft.status.get("plan", {})
    if "durationSeconds" in made or "dataset" not in planning.draft.status:
        return
    spent = spending_of(facts, planning.observed.landscape)
    if spent.seconds is not None:
        made["durationSeconds"] = round(spent.seconds)
        if spent.cost is not None:
            made["cost"] = round(spent.cost, 4)
