"""A local run from the job's file to an answer over HTTP, by real stages on the tiny model."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "examples/home-assistant"
TUNESMITH = Path(sys.executable).with_name("tunesmith")


def write_job(folder: Path, gate: float | None = None, **training: object) -> Path:
    """The example's job beside a few of its rows, with other training settings."""
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    job["spec"]["training"] |= training
    job["spec"]["evaluation"] = {"generation": {"maxSamples": 2, "maxNewTokens": 8}}
    if gate is not None:
        job["spec"]["evaluation"]["gates"] = [{"metric": "token_accuracy", "min": gate}]
    for name, count in (("train.jsonl", 64), ("test.jsonl", 4)):
        (folder / name).write_text("".join((EXAMPLE / name).read_text().splitlines(keepends=True)[:count]))
    (folder / "kustomization.yaml").write_text((EXAMPLE / "kustomization.yaml").read_text())
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Start `tunesmith`."""
    command = [str(TUNESMITH), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines_of(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Its output as it comes."""
    assert process.stdout is not None
    yield from iter(process.stdout.readline, "")


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its exit code and the rest of its output."""
    output, _ = process.communicate()
    return process.returncode, output


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_from_a_file_to_an_answer(tmp_path: Path, port: int) -> None:
    """The run prints plan, stages and table, asks one question, serves `tunesmith chat`, and stops when told."""
    job, run = write_job(tmp_path, maxSteps=4), tmp_path / "run"
    process = start("run", job, "--output", run, "--serve", "--port", port)
    text = ""
    for line in lines_of(process):
        text += line
        if "Serving until Ctrl-C" in line:
            break
    chat = subprocess.run(
        [TUNESMITH, "chat", f"http://127.0.0.1:{port}", "-m", "open the blinds", "--max-tokens", "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    process.send_signal(signal.SIGINT)
    code, rest = finish(process)
    assert code == 0, text + rest
    assert (chat.returncode, chat.stdout.strip() != "") == (0, True), chat.stderr
    for expected in ("memory:", "prepare", "step 4/4", "export", "exact match", "question:", "expected:"):
        assert expected in text
    report = (run / "report.md").read_text()
    for expected in ("| exact match |", "## One question over HTTP", "![loss](workspace/plots/loss.png)"):
        assert expected in report
    assert all((run / link).is_file() for link in ("workspace/plots/loss.png", "workspace/export/model.onnx"))


def test_a_stopped_run_resumes(tmp_path: Path) -> None:
    """SIGTERM while it trains leaves a checkpoint and the command to continue, which then does."""
    job, run = write_job(tmp_path, maxSteps=60, epochs=60, checkpointEverySteps=60), tmp_path / "run"
    process = start("run", job, "--output", run)
    log = run / "workspace/train-log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
        time.sleep(0.1)  # until it trains
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 143, output
    assert f"Continue where it stopped: tunesmith run --resume {run}" in output
    other = write_job(tmp_path, maxSteps=5)
    code, output = finish(start("run", other, "--resume", run))
    assert (code, "differs from the job of" in output) == (64, True)
    code, output = finish(start("run", "--resume", run))
    assert code == 0, output
    assert "60 steps, resumed from step" in output


def test_a_missed_gate_fails_the_run_and_keeps_the_report(tmp_path: Path) -> None:
    """The exit code is the stage's, the message says what was measured and what to do, and nothing is served."""
    job, run = write_job(tmp_path, gate=1.0, maxSteps=1), tmp_path / "run"
    code, output = finish(start("run", job, "--output", run, "--serve"))
    assert code == 71, output
    assert "GateFailed" in output
    assert "gate NOT MET: tuned token_accuracy" in output
    assert "Train longer" in output
    assert "**Failed.**" in (run / "report.md").read_text()
    assert not (run / "workspace/export").exists()
    code, output = finish(start("run", job, "--output", run))
    assert (code, "holds a run already; continue it with --resume" in output) == (64, True)


def test_bad_data_names_the_row(tmp_path: Path) -> None:
    """The prepare stage's own message reaches the person, with exit code 65."""
    job = write_job(tmp_path, maxSteps=1)
    (tmp_path / "train.jsonl").write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
    code, output = finish(start("run", job, "--output", tmp_path / "run"))
    assert code == 65, output
    assert "BadData: spec.dataset.train" in output


def test_a_deadline_ends_the_run(tmp_path: Path) -> None:
    """The field activeDeadlineSeconds is honoured, and the message names it."""
    job = write_job(tmp_path, maxSteps=1)
    text = yaml.safe_load(job.read_text())
    text["spec"]["activeDeadlineSeconds"] = 1
    job.write_text(yaml.safe_dump(text))
    code, output = finish(start("run", job, "--output", tmp_path / "run"))
    assert code == 143, output
    assert "DeadlineExceeded: spec.activeDeadlineSeconds 1 is over" in output
