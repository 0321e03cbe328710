"""What the scenario matrix says of an approach for a job: Auto counts what serves the job's goal or its task.

Of a goal a measurement outweighs the matrix's claim; where nothing was measured the claim stands. Of a task the claim
stands whatever was measured: that one example's tiny model did not learn speaks of its settings, not of the approach.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith_api.enums import Goal, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner.job import sharding_of
from tunesmith_api.scenario_results import ScenarioResults, measured_scenarios
from tunesmith_api.scenarios import CHANGES, SCENARIOS, Approach, Measure, Proof, Scenario

MEASURES: Mapping[Goal, Measure] = {
    Goal.LOWEST_COST: Measure.COST,
    Goal.LOWEST_MEMORY: Measure.MEMORY,
    Goal.FEWEST_PARAMETERS: Measure.PARAMETERS,
}
_BY_TECHNIQUE = {
    TechniqueType.LORA: Approach.LORA,
    TechniqueType.QLORA: Approach.QLORA,
    TechniqueType.DORA: Approach.DORA,
    TechniqueType.PEFT: Approach.PEFT,
}


@dataclass(frozen=True)
class Evidence:
    """What the matrix says of an approach.

    Attributes:
        serves: whether it serves the job's goal, or its task where the goal is not measured.
        sentence: by what measure.
        approach: the matrix's column; None for full fine-tuning by one process, or DDP.
        measured: whether that was measured and is not a claim only.
    """

    serves: bool
    sentence: str
    approach: Approach | None = None
    measured: bool = False


def approach_of(job: FineTuneJobSpec) -> Approach | None:
    """The matrix's column of a job: its technique, or how its weights are shared; None for full tuning unshared."""
    if job.technique.type in _BY_TECHNIQUE:
        return _BY_TECHNIQUE[job.technique.type]
    stage = sharding_of(job).zero_stage
    if stage is None:
        return None
    return Approach.ZERO if stage > 1 else Approach.DEEPSPEED


def evidence(
    spec: FineTuneJobSpec, approach: Approach | None, goal: Goal, results: ScenarioResults | None = None
) -> Evidence:
    """What the matrix says of an approach for a job.

    Args:
        spec: the job's, for its task.
        approach: the matrix's column; None, which every ratio is measured against, serves any task and no goal.
        goal: the job's.
        results: measurements; those of this release by default.
    """
    found = results or measured_scenarios()
    measure = MEASURES.get(goal)
    if approach is None:
        return Evidence(measure is None, "")
    if measure is not None:
        return _for_goal(measure, approach, _measured_name(spec, approach), found)
    row, proof = _proof(spec)
    return _for_task(row, proof, approach, _measured_name(spec, approach), found)


def pooled_evidence(results: ScenarioResults | None = None) -> str:
    """What the matrix says of ZeRO for the pooled memory of several processes, a sentence."""
    row, approach, found = _row_of(Measure.POOLED_MEMORY), Approach.ZERO, results or measured_scenarios()
    amount = found.goals.get(Measure.POOLED_MEMORY, {}).get(approach)
    if amount is None:
        return _claimed(row, approach).sentence
    asked = CHANGES[approach]["distribution"]
    measured = f"{approach} of stage {asked['zeroStage']} by {asked['processesPerWorker']} processes"
    return f'Scenario "{row.title}": {measured} measured {amount.ratio:.2g} of the memory of one process alone.'


def _row_of(measure: Measure) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.goal is measure)


def _measured_name(spec: FineTuneJobSpec, approach: Approach) -> str:
    """What was measured of an approach: of PEFT one method, which stands for the job's."""
    if approach is not Approach.PEFT:
        return str(approach)
    measured = str(CHANGES[approach]["technique"]["peft"]["method"])
    own = spec.technique.peft.method if spec.technique.peft is not None else measured
    return measured if own == measured else f"{measured}, which stands for {own},"


def _for_goal(measure: Measure, approach: Approach, name: str, results: ScenarioResults) -> Evidence:
    row = _row_of(measure)
    claimed, measured = approach in row.claims, results.serves_goal(measure, approach)
    if measured is None:
        return _claimed(row, approach)
    ratio = results.goals[measure][approach].ratio
    against = "" if measured == claimed else f", against the claim of {'yes' if claimed else 'no'}"
    sentence = f'Scenario "{row.title}": {name} measured {ratio:.2g} of full fine-tuning{against}.'
    return Evidence(measured, sentence, approach, measured=True)


def _for_task(row: Scenario, proof: Proof, approach: Approach, name: str, results: ScenarioResults) -> Evidence:
    measured = results.serves_task(proof, approach)
    if measured is None:
        return _claimed(row, approach)
    cell = results.tasks[proof.example][approach]
    change = f"took {proof.metric} from {cell.base:.3g} to {cell.tuned:.3g} on examples/{proof.example}"
    sentence = f'Scenario "{row.title}": {name} {change}{"" if measured else ", no better"}.'
    return Evidence(approach in row.claims, sentence, approach, measured=True)


def _claimed(row: Scenario, approach: Approach) -> Evidence:
    said = "said" if approach in row.claims else "not said"
    sentence = f'{approach} is {said} to serve "{row.title}"; it was not measured.'
    return Evidence(approach in row.claims, sentence, approach)


def _proof(spec: FineTuneJobSpec) -> tuple[Scenario, Proof]:
    notation = spec.evaluation.generation.notation is not None
    found = [(row, proof) for row in SCENARIOS for proof in row.proofs if proof.task is spec.task]
    return next((pair for pair in found if pair[1].notation is notation), found[0])
