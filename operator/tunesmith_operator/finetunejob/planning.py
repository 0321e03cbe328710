"""One planning of a FineTuneJob: what it is told, and the result that the modules beside this one fill in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api import FineTuneJobSpec, Reason
from tunesmith_operator.conditions import Conditions, parse_timestamp
from tunesmith_operator.finetunejob.status import Draft
from tunesmith_operator.kinds import Body
from tunesmith_operator.plans import Children, Plan, Trouble
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.pools import Landscape
from tunesmith_operator.settings import GangSettings, Images, Variables

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
        waiting: which other job's output is awaited; empty when there is none.
        progress: what the training pod said last.
        trouble: what went wrong while the children were brought.
    """

    children: Children = field(default_factory=dict)
    pods: tuple[PodFacts, ...] = ()
    departed: Mapping[str, tuple[PodFacts, ...]] = field(default_factory=dict)
    landscape: Landscape = field(default_factory=Landscape)
    missing_input: str = ""
    waiting: str = ""
    progress: Mapping[str, Any] | None = None
    trouble: Trouble | None = None


@dataclass
class Planning:
    """The inputs and the parts of the result.

    Attributes:
        body: the FineTuneJob as the API server has it.
        spec: its spec.
        observed: what is the case beside it.
        draft: the status under construction.
        images: container images.
        gangs: how several workers are treated.
        trainer_env: further environment variables of the stages.
        apply: children as they should be.
        delete: live children that should not be.
        wishes: seconds after which to look again.
    """

    body: Body
    spec: FineTuneJobSpec
    observed: Observed
    draft: Draft
    images: Images
    gangs: GangSettings
    trainer_env: Variables = ()
    apply: list[Body] = field(default_factory=list)
    delete: list[Body] = field(default_factory=list)
    wishes: list[float] = field(default_factory=list)

    @property
    def conditions(self) -> Conditions:
        """The conditions under construction."""
        return self.draft.conditions

    def result(self) -> Plan:
        """The plan so far."""
        return Plan(
            status=self.draft.wire(serves=self.spec.serve is not None),
            apply=tuple(self.apply),
            delete=tuple(self.delete),
            requeue_after=min(self.wishes, default=None),
        )

    def stalled(self, reason: Reason, message: str) -> Plan:
        """The plan that says why nothing more is done."""
        self.conditions.stalled(reason, message)
        return self.result()

    def note(self, trouble: Trouble) -> None:
        """Say what keeps the job from going on, and look again."""
        self.wishes.append(RECHECK_SECONDS)
        trouble.show(self.conditions)

    def seconds_until(self, moment: str) -> float:
        """The time left until a time stamp; negative once it has passed."""
        return (parse_timestamp(moment) - self.draft.now).total_seconds()


def condition_of(job: Body, kind: str) -> Mapping[str, Any] | None:
    """A condition of a Job, if it is True."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)
