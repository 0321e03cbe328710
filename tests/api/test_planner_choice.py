"""Tests of what Auto chooses: the table of technique and pool, each goal's order, and the reasons."""

from dataclasses import replace
from typing import Any

import pytest

from tunesmith_api.catalog import find_preset
from tunesmith_api.enums import Goal, PoolClass
from tunesmith_api.finetunejob import FineTuneJobSpec, PlanStatus
from tunesmith_api.misfits import refusals
from tunesmith_api.planner import MARGIN, DataSize, PoolOffer, choose_row, settle, share_name, table
from tunesmith_api.planner.candidates import CANDIDATES
from tunesmith_api.planner.evidence import MEASURES, Evidence, approach_of, evidence, pooled_evidence
from tunesmith_api.planner.rows import Row, candidates_for
from tunesmith_api.scenario_results import ScenarioResults, measured_scenarios
from tunesmith_api.scenarios import Approach

GIB = 2**30
MINI = find_preset("phi-3-mini-4k-instruct").architecture
HUGE = PoolOffer("cpu-big", host_bytes=4096 * GIB, price_per_hour=4, teraflops=2)
SMALL = PoolOffer("cpu-small", host_bytes=8 * GIB, price_per_hour=1, teraflops=1)
GPU = PoolOffer("gpu", PoolClass.GPU, 512 * GIB, 80 * GIB, price_per_hour=3, teraflops=300)


def spec(**fields: Any) -> FineTuneJobSpec:
    """A minimal job of technique Auto for Phi-3 mini."""
    base = {
        "model": {"preset": "phi-3-mini-4k-instruct"},
        "dataset": {"train": {"uri": "configmap://data/train.jsonl"}},
        "training": {"batchSize": 1, "maxSequenceLength": 512, "maxSteps": 100},
    }
    return FineTuneJobSpec.model_validate({**base, **fields})


def rows(*pools: PoolOffer, **fields: Any) -> list[Row]:
    """The table with every candidate, also those that a release does not run yet."""
    job = spec(**fields)
    found = []
    for candidate in [one for one in CANDIDATES if one.only is None]:
        technique = candidate.technique(MINI).wire()
        asked = job.model_validate({**job.wire(), "technique": technique})
        found += [
            _named(row, candidate.name, candidate.quality, candidate.balanced) for row in table(asked, MINI, pools)
        ]
    return found


def _named(row: Row, name: str, quality: float, balanced: int) -> Row:
    values = {field: getattr(row, field) for field in row.__dataclass_fields__}
    return Row(**{**values, "name": name, "quality": quality, "balanced": balanced})


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        (Goal.BALANCED, "rsLoRA-r64"),
        (Goal.LOWEST_COST, "LoRA-r8"),
        (Goal.LOWEST_MEMORY, "QLoRA-r8"),
        (Goal.BEST_QUALITY, "rsLoRA-r64"),
    ],
)
def test_each_goal_has_its_technique_where_all_fits(goal: Goal, name: str) -> None:
    """With room for everything the goal alone decides, and the first reason names it."""
    choice = choose_row(rows(HUGE), goal)
    assert choice is not None
    assert choice.row.name == name
    assert f"goal {goal}" in choice.reasons[0]


#: Goal, what is chosen with room for everything, and what is said of the committed measurements.
DECIDED = [
    (Goal.BALANCED, "rsLoRA-r64", "LoRA took exact_match from"),
    (Goal.BEST_QUALITY, "rsLoRA-r64", "LoRA took exact_match from"),
    (Goal.LOWEST_COST, "LoRA-r8", "LoRA, QLoRA serve this goal by the scenario matrix; among their"),
    (
        Goal.LOWEST_MEMORY,
        "QLoRA-r8",
        "DoRA, LoRA, PEFT, QLoRA serve this goal by the scenario matrix; among their",
    ),
    (Goal.FEWEST_PARAMETERS, "IA3", "DoRA, LoRA, PEFT, QLoRA serve this goal by the scenario matrix; among their"),
]


@pytest.mark.parametrize(("goal", "name", "words"), DECIDED)
def test_a_reason_says_whether_the_matrix_or_the_plan_decided(goal: Goal, name: str, words: str) -> None:
    """By the measurements of this release, for each goal."""
    found = settle(spec(technique={"type": "Auto", "goal": goal}), MINI, (HUGE,))
    assert found.name == name
    assert any(words in reason for reason in found.reasons)


def test_every_goal_was_decided_by_the_committed_measurements() -> None:
    """The rows above are all goals, and what they say of the goals' approaches is what was measured."""
    assert {goal for goal, _, _ in DECIDED} == set(Goal)
    results = measured_scenarios()
    serving = {
        goal: {approach for approach in Approach if results.serves_goal(measure, approach)}
        for goal, measure in MEASURES.items()
    }
    adapters = {Approach.LORA, Approach.QLORA, Approach.PEFT, Approach.DORA}
    assert serving == {
        Goal.LOWEST_COST: {Approach.LORA, Approach.QLORA},
        Goal.LOWEST_MEMORY: adapters,
        Goal.FEWEST_PARAMETERS: adapters,
    }


def test_quantisation_costs_least_where_a_cheap_device_holds_nothing_else() -> None:
    """QLoRA was measured to cost less than full tuning: it is chosen where this plan finds it the cheapest as well."""
    small = PoolOffer("small", PoolClass.GPU, 64 * GIB, 16 * GIB, price_per_hour=0.5, teraflops=100)
    found = settle(spec(technique={"type": "Auto", "goal": "LowestCost"}), MINI, (small, GPU))
    assert (found.name, found.pool) == ("QLoRA-r8", "small")
    assert any(reason.startswith("LoRA, QLoRA serve this goal by the scenario matrix") for reason in found.reasons)


@pytest.mark.parametrize("serves", [True, False])
def test_quantisation_needs_a_measurement_for_the_lowest_cost(serves: bool) -> None:  # noqa: FBT001 - pytest's
    """A claim alone, or a measured no, does not make QLoRA count, however cheap this plan finds it."""
    small = PoolOffer("small", PoolClass.GPU, 64 * GIB, 16 * GIB, price_per_hour=0.5, teraflops=100)
    said = Evidence(serves, "", Approach.QLORA, measured=not serves)
    every = [
        replace(row, evidence=said) if row.evidence.approach is Approach.QLORA else row
        for row in table(spec(technique={"type": "Auto", "goal": "LowestCost"}), MINI, (small, GPU))
    ]
    choice = choose_row(every, Goal.LOWEST_COST)
    assert choice is not None
    assert choice.row.name == "LoRA-r8"


def test_an_unknown_cost_is_no_low_one() -> None:
    """Without prices QLoRA, were it the only one that serves, is not known to be the cheapest; the reason says so."""
    every = [
        replace(row, evidence=replace(row.evidence, serves=row.evidence.approach is Approach.QLORA))
        for row in table(spec(technique={"type": "Auto", "goal": "LowestCost"}), MINI, (PoolOffer("dark"),))
    ]
    choice = choose_row(every, Goal.LOWEST_COST)
    assert choice is not None
    assert choice.row.evidence.approach is not Approach.QLORA
    assert any("it is not known to have the lowest cost" in reason for reason in choice.reasons)


def test_where_no_approach_serves_all_are_compared() -> None:
    """The reason says that the matrix decided nothing."""
    every = [
        replace(row, evidence=replace(row.evidence, serves=False))
        for row in table(spec(technique={"type": "Auto", "goal": "LowestMemory"}), MINI, (HUGE,))
    ]
    choice = choose_row(every, Goal.LOWEST_MEMORY)
    assert choice is not None
    assert any(reason.startswith("No approach that fits serves this goal") for reason in choice.reasons)


def test_fewest_parameters_is_what_the_counts_say() -> None:
    """The chosen row trains fewer weights than any other."""
    every = rows(HUGE)
    choice = choose_row(every, Goal.FEWEST_PARAMETERS)
    assert choice is not None
    assert choice.row.trained == min(row.trained for row in every)


def test_quantisation_is_the_way_out_only_where_nothing_else_fits() -> None:
    """On a pool that holds 4-bit weights but no others QLoRA is chosen, and the reason gives what LoRA would need."""
    every = rows(PoolOffer("small", PoolClass.GPU, 64 * GIB, 16 * GIB))
    choice = choose_row(every, Goal.BALANCED)
    assert choice is not None
    assert choice.row.name == "QLoRA"
    assert any("Without quantisation nothing fits: LoRA needs" in reason for reason in choice.reasons)


def test_nothing_fits_a_pool_that_is_too_small() -> None:
    """No row, no choice; and the settled technique says what to lower."""
    tiny = PoolOffer("tiny", host_bytes=GIB)
    assert choose_row(rows(tiny), Goal.BALANCED) is None
    assert "nothing fits" in settle(spec(), MINI, (tiny,)).reasons[0]


def test_the_lowest_cost_is_the_cheapest_whole_run() -> None:
    """A GPU that costs three times as much an hour and is 300 times as fast is cheaper for the run."""
    choice = choose_row(rows(HUGE, GPU), Goal.LOWEST_COST)
    assert choice is not None
    costs = {row.pool.name: row.spending.cost for row in rows(HUGE, GPU) if row.name == choice.row.name}
    assert choice.row.pool.name == min(costs, key=lambda name: costs[name] or 0)
    assert choice.row.spending.cost is not None


def test_a_pool_that_is_too_small_is_named() -> None:
    """Where one pool is left out, the reason says which."""
    choice = choose_row(rows(SMALL, HUGE), Goal.BALANCED)
    assert choice is not None
    assert choice.row.pool.name == "cpu-big"
    assert any("cpu-small would be too small" in reason for reason in choice.reasons)


def test_a_pool_of_unknown_size_neither_fits_nor_not() -> None:
    """Nothing is made up: fits is unknown, time and cost are unknown, and the row can still be chosen."""
    found = rows(PoolOffer("dark"))
    assert {row.fits for row in found} == {None}
    assert {row.spending.seconds for row in found} == {None}
    assert choose_row(found, Goal.BALANCED) is not None


def test_time_follows_the_tokens_of_the_data() -> None:
    """Twice the tokens take twice as long; without data and steps the time is unknown."""
    open_ended = {"batchSize": 1, "maxSequenceLength": 512}
    once, twice = (
        table(spec(training=open_ended), MINI, (HUGE,), DataSize(100, tokens))[0].spending.seconds
        for tokens in (10_000, 20_000)
    )
    assert once is not None
    assert twice == pytest.approx(2 * once)
    assert table(spec(training=open_ended), MINI, (HUGE,))[0].spending.seconds is None


def test_only_what_this_release_runs_is_offered() -> None:
    """No candidate of the table is refused by name when the job is checked."""
    offered = candidates_for(spec(), MINI)
    assert {"LoRA", "rsLoRA-r64"} <= {one.name for one, _ in offered if one is not None}


@pytest.mark.parametrize(
    "fields",
    [{}, {"export": {"format": "Adapter"}}, {"distribution": {"strategy": "DeepSpeed", "workers": 2, "zeroStage": 3}}],
)
def test_what_is_offered_passes_the_checks(fields: dict[str, Any]) -> None:
    """Every technique that Auto may choose would be accepted if the job asked for it."""
    job = spec(**fields)
    offered = [technique for _, technique in candidates_for(job, MINI)]
    assert offered
    assert not [problem for one in offered for problem in refusals(job.model_copy(update={"technique": one}))]


def test_a_recorded_choice_stays() -> None:
    """What an earlier plan chose is kept whatever the pools have become."""
    tiny, pair = (PoolOffer("tiny", host_bytes=GIB),), {"workers": 2}
    recorded = PlanStatus(technique="rsLoRA-r64", sharing="ZeRO-2")
    found = settle(spec(distribution=pair), MINI, tiny, recorded=recorded)
    assert found.name == "rsLoRA-r64"
    assert share_name(found.distribution) == "ZeRO-2"
    before_sharing = PlanStatus(technique="LoRA")
    assert share_name(settle(spec(distribution=pair), MINI, tiny, recorded=before_sharing).distribution) == "DDP"


def pool_of(gib: float) -> PoolOffer:
    """GPUs with so much memory each."""
    return PoolOffer(f"gpu-{gib:g}", PoolClass.GPU, 512 * GIB, int(gib * GIB))


@pytest.mark.parametrize(
    ("technique", "gib", "name", "sharing"),
    [
        ({"type": "Auto"}, 80, "rsLoRA-r64", "DDP"),
        ({"type": "Full"}, 60, "Full", "ZeRO-2"),
        ({"type": "Full"}, 45, "Full", "ZeRO-3"),
        ({"type": "LoRA"}, 80, "LoRA", "DDP"),
        ({"type": "LoRA"}, 32, "LoRA", "ZeRO-3"),
        ({"type": "Auto"}, 32, "rsLoRA-r64", "ZeRO-3"),
        ({"type": "PEFT", "peft": {"method": "AdaLoRA"}}, 30, "AdaLoRA", "DDP"),  # reads whole weights
    ],
)
def test_processes_share_no_more_than_they_must(technique: dict[str, Any], gib: float, name: str, sharing: str) -> None:
    """Strategy Auto is DDP where the model fits each process, else the least ZeRO stage that fits, and says why."""
    job = spec(technique=technique, distribution={"workers": 4}, training={"batchSize": 1, "maxSteps": 100})
    found = settle(job, MINI, (pool_of(gib),))
    assert (found.name, share_name(found.distribution)) == (name, sharing)
    told = [reason for reason in found.reasons if reason.startswith("Distribution ")]
    assert [("share" in reason, "GiB each instead of" in reason) for reason in told] == (
        [] if name == "AdaLoRA" else [(sharing != "DDP", sharing != "DDP")]
    )
    assert (pooled_evidence() in found.reasons) == sharing.startswith("ZeRO")


def test_the_pool_that_needs_least_sharing_is_preferred() -> None:
    """A pool whose devices hold the whole model goes before one that needs ZeRO; a named strategy stays."""
    pair = {"workers": 4}
    found = settle(spec(technique={"type": "LoRA"}, distribution=pair), MINI, (pool_of(20), pool_of(80)))
    assert (found.pool, share_name(found.distribution)) == ("gpu-80", "DDP")
    asked = {"strategy": "DeepSpeed", "zeroStage": 1, **pair}
    kept = settle(spec(technique={"type": "LoRA"}, distribution=asked), MINI, (pool_of(80),))
    assert (kept.pool, share_name(kept.distribution)) == (None, "ZeRO-1")


PAIR = {"technique": {"type": "Full"}, "distribution": {"workers": 2}}


def needed(sharing: str) -> int:
    """What a worker of the pair asks of a node, by one way to share the model."""
    found = table(spec(**PAIR), MINI, (PoolOffer("dark"),))
    return next(int(row.host_bytes * MARGIN) for row in found if share_name(row.distribution) == sharing)


@pytest.mark.parametrize(
    ("nodes", "room", "fits"),
    [(1, 1.8, False), (1, 2.0, True), (2, 1.01, True), (2, 0.9, False), (None, 1.8, None), (None, 2.0, True)],
)
def test_workers_that_share_a_node_fit_together(nodes: int | None, room: float, fits: bool | None) -> None:  # noqa: FBT001 - pytest's
    """Two workers need two nodes that hold one each, or one that holds both; unknown is the number, unknown the fit."""
    pool = PoolOffer("cpu", host_bytes=int(needed("DDP") * room), nodes=nodes)
    [row] = [row for row in table(spec(**PAIR), MINI, (pool,)) if share_name(row.distribution) == "DDP"]
    assert row.fits is fits


@pytest.mark.parametrize(
    ("nodes", "devices", "distribution", "fits"),
    [
        (1, 1, {"workers": 2}, False),
        (1, 2, {"workers": 2}, True),
        (2, 1, {"workers": 2}, True),
        (4, 1, {"processesPerWorker": 2}, False),
        (1, 0, {}, False),
        (1, None, {}, None),
    ],
)
def test_each_process_needs_a_device(nodes: int, devices: int | None, distribution: dict[str, int], fits: bool) -> None:  # noqa: FBT001 - pytest's
    """Memory alone is no room: a pod takes its devices of one node."""
    pool = PoolOffer("gpu", PoolClass.GPU, 4096 * GIB, 80 * GIB, nodes=nodes, devices=devices)
    job = spec(technique={"type": "LoRA"}, distribution=distribution)
    assert {row.fits for row in table(job, MINI, (pool,))} == {fits}


def test_workers_on_one_node_share_the_model_where_two_copies_do_not_fit() -> None:
    """Strategy Auto counts the nodes: with two of them each holds a whole copy, one holds two only in parts."""
    room = needed("DDP") + needed("ZeRO-2")
    assert needed("ZeRO-2") < needed("DDP") < room < 2 * needed("DDP")
    one, two = (
        settle(spec(**PAIR), MINI, (PoolOffer("cpu", host_bytes=room, nodes=nodes),)).distribution for nodes in (1, 2)
    )
    assert (share_name(one), share_name(two)) == ("ZeRO-2", "DDP")


@pytest.mark.parametrize("goal", list(Goal))
def test_one_process_shares_nothing(goal: Goal) -> None:
    """Strategy Auto of one process is None, whatever fits and whatever the goal."""
    found = settle(spec(technique={"type": "Auto", "goal": goal}), MINI, (pool_of(1), pool_of(80)))
    assert share_name(found.distribution) == "None"


@pytest.mark.parametrize("goal", list(Goal))
def test_an_unknown_model_has_a_technique_for_every_goal(goal: Goal) -> None:
    """Where the model's size is not known the reason says so."""
    found = settle(spec(technique={"type": "Auto", "goal": goal}), None)
    assert "not known yet" in found.reasons[0]


def test_a_rank_is_at_most_the_narrowest_layer() -> None:
    """A candidate's rank is lowered to what the model can take, and its scale with it."""
    narrow = MINI.model_copy(update={"num_attention_heads": 32, "hidden_size": 32, "num_key_value_heads": 32})
    for candidate in CANDIDATES:
        lora = candidate.technique(narrow).lora
        assert lora is None or lora.rank <= 32


MEASURED = ScenarioResults.model_validate(
    {
        "parameters": 1,
        "tasks": {"home-assistant": {"LoRA": {"base": 0.5, "tuned": 0.25}, "DoRA": {"base": 0.0, "tuned": 0.75}}},
        "goals": {"cost": {"QLoRA": {"found": 3.0, "of": 2.0}, "PEFT": {"found": 1.0, "of": 2.0}}},
    }
)


@pytest.mark.parametrize(
    ("approach", "goal", "verdict", "words"),
    [
        (Approach.QLORA, Goal.LOWEST_COST, "no", "measured 1.5 of full fine-tuning, against the claim of yes"),
        (Approach.PEFT, Goal.LOWEST_COST, "yes", "measured 0.5 of full fine-tuning, against the claim of no"),
        (Approach.LORA, Goal.LOWEST_COST, "yes", "said to serve"),
        (Approach.LORA, Goal.LOWEST_MEMORY, "no", "not measured"),
        (Approach.LORA, Goal.BALANCED, "yes", "exact_match from 0.5 to 0.25 on examples/home-assistant, no better"),
        (Approach.DORA, Goal.BEST_QUALITY, "yes", "exact_match from 0 to 0.75 on examples/home-assistant"),
        (None, Goal.BALANCED, "yes", ""),
        (None, Goal.LOWEST_COST, "no", ""),
    ],
)
def test_what_the_matrix_says_of_an_approach(approach: Approach | None, goal: Goal, verdict: str, words: str) -> None:
    """Of a goal what was measured counts, else the claim; of a task the claim, with what was measured beside it."""
    found = evidence(spec(task="Chat"), approach, goal, MEASURED)
    assert found.serves is (verdict == "yes")
    assert words in found.sentence


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"task": "TextGeneration"}, "Domain adaptation"),
        ({"task": "TextGeneration", "evaluation": {"generation": {"notation": "ABC"}}}, "Creative generation"),
        ({"task": "Translation"}, "Classification, named entities, translation"),
        ({"task": "Chat", "evaluation": {"generation": {"notation": "SVG"}}}, "Chatbots"),
    ],
)
def test_a_job_is_a_scenario_by_its_task(fields: dict[str, Any], title: str) -> None:
    """The row of the matrix is the job's task; text in a notation is creative."""
    assert title in evidence(spec(**fields), Approach.LORA, Goal.BALANCED, MEASURED).sentence


@pytest.mark.parametrize(
    ("method", "words"),
    [("IA3", ": LoKr, which stands for IA3, measured 0.0015 of"), ("LoKr", ": LoKr measured 0.0015 of")],
)
def test_a_reason_names_the_method_that_was_measured(method: str, words: str) -> None:
    """PEFT's measurements are LoKr's: a job by another method is told so."""
    job = spec(technique={"type": "PEFT", "peft": {"method": method}})
    assert words in evidence(job, Approach.PEFT, Goal.FEWEST_PARAMETERS).sentence
    assert f"{words.partition(' measured')[0]} took" in evidence(job, Approach.PEFT, Goal.BALANCED).sentence


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (measured_scenarios(), "ZeRO of stage 3 by 2 processes measured 0.88 of the memory of one process alone."),
        (MEASURED, 'ZeRO is said to serve "Pooled memory of all GPUs"; it was not measured.'),
    ],
)
def test_pooled_memory_is_what_zero_was_measured_to_save(results: ScenarioResults, words: str) -> None:
    """The sentence for a job whose processes share the model."""
    assert pooled_evidence(results).endswith(words)


@pytest.mark.parametrize(
    ("technique", "distribution", "approach"),
    [
        ({"type": "Full"}, {}, None),
        ({"type": "Full"}, {"strategy": "DeepSpeed", "zeroStage": 1, "workers": 2}, Approach.DEEPSPEED),
        ({"type": "Full"}, {"strategy": "DeepSpeed", "zeroStage": 3, "workers": 2}, Approach.ZERO),
        ({"type": "DoRA"}, {"strategy": "DeepSpeed", "zeroStage": 3, "workers": 2}, Approach.DORA),
        ({"type": "PEFT", "peft": {"method": "IA3"}}, {}, Approach.PEFT),
    ],
)
def test_a_jobs_approach(technique: dict[str, Any], distribution: dict[str, Any], approach: Approach | None) -> None:
    """The column of the matrix is the technique; of a full fine-tuning it is how the weights are shared."""
    assert approach_of(spec(technique=technique, distribution=distribution)) is approach


def test_what_does_not_serve_is_chosen_only_where_nothing_else_fits() -> None:
    """A row that the matrix speaks against loses to a later one; alone it is chosen all the same."""
    first, second = rows(HUGE)[:2]
    against = replace(first, balanced=0, evidence=Evidence(serves=False, sentence="no"))
    other = replace(second, balanced=1, evidence=Evidence(serves=True, sentence="measured 0.5"))
    choice, alone = choose_row([against, other], Goal.BALANCED), choose_row([against], Goal.BALANCED)
    assert choice is not None
    assert choice.row is other
    assert "measured 0.5" in choice.reasons
    assert not [reason for reason in choice.reasons if reason.startswith("No approach")]
    assert alone is not None
    assert any(reason.startswith("No approach that fits serves this task") for reason in alone.reasons)
    assert alone.row is against


@pytest.mark.parametrize(("precision", "said"), [("Auto", True), ("BF16", False), ("FP32", False)])
def test_a_reason_says_what_bf16_would_save(precision: str, said: bool) -> None:  # noqa: FBT001 - parametrised
    """Auto is planned as the arithmetic that needs more; a named precision has nothing to add."""
    training = {"batchSize": 4, "maxSequenceLength": 1024, "maxSteps": 100, "precision": precision}
    found = settle(spec(technique={"type": "Auto"}, training=training), MINI, (pool_of(80),))
    assert any("GiB with precision BF16" in reason for reason in found.reasons) is said
