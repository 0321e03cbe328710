"""The train stage: quality, resume, divergence, gates."""

import json
import signal
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import socket

import pytest

from tunesmith_api import ExitCode, FailureCategory, Stage
from tunesmith_api.reports import TrainReport
from tunesmith_trainer.checkpoints import newest_whole, step_of

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

MODELS = Path(__file__).parents[2] / "examples" / "models"
#: A short run with dropout, so that a resumed run is only equal when the random state is restored too.
SHORT = {
    "technique": {"lora": {"rank": 8, "alpha": 16, "dropout": 0.1}},
    "training": {"maxSteps": 30, "checkpointEverySteps": 10, "batchSize": 8},
    "evaluation": {"generation": {"maxSamples": 8, "maxNewTokens": 8}},
}


def report_of(config):
    """The train report of a workspace."""
    return TrainReport.model_validate_json((Path(config["workspace"]) / "train-report.json").read_text())


def result_of(report):
    """What must not depend on interruptions."""
    return report.tuned, report.base, report.final_loss, report.steps, report.trained_parameters


def losses_of(config):
    """Losses by step of a workspace's training log."""
    lines = (Path(config["workspace"]) / "train-log.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def test_the_example_is_learnt(tuned):
    """The base model scores below 0.1 exact match, the tuned one at least 0.9, and the message carries both."""
    termination = tuned.terminations[Stage.TRAIN]
    assert termination.evaluation.base.exact_match < 0.1
    assert termination.evaluation.tuned.exact_match >= 0.9
    assert [gate.passed for gate in termination.evaluation.gates] == [True]
    assert termination.progress.step == termination.progress.total_steps
    assert report_of(tuned.config).tuned == termination.evaluation.tuned


def test_the_plots_are_pictures(tuned):
    """Loss and evaluation plots are PNG files of a readable size."""
    for name in ("loss.png", "evaluation.png"):
        content = (tuned.workspace / "plots" / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20]) >= 800


def test_every_file_of_the_workspace_is_readable_by_other_users(tuned):
    """Whatever the libraries write, an exporter or a server under another user can read it."""
    paths = list(tuned.workspace.rglob("*"))
    assert any(path.suffix == ".safetensors" for path in paths)
    wanted = {path: 0o755 if path.is_dir() else 0o644 for path in paths}
    assert [path for path, mode in wanted.items() if path.stat().st_mode & mode != mode] == []


def test_a_completed_run_repeats_its_verdict_without_training(tuned, run_here):
    """Running the stage again gives the same scores and leaves the adapter alone."""
    adapter = tuned.workspace / "adapter" / "adapter_model.safetensors"
    written = adapter.stat().st_mtime_ns
    ended = run_here(Stage.TRAIN, tuned.config)
    assert ended.code == 0
    assert ended.outcome.evaluation == tuned.terminations[Stage.TRAIN].evaluation
    assert adapter.stat().st_mtime_ns == written


def free_port():
    """A port that nothing listens on."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path):
    """The body of an HTTP answer, or None while nobody listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def wait_until(condition, process, seconds=120):
    """Poll until a condition holds while the process lives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.02)
    pytest.fail("the condition did not come true in time")


@pytest.fixture
def short(job, run_here):
    """The short run's config, prepared."""
    config = job(**SHORT)
    assert run_here(Stage.PREPARE, config).code == 0
    return config


@pytest.fixture(scope="module")
def undisturbed(make_job, run_here, tmp_path_factory):
    """The short run without interruption: its report and its losses."""
    config = make_job(tmp_path_factory.mktemp("undisturbed"), **SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_MODELS", str(MODELS))
        patch.setenv("TUNESMITH_PROGRESS_PORT", "0")
        patch.setenv("OMP_NUM_THREADS", "2")
        for stage in (Stage.PREPARE, Stage.TRAIN):
            ended = run_here(stage, config)
            assert ended.code == 0, ended.message
    return report_of(config), losses_of(config)


def test_sigterm_saves_and_the_resumed_run_is_exact(short, undisturbed, start_stage, run_stage, tmp_path):
    """Progress is served; SIGTERM gives a checkpoint and 143; the resumed run equals an undisturbed one."""
    port = free_port()
    with start_stage(
        Stage.TRAIN, short, TUNESMITH_PROGRESS_PORT=str(port), TUNESMITH_PROGRESS_HOST="127.0.0.1"
    ) as process:

        def far_enough():
            progress = json.loads(ask(port, "/progress") or "{}")
            return progress if progress.get("step", 0) >= 5 else None

        progress = wait_until(far_enough, process)
        metrics = ask(port, "/metrics")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == ExitCode.PREEMPTED, output[-3000:]
    assert progress["totalSteps"] == 30
    assert "tunesmith_train_total_steps 30.0" in metrics
    termination = json.loads((tmp_path / "process" / "termination.json").read_text())
    assert termination["failure"]["category"] == FailureCategory.PREEMPTED
    stopped_at = termination["progress"]["step"]
    assert 5 <= stopped_at < 30

    code, ended = run_stage(Stage.TRAIN, short)
    assert code == 0, ended
    report, losses = undisturbed
    assert report_of(short).resumed_from_step == stopped_at
    assert result_of(report_of(short)) == result_of(report)
    assert losses_of(short) == losses


def test_sigkill_loses_only_the_steps_since_the_last_checkpoint(short, undisturbed, run_here, start_stage):
    """A half-written checkpoint is ignored, the whole one before it is resumed from, and the result is the same."""
    folder = Path(short["workspace"]) / "checkpoints"

    def saved():
        found = [newest_whole(run) for run in folder.glob("*")]
        return next((checkpoint for checkpoint in found if checkpoint), None)

    with start_stage(Stage.TRAIN, short) as process:
        checkpoint = wait_until(lambda: next(folder.glob("*/checkpoint-*/sealed.json"), None), process).parent
        process.kill()
        process.communicate()
    broken = checkpoint.with_name("checkpoint-25")
    broken.mkdir()
    (broken / "trainer_state.json").write_text("{")
    ended = run_here(Stage.TRAIN, short)
    assert ended.code == 0, ended.message
    resumed_from = report_of(short).resumed_from_step
    assert resumed_from in {10, 20}
    assert not broken.exists()
    report, losses = undisturbed
    assert result_of(report_of(short)) == result_of(report)
    assert losses_of(short) == losses
    assert step_of(saved()) == 30


def test_a_diverged_run_ends_with_70(job, run_here):
    """A learning rate far too high gives the step and the loss instead of a success."""
    config = job(**SHORT)
    config["spec"]["training"] |= {"learningRate": 1e4, "precision": "FP32"}
    assert run_here(Stage.PREPARE, config).code == 0
    ended = run_here(Stage.TRAIN, config)
    assert ended.code == ExitCode.DIVERGED, ended.message
    assert "training diverged at step" in ended.message
    assert "nan" in ended.message or "inf" in ended.message


def test_a_missed_gate_ends_with_71_and_keeps_the_report(job, run_here):
    """The message names metric, value and bound; report and plots are there for a person to judge."""
    config = job(**SHORT)
    config["spec"]["training"] |= {"maxSteps": 1}
    config["spec"]["evaluation"]["gates"] = [
        {"metric": "exact_match", "min": 0.9},
        {"metric": "perplexity", "max": 1e6},
    ]
    assert run_here(Stage.PREPARE, config).code == 0
    for _ in range(2):
        ended = run_here(Stage.TRAIN, config)
        assert ended.code == ExitCode.GATE_FAILED
        assert ended.message == "tuned exact_match 0 misses >= min 0.9"
        assert [gate.passed for gate in ended.outcome.evaluation.gates] == [False, True]
    assert report_of(config).steps == 1
    assert (Path(config["workspace"]) / "plots" / "loss.png").is_file()


def test_training_needs_a_prepared_workspace(job, run_here):
    """The stages keep their order."""
    ended = run_here(Stage.TRAIN, job())
    assert ended.code == ExitCode.INPUT_NOT_FOUND
    assert "run the prepare stage first" in ended.message
