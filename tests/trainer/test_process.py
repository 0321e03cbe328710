"""The process around a stage: environment, log, preemption, progress, checkpoints, workspace."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tunesmith_api import Stage, decode_termination
from tunesmith_api.finetunejob import DatasetStatus
from tunesmith_trainer.checkpoints import is_whole, newest_whole, seal
from tunesmith_trainer.environment import available_cpus, settle_environment, worker_threads
from tunesmith_trainer.errors import PreemptedError
from tunesmith_trainer.outcome import Outcome, termination_of, write_termination
from tunesmith_trainer.preemption import Preemption
from tunesmith_trainer.progress import ProgressBoard, read_log
from tunesmith_trainer.progress_server import exposition
from tunesmith_trainer.workspace import make_readable, replace_folder, write_json


@pytest.mark.parametrize(
    ("limit", "visible", "cpus"),
    [("max 100000", 8, 8), ("150000 100000", 8, 2), ("50000 100000", 8, 1), ("900000 100000", 4, 4), ("", 3, 3)],
)
def test_threads_follow_the_cgroup_limit(limit, visible, cpus):
    """The quota rounded up, at least one, at most what is visible."""
    assert available_cpus(limit, visible) == cpus


def test_the_environment_turns_telemetry_off_and_keeps_the_users_threads():
    """Every library's switch is set, and OMP_NUM_THREADS of the pod wins."""
    umask = os.umask(0)
    try:
        environ = {"OMP_NUM_THREADS": "3"}
        settle_environment(environ)
    finally:
        os.umask(umask)
    switches = ("HF_HUB_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY", "OLIVE_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    assert {environ[name] for name in switches} == {"1"}
    assert worker_threads(environ) == 3


def test_sigterm_is_raised_or_noted():
    """Outside the training loop the stage stops at once; inside, the loop sees the flag."""
    before = signal.getsignal(signal.SIGTERM)
    preemption = Preemption()
    try:
        preemption.listen()
        with preemption.deferred():
            signal.raise_signal(signal.SIGTERM)
        assert preemption.requested
        with pytest.raises(PreemptedError):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_termination_message_never_outgrows_the_kubelets_limit(tmp_path):
    """A long failure is cut, and the message still parses."""
    dataset = DatasetStatus(
        examples=1,
        evaluation_examples=1,
        tokens=1,
        longest_tokens=1,
        format="Text",
        digest="x",
        warnings=["w" * 900] * 4,
    )
    termination = termination_of(Stage.PREPARE, 65, Outcome(dataset=dataset), "row 1: " + "é" * 9000)
    write_termination(termination, {"TUNESMITH_TERMINATION_LOG": str(tmp_path / "log")})
    text = (tmp_path / "log").read_text()
    assert len(text.encode()) <= 4096
    assert decode_termination(text).failure.message.startswith("row 1: ")


def test_progress_measures_speed_and_remaining_time(tmp_path):
    """Tokens per second and the remaining time come from the steps since the last line."""
    clock = iter([0.0, 10.0, 14.0])
    board = ProgressBoard(tmp_path / "log", 10, clock=lambda: next(clock))
    board.start()
    board.advance(step=2, tokens=400, loss=1.5, learning_rate=0.1)
    latest = board.latest
    assert (latest.step, latest.tokens_per_second, latest.eta_seconds) == (2, 100.0, 16)
    assert b"tunesmith_train_loss 1.5" in exposition(latest)


def test_a_resumed_run_continues_the_log(tmp_path):
    """Lines after the checkpoint are dropped, since they are made again; a line that was cut off is ignored."""
    board = ProgressBoard(tmp_path / "log", 10)
    for step in (1, 2, 3):
        board.advance(step, step * 10, 1.0, 0.1)
    with (tmp_path / "log").open("a") as file:
        file.write('{"step": 4')
    ProgressBoard(tmp_path / "log", 10, start_step=2)
    assert [line.step for line in read_log(tmp_path / "log")] == [1, 2]


def test_only_whole_checkpoints_are_resumed_from(tmp_path):
    """Unsealed, shortened and incomplete ones are deleted; the newest whole one is found by number, not by name."""
    for step in (9, 10, 11, 12):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_text("0123456789")
        (folder / "optimizer").write_text("x")
        if step != 12:
            seal(folder)
    (tmp_path / "checkpoint-11" / "weights").write_text("01234")
    assert is_whole(tmp_path / "checkpoint-9")
    assert newest_whole(tmp_path).name == "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_private_files_become_readable(tmp_path):
    """Modes are widened, never narrowed."""
    (tmp_path / "a").write_text("")
    (tmp_path / "a").chmod(0o600)
    (tmp_path / "b").mkdir(mode=0o700)
    make_readable([tmp_path])
    assert ((tmp_path / "a").stat().st_mode & 0o777, (tmp_path / "b").stat().st_mode & 0o777) == (0o644, 0o755)


def test_a_folder_is_replaced_whole(tmp_path):
    """The old content goes, the new one comes, and nothing else is left beside it."""
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "file.json", {"from": name})
    replace_folder(tmp_path / "new", tmp_path / "target")
    assert json.loads((tmp_path / "target" / "file.json").read_text()) == {"from": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_process_counts_only_its_own_memory() -> None:
    """A small process started by one that holds much more reports what it holds itself."""
    ballast = bytearray(b"x") * (300 * 2**20)
    code = "from tunesmith_trainer.environment import peak_resident_bytes as peak; print(peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < len(ballast)
