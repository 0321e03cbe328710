"""Several training processes for real: same losses as one, stop together, resume exactly, never hang on a lost one."""

import json
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import psutil
import pytest

from tunesmith_api import ExitCode, FailureCategory, Stage, decode_termination
from tunesmith_api.reports import TrainReport
from tunesmith_api.techniques import TECHNIQUES
from tunesmith_trainer.distributed import free_port

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

STEPS = 16
#: Rows per step over all of up to four processes; it divides the rows of an epoch with a rest.
BATCH = 12
MODELS = Path(__file__).parents[2] / "examples" / "models"


def changes(batch_size, distribution):
    """The changes to the example's spec that make a short run."""
    return {
        "distribution": distribution,
        "training": {
            "maxSteps": STEPS,
            "checkpointEverySteps": 6,
            "batchSize": batch_size,
            "maxSequenceLength": 64,
            "precision": "FP32",
        },
        "evaluation": {"generation": {"maxSamples": 4, "maxNewTokens": 4}},
    }


#: What ZeRO trains in parts, with a learning rate: at LoRA's, rounding grows in the others until it shows.
TAKEN = {
    "LoRA": ({"type": "LoRA", "lora": {"rank": 8, "alpha": 16}}, 5e-3),
    **{name: (TECHNIQUES[name].example, 5e-4) for name in ("rsLoRA", "LoRA+", "DoRA", "Full")},
}
extended = pytest.mark.extended
two = {"processesPerWorker": 2}
DDP = {"strategy": "DDP", **two}


def zero(stage, offload="None", **more):
    """DeepSpeed at a stage."""
    return {"strategy": "DeepSpeed", "zeroStage": stage, "offload": offload, **more}


CASES = {
    "zero-3 x 2": zero(3, **two),
    "ddp x 2": DDP,
    "zero-0 x 2": zero(0, **two),
    "zero-1 x 1": zero(1),
    "zero-1 x 2": zero(1, **two),
    "zero-2 x 2": zero(2, **two),
    "zero-3 x 1": zero(3),
    "zero-1 x 2, optimizer on the host": zero(1, "Optimizer", **two),
    "zero-2 x 2, optimizer on the host": zero(2, "Optimizer", **two),
    "zero-3 x 2, optimizer on the host": zero(3, "Optimizer", **two),
    "zero-3 x 2, all on the host": zero(3, "All", **two),
}


@pytest.fixture(scope="module")
def prepared(make_job, run_here, tmp_path_factory):
    """`prepared(folder, distribution, name)`: the config of a technique's short run in a workspace of its own."""
    source = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_MODELS", str(MODELS))
        ended = run_here(Stage.PREPARE, make_job(source, **changes(BATCH, {})))
    assert ended.code == 0, ended.message

    def prepare(folder, distribution, name="LoRA"):
        processes = distribution.get("workers", 1) * distribution.get("processesPerWorker", 1)
        shutil.copytree(source, folder / "workspace")
        config = make_job(folder / "workspace", **changes(BATCH // processes, distribution))
        config["spec"]["technique"], config["spec"]["training"]["learningRate"] = TAKEN[name]
        return config

    return prepare


@pytest.fixture(scope="module")
def alone_with(prepared, run_here, tmp_path_factory):
    """`alone_with(name)`: a technique's run in one process, once for the module: its report and its losses."""

    @cache
    def run(name):
        config = prepared(tmp_path_factory.mktemp("alone"), {}, name)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in {"TUNESMITH_MODELS": str(MODELS), "TUNESMITH_PROGRESS_PORT": "0"}.items():
                patch.setenv(variable, value)
            ended = run_here(Stage.TRAIN, config)
        assert ended.code == 0, ended.message
        return report_of(config), losses_of(config)

    return run


@pytest.fixture(scope="module")
def alone(alone_with):
    """LoRA's run in one process: its report and its losses."""
    return alone_with("LoRA")


@pytest.fixture
def start_pods(start_stage, tmp_path):
    """`start_pods(config)`: the launchers of two pods that meet on this machine; killed at the end if still there."""
    meeting, started = f"127.0.0.1:{free_port()}", []

    def start(config):
        pods = [
            start_stage(
                Stage.TRAIN,
                config,
                TUNESMITH_RENDEZVOUS=meeting,
                JOB_COMPLETION_INDEX=str(index),
                TUNESMITH_TERMINATION_LOG=str(tmp_path / f"pod-{index}.json"),
            )
            for index in range(2)
        ]
        started.extend(pods)
        return pods

    yield start
    for pod in started:
        pod.kill()


def codes_of(pods):
    """The exit codes of pods, once all have ended; what they said is shown when the test fails."""
    for pod in pods:
        print(pod.communicate(timeout=200)[0][-4000:])  # noqa: T201 - pytest shows it when the test fails
    return [pod.returncode for pod in pods]


def last_words(folder):
    """The termination messages of two pods."""
    return [decode_termination((folder / f"pod-{index}.json").read_text()) for index in range(2)]


def report_of(config):
    """The train report of a workspace."""
    return TrainReport.model_validate_json((Path(config["workspace"]) / "train-report.json").read_text())


def losses_of(config):
    """Losses by step of a workspace's training log."""
    log = Path(config["workspace"]) / "train-log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def printed(losses):
    """Losses as the log prints them."""
    return {step: f"{loss:.4g}" for step, loss in losses.items()}


def assert_same(config, alone):
    """A run gave what one process gives: losses, scores, counts."""
    report, (wanted, losses) = report_of(config), alone
    assert losses_of(config) == pytest.approx(losses, rel=1e-5)
    assert printed(losses_of(config)) == printed(losses)
    assert report.base.wire() == pytest.approx(wanted.base.wire(), rel=1e-5)
    assert report.tuned.wire() == pytest.approx(wanted.tuned.wire(), rel=1e-4)
    assert (report.trained_parameters, report.total_parameters) == (
        wanted.trained_parameters,
        wanted.total_parameters,
    )


def wait_for_step(config, step, process, seconds=200):
    """Wait until the log has a step."""
    deadline = time.monotonic() + seconds
    while max(losses_of(config), default=0) < step:
        assert process.poll() is None, process.stdout.read()[-3000:]
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.02)


def rank_of(launcher, rank):
    """The process of a rank below a launcher."""
    children = psutil.Process(launcher.pid).children()
    return next(child for child in children if child.environ().get("RANK") == str(rank))


@pytest.mark.parametrize("case", [pytest.param(case, marks=extended) for case in CASES])
def test_losses_and_scores_are_those_of_one_process(case, prepared, alone, run_stage, tmp_path):
    """At the same rows per step every way to share the work logs the same losses and leaves the same adapter."""
    config = prepared(tmp_path, CASES[case])
    code, termination = run_stage(Stage.TRAIN, config)
    assert code == 0, termination
    assert termination.progress.step == STEPS
    assert_same(config, alone)


@extended
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("name", [name for name in TAKEN if name != "LoRA"])
def test_other_techniques_train_as_in_one_process(name, stage, prepared, alone_with, run_stage, tmp_path):
    """Parted weights or gradients change nothing for the techniques that ZeRO takes beside LoRA."""
    config = prepared(tmp_path, zero(stage, **two), name)
    code, termination = run_stage(Stage.TRAIN, config)
    assert code == 0, termination
    assert_same(config, alone_with(name))


@extended
def test_two_pods_of_two_processes_train_as_one_process(prepared, alone, start_pods, tmp_path):
    """Ranks, rows and gradients run through pods and their processes alike."""
    config = prepared(tmp_path, {"strategy": "DDP", "workers": 2, **two})
    assert codes_of(start_pods(config)) == [0, 0]
    assert_same(config, alone)


@extended
def test_torchrun_may_start_the_processes(prepared, alone, tmp_path):
    """The stage takes its place from torchrun's variables, whose agent then keeps the store."""
    config = prepared(tmp_path, DDP)
    (tmp_path / "job.json").write_text(json.dumps(config))
    stage = ["-m", "tunesmith_trainer", Stage.TRAIN, "--config", str(tmp_path / "job.json")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ended = subprocess.run([*torchrun, *stage], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert_same(config, alone)


@pytest.mark.parametrize("stage", [3, pytest.param(2, marks=extended)])
def test_sigterm_to_one_pod_stops_all_at_the_same_step_and_the_resumed_run_is_exact(
    stage, prepared, alone, start_pods, run_here, tmp_path
):
    """Both end after the same step with 143; then all goes on as if nothing had been, up to the exported model."""
    config = prepared(tmp_path, zero(stage, workers=2))
    pods = start_pods(config)
    wait_for_step(config, 3, pods[0])
    pods[1].send_signal(signal.SIGTERM)
    assert codes_of(pods) == [ExitCode.PREEMPTED, ExitCode.PREEMPTED]
    assert [words.failure.category for words in last_words(tmp_path)] == [FailureCategory.PREEMPTED] * 2
    (stopped,) = {words.progress.step for words in last_words(tmp_path)}
    assert 3 <= stopped < STEPS

    assert codes_of(start_pods(config)) == [0, 0]
    assert report_of(config).resumed_from_step == stopped
    assert_same(config, alone)
    exported = run_here(Stage.EXPORT, config)
    assert exported.code == 0, exported.message


@extended
@pytest.mark.parametrize("case", ["ddp x 2", "zero-2 x 2", "zero-3 x 1", "zero-3 x 2", "zero-3 x 2, all on the host"])
def test_activations_that_are_worked_out_again_change_nothing(case, prepared, alone, run_stage, tmp_path):
    """Gradient checkpointing goes with every way to share the weights."""
    config = prepared(tmp_path, CASES[case])
    config["spec"]["training"]["gradientCheckpointing"] = True
    code, termination = run_stage(Stage.TRAIN, config)
    assert code == 0, termination
    assert_same(config, alone)


@extended
def test_sigterm_to_the_pod_reaches_every_process(prepared, start_stage, tmp_path):
    """As the kubelet does it: PID 1 is told, everybody saves, and the code says preempted."""
    config = prepared(tmp_path, DDP)
    with start_stage(Stage.TRAIN, config) as launcher:
        wait_for_step(config, 2, launcher)
        launcher.send_signal(signal.SIGTERM)
        output, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == ExitCode.PREEMPTED, output[-3000:]


@extended
def test_a_killed_process_ends_the_gang_of_two_pods_and_the_next_start_resumes(prepared, alone, start_pods, tmp_path):
    """The pod of the lost process says that it was killed, the other that it lost a worker; both are retryable."""
    config = prepared(tmp_path, {"strategy": "DDP", "workers": 2})
    pods = start_pods(config)
    wait_for_step(config, 7, pods[0])
    rank_of(pods[1], 1).kill()
    assert codes_of(pods) == [ExitCode.WORKER_LOST, 1]
    assert "killed (SIGKILL)" in last_words(tmp_path)[1].failure.message

    assert codes_of(start_pods(config)) == [0, 0]
    assert report_of(config).resumed_from_step == 6
    assert_same(config, alone)


@extended
def test_a_diverged_gang_says_so(prepared, run_stage, tmp_path):
    """The reason survives the processes' launcher: 70 and the step, as from one process."""
    config = prepared(tmp_path, DDP)
    config["spec"]["training"]["learningRate"] = 1e4
    code, termination = run_stage(Stage.TRAIN, config)
    assert code == ExitCode.DIVERGED
    assert "training diverged at step" in termination.failure.message
