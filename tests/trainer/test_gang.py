"""Several training processes for real: same losses as one, stop together, resume exactly, never hang on a lost one."""

import json
import shutil
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tunesmith_api import ExitCode, FailureCategory, Stage
from tunesmith_api.reports import TrainReport

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

STEPS = 16
#: Rows per step over all processes; it divides the rows of an epoch with a rest.
BATCH = 14
MODELS = Path(__file__).parents[2] / "examples" / "models"


def changes(batch_size, distribution, technique):
    """The changes to the example's spec that make a short run."""
    return {
        "technique": technique,
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


LORA = {"type": "LoRA", "lora": {"rank": 8, "alpha": 16}}
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
    "zero-2 x 2": zero(2, **two),
    "zero-3 x 1": zero(3),
    "zero-2 x 2, optimizer on the host": zero(2, "Optimizer", **two),
    "zero-3 x 2, all on the host": zero(3, "All", **two),
}


@pytest.fixture(scope="module")
def prepared(make_job, run_here, tmp_path_factory):
    """`prepared(folder, batch_size, distribution)`: the config of a short run in a prepared workspace of its own."""
    source = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_MODELS", str(MODELS))
        ended = run_here(Stage.PREPARE, make_job(source, **changes(BATCH, {}, LORA)))
    assert ended.code == 0, ended.message

    def prepare(folder, distribution, technique=LORA):
        processes = distribution.get("workers", 1) * distribution.get("processesPerWorker", 1)
        shutil.copytree(source, folder / "workspace")
        return make_job(folder / "workspace", **changes(BATCH // processes, distribution, technique))

    return prepare


@pytest.fixture(scope="module")
def alone(prepared, run_here, tmp_path_factory):
    """The run in one process: its report and its losses."""
    config = prepared(tmp_path_factory.mktemp("alone"), {})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TUNESMITH_MODELS": str(MODELS), "TUNESMITH_PROGRESS_PORT": "0"}.items():
            patch.setenv(name, value)
        ended = run_here(Stage.TRAIN, config)
    assert ended.code == 0, ended.message
    return report_of(config), losses_of(config)


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


@pytest.mark.parametrize("case", [pytest.param(case, marks=extended) for case in CASES if case != "zero-3 x 2"])
def test_losses_and_scores_are_those_of_one_process(case, prepared, alone, run_stage, tmp_path):
    """At the same rows per step every way to share the work logs the same losses and leaves the same adapter."""
    config = prepared(tmp_path, CASES[case])
    code, termination = run_stage(Stage.TRAIN, config)
    assert code == 0, termination
    assert termination.progress.step == STEPS
    assert_same(config, alone)


@pytest.mark.parametrize("case", ["zero-3 x 2", pytest.param("zero-2 x 2", marks=extended)])
def test_sigterm_to_one_process_stops_all_and_the_resumed_run_is_exact(
    case, prepared, alone, start_stage, run_stage, run_here, tmp_path
):
    """Both end after the same step with 143; then all goes on as if nothing had been, up to the exported model."""
    config = prepared(tmp_path, CASES[case])
    with start_stage(Stage.TRAIN, config) as launcher:
        wait_for_step(config, 3, launcher)
        rank_of(launcher, 1).send_signal(signal.SIGTERM)
        output, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == ExitCode.PREEMPTED, output[-3000:]
    termination = json.loads((tmp_path / "process" / "termination.json").read_text())
    assert termination["failure"]["category"] == FailureCategory.PREEMPTED
    stopped = termination["progress"]["step"]
    assert 3 <= stopped < STEPS
    ends = [
        line for line in map(json.loads, filter(is_json, output.splitlines())) if line["message"] == "process ended"
    ]
    assert [line["exit_code"] for line in ends] == [143, 143]

    code, ended = run_stage(Stage.TRAIN, config)
    assert code == 0, ended
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


def is_json(line):
    """Whether a line of the output is one of ours."""
    return line.startswith("{")


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
def test_a_killed_process_ends_the_gang_of_two_pods_and_the_next_start_resumes(prepared, alone, start_stage, tmp_path):
    """The pod of the lost process says that it was killed, the other that it lost a worker; both are retryable."""
    config = prepared(tmp_path, {"strategy": "DDP", "workers": 2})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"

    def start_pods():
        return [
            start_stage(
                Stage.TRAIN,
                config,
                TUNESMITH_RENDEZVOUS=meeting,
                JOB_COMPLETION_INDEX=str(index),
                TUNESMITH_TERMINATION_LOG=str(tmp_path / f"pod-{index}.json"),
            )
            for index in range(2)
        ]

    pods = start_pods()
    try:
        wait_for_step(config, 7, pods[0])
        rank_of(pods[1], 1).kill()
        for pod in pods:
            pod.communicate(timeout=60)
        assert [pod.returncode for pod in pods] == [ExitCode.WORKER_LOST, 1]
        assert "killed (SIGKILL)" in json.loads((tmp_path / "pod-1.json").read_text())["failure"]["message"]

        pods = start_pods()
        outputs = [pod.communicate(timeout=200)[0] for pod in pods]
        assert [pod.returncode for pod in pods] == [0, 0], outputs
    finally:
        for pod in pods:
            pod.kill()
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
