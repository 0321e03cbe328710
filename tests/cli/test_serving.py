"""Serving after a local run: what the server cannot run is refused before the training, not after it."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from rich.console import Console

from tunesmith_api import ExitCode, FineTuneJob, Stage
from tunesmith_api.reports import Sample, Turn
from tunesmith_cli import run as running
from tunesmith_cli.errors import CliError
from tunesmith_cli.folder import RunFolder
from tunesmith_cli.local_job import local_job
from tunesmith_cli.serving import Server, ask, refuse_unserved

MODELS = Path(__file__).parents[1] / "models"
TUNESMITH = Path(sys.executable).with_name("tunesmith")
UNSERVED = "--serve: the server runs causal models, no encoders and no encoder-decoder models; leave serve out"


def manifest(model: dict[str, str], **fields: Any) -> dict[str, Any]:
    """A job on some model; its rows are never read."""
    spec = {"model": model, "dataset": {"train": {"uri": "file:///data/train.jsonl"}}, **fields}
    return {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "job"}, "spec": spec}


def check(folder: Path, model: dict[str, str], **fields: Any) -> None:
    """Refuse to serve a job's result, where it cannot be."""
    run = RunFolder(folder / "run")
    refuse_unserved(run, local_job(FineTuneJob.model_validate(manifest(model, **fields)), folder, run, {}).config)


@pytest.mark.parametrize(
    ("name", "task"),
    [("tiny-bert", "TextClassification"), ("tiny-distilbert", "TokenClassification"), ("tiny-t5", "Translation")],
)
def test_a_model_that_no_server_runs_is_refused_before_anything_starts(tmp_path: Path, name: str, task: str) -> None:
    """The command ends at once with code 64 and the way out, and leaves no run behind."""
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest({"uri": f"file://{MODELS / name}"}, task=task)))
    done = subprocess.run(
        [TUNESMITH, "run", tmp_path / "job.yaml", "--serve", "--output", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.BAD_CONFIG
    assert UNSERVED in done.stdout + done.stderr
    assert not (tmp_path / "run/job.json").exists()


def test_an_adapter_is_not_served(tmp_path: Path) -> None:
    """The sentence is that of spec.serve."""
    with pytest.raises(CliError, match=r"^--serve: an endpoint serves ONNX models and export.format is Adapter"):
        check(tmp_path, {"preset": "tiny-phi3"}, export={"format": "Adapter"})


@pytest.mark.parametrize("model", [{"preset": "tiny-phi3"}, {"uri": "hf://org/model"}])
def test_what_is_causal_or_not_known_yet_may_be_served(tmp_path: Path, model: dict[str, str]) -> None:
    """Nothing is refused on a guess."""
    check(tmp_path, model)


def test_a_fetched_model_is_looked_at_after_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs the fetching, but no training; the prepared run can go on without the server."""
    job, folder, begun = tmp_path / "job.yaml", RunFolder(tmp_path / "run"), []
    job.write_text(yaml.safe_dump(manifest({"uri": "hf://org/model"}, task="Translation")))

    def fetch(_run: object, stage: Stage, *_: object) -> int:
        begun.append(stage)
        folder.fetched_model.mkdir()
        config = {"model_type": "t5", "is_encoder_decoder": True}
        (folder.fetched_model / "config.json").write_text(json.dumps(config))
        return ExitCode.DONE

    monkeypatch.setattr(running, "_run_stage", fetch)
    options = running.RunOptions(file=job, output=folder.root, serve=True)
    with pytest.raises(CliError) as caught:
        running.run(options, Console(quiet=True), datetime.now(UTC))
    assert str(caught.value).startswith(UNSERVED)
    assert str(caught.value).endswith(f"; go on without it: tunesmith run --resume {folder.root}")
    assert begun == [Stage.PREPARE]


@pytest.mark.parametrize(
    ("task", "turns", "chats", "path"),
    [
        ("TextGeneration", ["user"], True, "/v1/completions"),
        ("TextGeneration", ["system", "user"], True, "/v1/chat/completions"),
        ("TextGeneration", ["user", "assistant", "user"], True, "/v1/chat/completions"),
        ("Chat", ["user"], True, "/v1/chat/completions"),
        ("TextClassification", ["user"], False, "/v1/completions"),
    ],
)
def test_a_sample_is_asked_as_its_row_was_learnt(task: str, turns: list[str], chats: bool, path: str) -> None:  # noqa: FBT001
    """A prompt of TextGeneration as it is, a conversation of it by the chat template, as training has it."""
    asked = []

    class Endpoint(BaseHTTPRequestHandler):
        """Answers either path."""

        def do_POST(self) -> None:
            """Remember the path and the body."""
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"choices": [{"text": "on", "message": {"content": "on"}}]}')

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    spec = FineTuneJob.model_validate(manifest({"preset": "tiny-phi3"}, task=task)).spec
    sample = Sample(messages=[Turn(role=role, content="lamp") for role in turns], reference="on")
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as endpoint,
        subprocess.Popen(["/bin/true"]) as process,
    ):
        Thread(target=endpoint.serve_forever, daemon=True).start()
        server = Server(f"http://127.0.0.1:{endpoint.server_port}", "job", process, chats=chats)
        assert ask(server, spec, sample).answer == "on"
        endpoint.shutdown()
    ((where, body),) = asked
    assert where == path
    assert body.get("prompt") == ("lamp" if path == "/v1/completions" else None)
    assert [turn["role"] for turn in body.get("messages", [])] == ([] if "prompt" in body else turns)
