"""Layout, configuration and verdict of several training processes; no process is started here."""

import sys
from importlib.util import find_spec
from unittest.mock import patch

import pytest

from tunesmith_api.enums import Precision
from tunesmith_api.exits import ExitCode
from tunesmith_api.finetunejob import DistributionSpec, TrainingSpec
from tunesmith_api.planner import ZERO_BUCKET_ELEMENTS, ZERO_LIVE_WEIGHTS
from tunesmith_trainer.batches import BLANK, LengthBucketSampler
from tunesmith_trainer.deepspeed_config import deepspeed_config
from tunesmith_trainer.distributed import layout_of
from tunesmith_trainer.errors import BadConfigError, DivergedError, WorkerLostError, error_of
from tunesmith_trainer.launcher import Ended, hide_deepspeed, rank_environment, root_cause

pytestmark = pytest.mark.torch  # the sampler is torch's

PODS = {"strategy": "DDP", "workers": 3, "processesPerWorker": 2}


def distribution(**fields):
    """A distribution by its fields on the wire."""
    return DistributionSpec.model_validate(fields)


@pytest.mark.parametrize("strategy", ["None", "Auto"])
def test_a_job_without_a_strategy_needs_no_layout(strategy):
    """It trains in the stage's own process."""
    assert layout_of(distribution(strategy=strategy), {}) is None


def test_every_process_of_every_pod_has_a_number_of_its_own():
    """Ranks run through the pods in order, and all are told the same meeting point."""
    ranks, places = [], set()
    for worker in range(3):
        environ = {"JOB_COMPLETION_INDEX": str(worker), "TUNESMITH_RENDEZVOUS": "job-train-0.job:29500"}
        layout = layout_of(distribution(**PODS), environ)
        for local in range(layout.processes):
            variables = layout.variables(local)
            ranks.append(int(variables["RANK"]))
            places.add((variables["MASTER_ADDR"], variables["MASTER_PORT"], variables["WORLD_SIZE"]))
    assert ranks == list(range(6))
    assert places == {("job-train-0.job", "29500", "6")}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "TUNESMITH_RENDEZVOUS"),
        ({"TUNESMITH_RENDEZVOUS": "host:port"}, "TUNESMITH_RENDEZVOUS"),
        ({"TUNESMITH_RENDEZVOUS": "host:29500"}, "JOB_COMPLETION_INDEX"),
        ({"TUNESMITH_RENDEZVOUS": "host", "JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETION_INDEX"),
    ],
)
def test_a_pod_that_does_not_know_its_place_says_what_is_missing(environ, named):
    """Several workers outside of an Indexed Job are a mistake in the job, not a hang."""
    with pytest.raises(BadConfigError, match=named):
        layout_of(distribution(**PODS), environ)


def test_processes_share_the_pods_threads_and_only_the_first_serves_progress(tmp_path, monkeypatch):
    """Two processes on four threads get two each."""
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.delenv("TUNESMITH_PROGRESS_PORT", raising=False)
    layout = layout_of(distribution(strategy="DDP", processesPerWorker=2), {})
    first, second = (rank_environment(layout, local, tmp_path) for local in range(2))
    assert first["OMP_NUM_THREADS"] == second["OMP_NUM_THREADS"] == "2"
    assert "TUNESMITH_PROGRESS_PORT" not in first
    assert second["TUNESMITH_PROGRESS_PORT"] == "0"
    assert first["TUNESMITH_TERMINATION_LOG"] != second["TUNESMITH_TERMINATION_LOG"]


LOST, STOPPED = int(ExitCode.WORKER_LOST), int(ExitCode.PREEMPTED)


@pytest.mark.parametrize(
    ("codes", "cause"),
    [
        ((0, 0), None),
        ((LOST, -9), 1),
        ((-9, LOST), 0),
        ((LOST, int(ExitCode.DIVERGED)), 1),
        ((STOPPED, STOPPED), 0),
        ((LOST, STOPPED), 1),
        ((LOST, LOST), 0),
        ((0, 1), 1),
    ],
)
def test_the_cause_is_told_and_not_its_consequences(codes, cause):
    """A process that only saw another one vanish does not hide why that one did."""
    found = root_cause([Ended(rank, code, None) for rank, code in enumerate(codes)])
    assert (None if found is None else found.rank) == cause


@pytest.mark.parametrize(
    ("code", "kind"), [(int(ExitCode.DIVERGED), DivergedError), (LOST, WorkerLostError), (1, None), (-9, None)]
)
def test_a_code_of_the_contract_becomes_its_error_again(code, kind):
    """What a training process raised, its launcher raises; crashes have no class."""
    found = error_of(code, "why")
    assert (None if found is None else type(found)) is kind


@pytest.mark.parametrize(
    ("fields", "zero"),
    [
        ({}, {"stage": 2}),
        ({"zeroStage": 0}, {"stage": 0}),
        ({"zeroStage": 1, "offload": "Optimizer"}, {"stage": 1, "offload_optimizer": {"device": "cpu"}}),
        (
            {"zeroStage": 3, "offload": "All"},
            {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}},
        ),
    ],
)
def test_the_zero_section_follows_from_stage_and_offload(fields, zero):
    """Each field of the job is one entry of DeepSpeed's configuration, and no other offload appears."""
    job = distribution(strategy="DeepSpeed", **fields)
    section = deepspeed_config(job, TrainingSpec(), Precision.FP32, 2)["zero_optimization"]
    shown = {key: {"device": value["device"]} if isinstance(value, dict) else value for key, value in section.items()}
    bounds = {name for name in shown if name.endswith("_size") or name.startswith("stage3_")}
    assert {name: value for name, value in shown.items() if name not in bounds} == zero


@pytest.mark.parametrize("stage", [2, 3])
def test_what_deepspeed_exchanges_has_the_planners_bounds(stage):
    """Not DeepSpeed's own, which are gigabytes whatever the model."""
    job = distribution(strategy="DeepSpeed", zeroStage=stage)
    section = deepspeed_config(job, TrainingSpec(), Precision.FP32, 2)["zero_optimization"]
    assert section["reduce_bucket_size"] == section["allgather_bucket_size"] == ZERO_BUCKET_ELEMENTS
    assert section.get("stage3_max_live_parameters") == (ZERO_LIVE_WEIGHTS if stage == 3 else None)


def test_the_batch_of_a_step_is_that_of_all_processes():
    """DeepSpeed checks the product itself; bf16 is autocast over fp32 weights."""
    training = TrainingSpec(batch_size=4, gradient_accumulation_steps=3)
    config = deepspeed_config(distribution(strategy="DeepSpeed"), training, Precision.BF16, 2)
    assert config["train_batch_size"] == 24
    assert config["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}
    assert "bf16" not in config
    assert deepspeed_config(distribution(strategy="DDP"), training, Precision.BF16, 2) is None


def test_the_slices_of_two_processes_make_the_batches_of_one():
    """Both orders hold the same rows batch by batch; the last one is filled up, and no row comes twice."""
    lengths = [3 + 5 * (row % 7) for row in range(45)]
    alone = list(LengthBucketSampler(lengths, 8, seed=1))
    shared = list(LengthBucketSampler(lengths, 8, seed=1, fill=True))
    assert shared == alone + [BLANK] * 3
    assert len(shared) % 8 == 0


def test_a_training_that_does_not_use_deepspeed_does_not_load_it():
    """Libraries that look for it find none, so that nobody pays for its import."""
    with patch.dict(sys.modules):
        sys.modules.pop("deepspeed", None)
        assert find_spec("deepspeed") is not None
        hide_deepspeed()
        assert find_spec("deepspeed") is None
