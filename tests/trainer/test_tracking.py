"""Trackers: a real MLflow server, a dead address, TensorBoard's files; the training waits for none of them."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from authority import Authority
from front import Front, encrypted, front
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import servers
from tunesmith_api import ExitCode, JobConfig, Stage
from tunesmith_trainer import tracking as tracking_module
from tunesmith_trainer.errors import DivergedError, InputNotFoundError, PreemptedError
from tunesmith_trainer.logins import Login
from tunesmith_trainer.trackers import FAILED, FINISHED, KILLED, Measured, MLflow, TrackedRun, disclosed
from tunesmith_trainer.tracking import END_SECONDS, Courier, tracked

import_module("mlflow")  # takes seconds on a busy machine, which are not what is measured here

pytestmark = [pytest.mark.timeout(900), pytest.mark.torch]  # the first run installs the server


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    """An MLflow server with its store and artifacts in a folder."""
    store = ["--backend-store-uri", f"sqlite:///{folder / 'db'}", "--artifacts-destination", str(folder / "artifacts")]
    argv = [servers.mlflow(), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": "", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with servers.running([*argv, *store], port, folder / "log", **quiet) as url:
        yield url


def kill_server(port: int) -> None:
    """End the MLflow server of a port, and the processes that it started, without a word."""
    (server,) = [one for one in psutil.Process().children() if f"--port {port} " in " ".join(one.cmdline())]
    doomed = [*server.children(recursive=True), server]
    for process in doomed:
        process.kill()
    psutil.wait_procs(doomed, timeout=30)
    assert not servers.listens(port)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server for all tests that leave it alive."""
    with serving(tmp_path_factory.mktemp("mlflow"), servers.free_port()) as url:
        yield url


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits until all is sent: a busy machine may need long."""
    monkeypatch.setattr(tracking_module, "END_SECONDS", 60)


def ask(url: str, path: str, **body: Any) -> Any:
    """An answer of MLflow's REST API."""
    answer = httpx.post(f"{url}/api/2.0/mlflow/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def runs(url: str, experiment: str) -> list[dict[str, Any]]:
    """The runs of an experiment."""
    found = httpx.get(f"{url}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": experiment}).json()
    numbers = [found["experiment"]["experiment_id"]] if "experiment" in found else []
    return list(ask(url, "runs/search", experiment_ids=numbers).get("runs", [])) if numbers else []


def history(url: str, experiment: str, metric: str) -> list[int]:
    """The steps of a metric of an experiment's only run; none before the run has begun."""
    (run,) = runs(url, experiment) or [None]
    if run is None:
        return []
    query = {"run_id": run["info"]["run_id"], "metric_key": metric}
    found = httpx.get(f"{url}/api/2.0/mlflow/metrics/get-history", params=query).json()
    return [one["step"] for one in found.get("metrics", [])]


def config(job: Any, *trackers: dict[str, Any]) -> JobConfig:
    """The example's job with trackers."""
    return JobConfig.model_validate(job(tracking=list(trackers)))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("error", "status"),
    [(None, FINISHED), (DivergedError("loss is nan"), FAILED), (PreemptedError("SIGTERM"), KILLED)],
)
def test_a_run_ends_as_the_training_does(
    mlflow: str, job: Any, tmp_path: Path, error: Exception | None, status: str
) -> None:
    """Name, parameters, numbers, files and the status are on the server; what is not finite is left out."""
    report = tmp_path / "train-report.json"
    report.write_text("{}")
    told = config(job, {"type": "MLflow", "uri": mlflow, "experiment": f"ends-{status}"})
    with contextlib.suppress(DivergedError, PreemptedError), tracked(told, [report]) as tracking:
        tracking.log({"loss": 1.5, "grad": float("nan"), "learning_rate": None}, 1)
        tracking.log({"loss": 0.5}, 2)
        if error is not None:
            raise error
    (run,) = runs(mlflow, f"ends-{status}")
    assert run["info"]["run_name"] == "home"
    assert run["info"]["status"] == status
    parameters = {one["key"]: one["value"] for one in run["data"]["params"]}
    assert parameters["technique.lora.rank"] == "16"
    assert {one["key"]: one["value"] for one in run["data"]["metrics"]} == {"loss": 0.5}
    files = httpx.get(f"{mlflow}/api/2.0/mlflow/artifacts/list", params={"run_id": run["info"]["run_id"]}).json()
    assert [one["path"] for one in files["files"]] == ["train-report.json"]


DIGEST = "#sha256=" + "0" * 64


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("https://box.example/rows.jsonl?X-Amz-Signature=hunter2&X-Amz-Date=1", "https://box.example/rows.jsonl"),
        (f"https://me:hunter2@box.example:8443/rows?sig=hunter2{DIGEST}", f"https://box.example:8443/rows{DIGEST}"),
        ("https://hunter2@box.example?sig=hunter2#hunter2", "https://box.example"),
        ("azureml://me:hunter2@region.api/mlflow?key=hunter2", "azureml://region.api/mlflow"),
        ("s3://box/rows/?versionId=hunter2", "s3://box/rows/"),
        (f"s3://box/rows.jsonl{DIGEST}", f"s3://box/rows.jsonl{DIGEST}"),
        ("hf://datasets/team/manuals@main", "hf://datasets/team/manuals@main"),
        ("oci://registry:5000/team/bot@sha256:0", "oci://registry:5000/team/bot@sha256:0"),
        ("Who is me@home? Say #1.", "Who is me@home? Say #1."),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri: str, seen: str) -> None:
    """User and query go, also of a URI in a list; place, revision and digest stay, as do other texts."""
    assert disclosed({"model": {"uri": uri}, "tracking": [{"uri": uri}], "seed": 1}) == {
        "model": {"uri": seen},
        "tracking": [{"uri": seen}],
        "seed": 1,
    }


@pytest.mark.usefixtures("patient")
def test_no_signature_reaches_a_tracker(mlflow: str, job: Any) -> None:
    """What presigned URIs carry is neither among MLflow's parameters nor in TensorBoard's files."""
    trackers = [{"type": "MLflow", "uri": mlflow, "experiment": "signed"}, {"type": "TensorBoard"}]
    told = job(tracking=trackers, output={"uri": "s3://box/bot?key=hunter2"})
    for part in ("train", "evaluation"):
        told["spec"]["dataset"][part] = {"uri": f"https://box.example/{part}.jsonl?X-Amz-Signature=hunter2"}
    with tracked(JobConfig.model_validate(told), []) as tracking:
        tracking.log({"loss": 1.0}, 1)
    (run,) = runs(mlflow, "signed")
    parameters = {one["key"]: one["value"] for one in run["data"]["params"]}
    events = b"".join(file.read_bytes() for file in Path(told["workspace"], "tensorboard").iterdir())
    assert parameters["dataset.train.uri"] == "https://box.example/train.jsonl"
    assert b"https://box.example/train.jsonl" in events
    assert "hunter2" not in str(parameters)
    assert b"hunter2" not in events


@pytest.mark.usefixtures("patient")
def test_a_resumed_run_is_the_same_run(mlflow: str, job: Any) -> None:
    """After a preemption the run goes on under its identity, with the steps of both processes."""
    told = config(job, {"type": "MLflow", "uri": mlflow, "experiment": "resumed"})
    with contextlib.suppress(PreemptedError), tracked(told, []) as tracking:
        tracking.log({"loss": 2.0}, 1)
        raise PreemptedError("SIGTERM")
    with tracked(told, [], step=1) as tracking:
        tracking.log({"loss": 1.0}, 2)
    (run,) = runs(mlflow, "resumed")
    assert run["info"]["status"] == FINISHED
    assert history(mlflow, "resumed", "loss") == [1, 2]


#: Starts an MLflow run and dies by SIGKILL where it would send the parameters.
_KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from tunesmith_trainer.logins import Login
from tunesmith_trainer.trackers import MLflow, TrackedRun
MlflowClient.log_batch = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
MLflow(sys.argv[1], "key", Login()).start(TrackedRun("bot", "killed", {"rank": "16"}, Path(sys.argv[2])))
"""


def test_a_kill_before_the_parameters_are_sent_loses_none(mlflow: str, tmp_path: Path) -> None:
    """The run is known by then: the next process goes on with it, and sends them."""
    command = [sys.executable, "-c", _KILLED, mlflow, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (run,) = runs(mlflow, "killed")
    assert "params" not in run["data"]
    for _ in range(2):  # and a process after that one has nothing left to send
        MLflow(mlflow, "key", Login()).start(TrackedRun("bot", "killed", {"rank": "16"}, tmp_path))
        (run,) = runs(mlflow, "killed")
        assert run["data"]["params"] == [{"key": "rank", "value": "16"}]


def test_a_dead_tracker_only_warns(job: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing listens: one warning, and the end waits for a few seconds at most."""
    caplog.set_level("WARNING", "tunesmith")
    told = config(job, {"type": "MLflow", "uri": f"http://127.0.0.1:{servers.free_port()}"})
    with tracked(told, []) as tracking:
        for step in range(1000):
            tracking.log({"loss": 1.0}, step)
        began = time.monotonic()
    assert time.monotonic() - began < END_SECONDS + 1
    assert len([one for one in caplog.records if "training goes on" in one.message]) == 1


def wait_for(holds: Callable[[], bool]) -> None:
    """Until something holds; a minute at most."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("patient")
def test_a_server_that_comes_back_gets_every_number(job: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed after the first step and started again after the second: all three are there, and the run is ended."""
    caplog.set_level("INFO", "tunesmith")
    port = servers.free_port()
    told = config(job, {"type": "MLflow", "uri": f"http://127.0.0.1:{port}", "experiment": "back"})
    with contextlib.ExitStack() as alive:
        url = alive.enter_context(serving(tmp_path, port))
        with tracked(told, []) as tracking:
            tracking.log({"loss": 3.0}, 1)
            wait_for(lambda: 1 in history(url, "back", "loss"))
            kill_server(port)
            tracking.log({"loss": 2.0}, 2)
            wait_for(lambda: "training goes on" in caplog.text)
            alive.enter_context(serving(tmp_path, port))
            tracking.log({"loss": 1.0}, 3)
        assert history(url, "back", "loss") == [1, 2, 3]
        assert [run["info"]["status"] for run in runs(url, "back")] == [FINISHED]
    assert [one.message for one in caplog.records if one.name == "tunesmith"] == [
        "tracker fails; the training goes on",
        "tracker answers again",
    ]


class Slow:
    """A tracker that hangs until it is let go, and fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.got, self.go = failures, [], threading.Event()
        self.status = ""

    def start(self, run: TrackedRun) -> None:
        """Hang."""
        assert run is RUN
        self.go.wait(60)

    def log(self, measured: Any) -> None:
        """Fail, or take the load."""
        if self.failures:
            self.failures -= 1
            raise OSError("the password is hunter2")
        self.got += measured

    def end(self, status: str) -> None:
        """Remember the end."""
        self.status = status

    def attach(self, files: Any) -> None:
        """Take nothing."""


RUN = TrackedRun("bot", "team", {}, Path("/nonexistent"))


def test_a_tracker_that_hangs_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Numbers are taken at once, and the end is not waited for longer than was said."""
    caplog.set_level("WARNING", "tunesmith")
    slow = Slow()
    courier = Courier("slow", slow, RUN)
    courier.log([Measured("loss", 1.0, 1, 0)])
    courier.end(FINISHED, [])
    courier.join(0.01)
    assert slow.got == []
    assert "gave up" in caplog.text
    slow.go.set()


def test_numbers_survive_a_failure_and_secrets_are_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """What could not be sent is sent again, in order; the reason is told without the secret."""
    caplog.set_level("WARNING", "tunesmith")
    slow = Slow(failures=1)
    slow.go.set()
    courier = Courier("slow", slow, RUN, lambda text: text.replace("hunter2", "[hidden]"))
    courier.log([Measured("loss", float(step), step, 0) for step in range(5)])
    courier.end(FINISHED, [])
    courier.join(30)
    assert [one.step for one in slow.got] == [0, 1, 2, 3, 4]
    assert slow.status == FINISHED
    reasons = [one.fields["reason"] for one in caplog.records if hasattr(one, "fields") and "reason" in one.fields]
    assert reasons == ["the password is [hidden]"]


class NoFiles(Slow):
    """A tracker that has no place for files, and says so in two lines."""

    def attach(self, files: Any) -> None:
        """Refuse."""
        raise OSError(f"no store for {files[0]} at azureml://hunter2\nregister a plug-in")


@pytest.mark.parametrize("status", [FINISHED, FAILED, KILLED])
def test_a_tracker_that_takes_no_files_ends_its_run(status: str, caplog: pytest.LogCaptureFixture) -> None:
    """The run ends as the training did; the files cost one warning, without the secret."""
    caplog.set_level("WARNING", "tunesmith")
    tracker = NoFiles()
    tracker.go.set()
    courier = Courier("full", tracker, RUN, lambda text: text.replace("hunter2", "[hidden]"))
    courier.log([Measured("loss", 1.0, 1, 0)])
    courier.end(status, [Path("report.json")])
    courier.join(30)
    assert tracker.status == status
    assert [one.step for one in tracker.got] == [1]
    assert [(one.message, one.fields["reason"]) for one in caplog.records] == [
        ("tracker takes no files; the run is ended", "no store for report.json at azureml://[hidden]")
    ]


class HangingFiles(Slow):
    """A tracker that does not come back from the files until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.files, self.reached = [], threading.Event()
        self.go.set()

    def attach(self, files: Any) -> None:
        """Hang."""
        self.files = files
        self.go.clear()
        self.reached.set()
        self.go.wait(60)


def test_files_that_hang_leave_no_run_open(caplog: pytest.LogCaptureFixture) -> None:
    """The end is sent before the files, so that giving up on them leaves an ended run."""
    caplog.set_level("WARNING", "tunesmith")
    tracker = HangingFiles()
    courier = Courier("hanging", tracker, RUN)
    courier.end(FINISHED, [Path("report.json")])
    assert tracker.reached.wait(30)
    courier.join(0.01)
    assert (tracker.status, tracker.files) == (FINISHED, [Path("report.json")])
    assert [one.message for one in caplog.records] == ["tracker gave up at the end of the run"]
    tracker.go.set()


def test_a_secret_without_its_keys_is_named(job: Any, tmp_path: Path) -> None:
    """The message says which keys a tracker's secret needs."""
    told = job(tracking=[{"type": "MLflow", "uri": "http://127.0.0.1:1", "secretRef": {"name": "login"}}])
    told["secrets"] = {"login": str(tmp_path)}
    with pytest.raises(InputNotFoundError, match=r"spec.tracking\[0\].secretRef: secret 'login' has no key 'token'"):
        tracked(JobConfig.model_validate(told), []).__enter__()


AZURE_PATH = "/mlflow/v1.0/subscriptions/s/resourceGroups/g/workspaces/w"
TOKEN = "a-very-secret-token"


@pytest.fixture
def azure(mlflow: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """The server as Azure ML shows it: behind https and a path, opened by a token."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "")  # a tracker sets it for good, which ends with this test
    with front(mlflow, AZURE_PATH, TOKEN.__eq__, certificate) as found:
        yield found


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The certificate of the tests' own Azure, which the clients trust."""
    found = servers.certificate(tmp_path, "IP:127.0.0.1")
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, str(found[0]))
    return found


def log_in(tmp_path: Path, **keys: str) -> None:
    """Write keys of the Secret that `in_azure` mounts."""
    (tmp_path / "login").mkdir(exist_ok=True)
    for key, value in keys.items():
        (tmp_path / "login" / key).write_text(f"{value}\n")


def in_azure(azure: Front, job: Any, tmp_path: Path, experiment: str) -> JobConfig:
    """A job with an azureml:// tracker and a mounted Secret."""
    uri = f"azureml://127.0.0.1:{azure.server_address[1]}{AZURE_PATH}"
    tracker = {"type": "MLflow", "uri": uri, "experiment": experiment, "secretRef": {"name": "azure"}}
    return JobConfig.model_validate(job(tracking=[tracker]) | {"secrets": {"azure": str(tmp_path / "login")}})


def track_in_azure(azure: Front, job: Any, tmp_path: Path, token: str, experiment: str) -> None:
    """Log one number, and a file, to an azureml:// tracker with a token."""
    report = tmp_path / "train-report.json"
    report.write_text("{}")
    log_in(tmp_path, token=token)
    with tracked(in_azure(azure, job, tmp_path, experiment), [report]) as tracking:
        tracking.log({"loss": 1.0}, 1)


@pytest.mark.usefixtures("patient")
def test_azureml_is_mlflow_over_https_with_a_token(
    mlflow: str, azure: Front, job: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The path stays, every request has the token; a store that needs a plug-in costs one warning, not the end."""
    caplog.set_level("WARNING", "tunesmith")
    ask(mlflow, "experiments/create", name="azure", artifact_location="azureml://region/store")
    track_in_azure(azure, job, tmp_path, TOKEN, "azure")
    (run,) = runs(mlflow, "azure")
    assert (run["info"]["run_name"], run["info"]["status"]) == ("home", FINISHED)
    assert {one["key"]: one["value"] for one in run["data"]["metrics"]} == {"loss": 1.0}
    assert {"key": "technique.lora.rank", "value": "16"} in run["data"]["params"]
    assert set(azure.answers) == {200}
    (warning,) = [one.fields for one in caplog.records if one.name == "tunesmith"]
    assert warning["reason"].startswith("Could not find a registered artifact repository for: azureml://region/store")


def test_a_token_that_azure_refuses_only_warns(
    azure: Front, job: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A token that has run out costs one warning, which does not show it."""
    caplog.set_level("WARNING", "tunesmith")
    track_in_azure(azure, job, tmp_path, "a-token-of-yesterday", "refused")
    assert set(azure.answers) == {401}
    (warning,) = [one.fields for one in caplog.records if "training goes on" in one.message]
    assert "401" in warning["reason"]
    assert "yesterday" not in caplog.text


@pytest.mark.usefixtures("patient")
def test_a_token_that_is_replaced_in_the_secret_is_used(mlflow: str, azure: Front, job: Any, tmp_path: Path) -> None:
    """The old one no longer opens the server; what comes after it arrives with the new one."""
    log_in(tmp_path, token=TOKEN)
    with tracked(in_azure(azure, job, tmp_path, "replaced"), []) as tracking:
        tracking.log({"loss": 2.0}, 1)
        wait_for(lambda: history(mlflow, "replaced", "loss") == [1])
        log_in(tmp_path, token="the-next-token")
        azure.opens = "the-next-token".__eq__
        tracking.log({"loss": 1.0}, 2)
    assert history(mlflow, "replaced", "loss") == [1, 2]
    assert [run["info"]["status"] for run in runs(mlflow, "replaced")] == [FINISHED]


@pytest.mark.usefixtures("patient")
def test_a_service_principal_outlives_its_tokens(
    mlflow: str, azure: Front, certificate: tuple[Path, Path], job: Any, tmp_path: Path
) -> None:
    """Each token opens the server for 4 s; a number that comes after the first one's end arrives with another."""
    with encrypted(Authority(life_seconds=4), certificate) as authority:
        azure.opens = authority.opens
        log_in(tmp_path, **authority.keys())
        with tracked(in_azure(azure, job, tmp_path, "principal"), []) as tracking:
            tracking.log({"loss": 2.0}, 1)
            wait_for(lambda: history(mlflow, "principal", "loss") == [1])
            wait_for(lambda: not authority.opens("token-1"))
            tracking.log({"loss": 1.0}, 2)
    assert history(mlflow, "principal", "loss") == [1, 2]
    assert [run["info"]["status"] for run in runs(mlflow, "principal")] == [FINISHED]
    assert len(authority.ends) > 1


def scalars(workspace: Path) -> dict[str, list[int]]:
    """The steps of every curve in TensorBoard's files."""
    events = EventAccumulator(str(workspace / "tensorboard"))
    events.Reload()
    return {tag: [one.step for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_train_stage_tracks(mlflow: str, job: Any, run_stage: Any, start_stage: Any, tmp_path: Path) -> None:
    """Prepare, a preempted training and a resumed one: one finished run with every step, and event files."""
    trackers = [{"type": "MLflow", "uri": mlflow, "experiment": "stage"}, {"type": "TensorBoard"}]
    told = job(tracking=trackers, training={"maxSteps": 40, "checkpointEverySteps": 5})
    told["spec"]["evaluation"]["generation"]["maxSamples"] = 0
    assert run_stage(Stage.PREPARE, told)[0] == 0
    with start_stage(Stage.TRAIN, told) as process:
        log = Path(told["workspace"]) / "train-log.jsonl"
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 8):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == ExitCode.PREEMPTED
    assert [run["info"]["status"] for run in runs(mlflow, "stage")] == [KILLED]

    assert run_stage(Stage.TRAIN, told)[0] == 0

    (run,) = runs(mlflow, "stage")
    assert run["info"]["status"] == FINISHED
    assert sorted(set(history(mlflow, "stage", "loss"))) == list(range(1, 41))
    metrics = {one["key"] for one in run["data"]["metrics"]}
    assert {"loss", "learning_rate", "tokens_per_second", "eval_loss", "base_perplexity", "tuned_perplexity"} <= metrics
    files = httpx.get(f"{mlflow}/api/2.0/mlflow/artifacts/list", params={"run_id": run["info"]["run_id"]}).json()
    assert {"train-report.json", "loss.png"} <= {one["path"] for one in files["files"]}
    assert scalars(Path(told["workspace"]))["loss"] == list(range(1, 41))


def test_a_server_that_is_killed_does_not_end_the_training(
    job: Any, run_stage: Any, start_stage: Any, tmp_path: Path
) -> None:
    """Killed while the training stands still in its middle: the training ends well, and says once that it is gone."""
    port = servers.free_port()
    tracker = {"type": "MLflow", "uri": f"http://127.0.0.1:{port}", "experiment": "gone"}
    told = job(tracking=[tracker], training={"maxSteps": 40})
    told["spec"]["evaluation"]["generation"]["maxSamples"] = 0
    assert run_stage(Stage.PREPARE, told)[0] == 0
    log = Path(told["workspace"]) / "train-log.jsonl"
    with serving(tmp_path, port), start_stage(Stage.TRAIN, told) as process:
        wait_for(lambda: log.exists() and log.read_text().count("\n") >= 4)
        process.send_signal(signal.SIGSTOP)
        assert log.read_text().count("\n") < 40
        kill_server(port)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate()
    assert process.returncode == 0
    assert log.read_text().count("\n") == 40
    assert output.count("tracker fails; the training goes on") == 1
