"""Where training metrics go beside the status: MLflow, TensorBoard.

Each speaks plainly; `tracking.py` keeps it away from the training, which waits for none of them.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tunesmith_api.uri import public_parts
from tunesmith_trainer.logins import Login
from tunesmith_trainer.workspace import read_json, write_json

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
#: MLflow's client waits for minutes by default, for a server that is down.
_MLFLOW_LIMITS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
#: What one request may hold (MLflow's REST API).
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST_VALUE = 1000, 100, 500


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told at the start.

    Attributes:
        name: of the job.
        experiment: that the run goes to.
        parameters: the spec, flat.
        workspace: the job's folder, where a tracker keeps what a resumed run needs.
        step: that the run starts from; above 0 after a resume.
    """

    name: str
    experiment: str
    parameters: Mapping[str, str]
    workspace: Path
    step: int = 0


@dataclass(frozen=True)
class Measured:
    """One number of one step; `milliseconds` since the epoch."""

    name: str
    value: float
    step: int
    milliseconds: int


class Tracker(Protocol):
    """A place that metrics go to. Any call may raise whatever it likes, and may be repeated after it has."""

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or take it up again after a resume."""

    def log(self, measured: Sequence[Measured]) -> None:
        """Send numbers."""

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""

    def attach(self, files: Sequence[Path]) -> None:
        """Send files of a run that is closed."""


class MLflow:
    """A run of an MLflow server, by the REST client.

    Args:
        uri: the tracking server; `azureml://` is the same protocol over https, with a token.
        key: where the run's identity is kept between processes.
        login: asked before every request, because a token may run out.
    """

    def __init__(self, uri: str, key: str, login: Login) -> None:
        self._uri = uri.replace("azureml://", "https://", 1)
        self._key = key
        self._login = login
        self._client: Any = None
        self._run = ""

    def start(self, run: TrackedRun) -> None:
        """Begin the run; the one of an earlier process of the same job goes on."""
        os.environ.update(_MLFLOW_LIMITS)
        self._log_in()
        from mlflow import MlflowClient  # noqa: PLC0415 - its import takes a second, which only its users pay

        self._client = MlflowClient(tracking_uri=self._uri)
        place = run.workspace / "tracking" / f"{self._key}.json"
        known = read_json(place)
        if known is not None:
            self._client.update_run(known["run"], status="RUNNING")
        else:
            created = self._client.create_run(self._experiment(run.experiment), run_name=run.name)
            known = {"run": created.info.run_id, "unsent": True}
            write_json(place, known)
        if "unsent" in known:  # also of a run whose process was killed just here; to send one twice does no harm
            self._log_parameters(known["run"], run.parameters)
            write_json(place, {"run": known["run"]})
        self._run = known["run"]

    def _log_in(self) -> None:
        """MLflow's client reads its login from the environment, at every request."""
        os.environ.update({f"MLFLOW_TRACKING_{key.upper()}": value for key, value in self._login.current().items()})

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))

    def _log_parameters(self, run: str, parameters: Mapping[str, str]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 - as above

        found = [Param(name, value[:_LONGEST_VALUE]) for name, value in parameters.items()]
        for start in range(0, len(found), _MOST_PARAMETERS):
            self._client.log_batch(run, params=found[start : start + _MOST_PARAMETERS])

    def log(self, measured: Sequence[Measured]) -> None:
        """Send numbers, in as few requests as the protocol allows."""
        from mlflow.entities import Metric  # noqa: PLC0415 - as above

        self._log_in()
        found = [Metric(one.name, one.value, one.milliseconds, one.step) for one in measured]
        for start in range(0, len(found), _MOST_METRICS):
            self._client.log_batch(self._run, metrics=found[start : start + _MOST_METRICS])

    def end(self, status: str) -> None:
        """Close the run."""
        self._log_in()
        self._client.set_terminated(self._run, status=status)

    def attach(self, files: Sequence[Path]) -> None:
        """Send files as artifacts of the run; MLflow takes them after its end as well."""
        self._log_in()
        for file in files:
            self._client.log_artifact(self._run, str(file))


class TensorBoard:
    """Event files below the workspace's `tensorboard` folder; steps after a resume replace those that were lost."""

    def __init__(self) -> None:
        self._writer: Any = None
        self._folder = Path()

    def start(self, run: TrackedRun) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - only its users pay for the import

        self._folder = run.workspace / "tensorboard"
        self._writer = SummaryWriter(str(self._folder), purge_step=run.step + 1 if run.step else None)
        if not run.step:
            self._writer.add_text("spec", "\n\n".join(f"`{key}`: {value}" for key, value in run.parameters.items()))

    def log(self, measured: Sequence[Measured]) -> None:
        """Write numbers."""
        for one in measured:
            self._writer.add_scalar(one.name, one.value, one.step, one.milliseconds / 1000)
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the event file."""
        self._writer.add_text("status", status)
        self._writer.close()

    def attach(self, files: Sequence[Path]) -> None:
        """Nothing to send: the plots lie beside, in the same workspace."""


def disclosed(value: Any) -> Any:
    """A spec's values with each URI as anyone may see it; user and query, where passwords and signatures stand, go."""
    if isinstance(value, dict):
        return {key: disclosed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [disclosed(one) for one in value]
    return public_parts(value) if isinstance(value, str) else value


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested objects as one level: `technique.lora.rank` to `16`."""
    if isinstance(value, dict):
        return {name: text for key, one in value.items() for name, text in flat(one, f"{prefix}.{key}").items()}
    return {prefix.lstrip("."): str(value)}


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """The numbers that a tracker can draw."""
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
