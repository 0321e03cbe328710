"""Another job's output as an input: waited for, mounted from its workspace, refused when it can never come."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tunesmith_api import FineTuneJobSpec
from tunesmith_operator.finetunejob.inputs import Lacking, await_jobs
from tunesmith_operator.finetunejob.mounts import mounts_of
from tunesmith_operator.finetunejob.plan import Observed, plan
from tunesmith_operator.finetunejob.validation import find_problem
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.plans import Key
from tunesmith_operator.pools import Landscape
from tunesmith_operator.routing import Router

Body = dict[str, Any]
DATASET = {"train": {"uri": "job://first/samples.jsonl"}, "evaluation": {"fraction": 0.1}}
EXPORTED = [{"type": "Exported", "status": "True"}]


READER = FineTuneJobSpec.model_validate({"model": {"preset": "tiny-phi3"}, "dataset": DATASET})
TUNER = FineTuneJobSpec.model_validate({"model": {"uri": "job://first"}, "dataset": DATASET})


def first(export: str | None = None, **status: Any) -> Body:
    """The job that is read."""
    spec = {"export": {"format": export}} if export else {}
    return {"metadata": {"name": "first"}, "spec": spec, "status": status}


def test_another_jobs_output_is_its_workspace() -> None:
    """Alone the exported folder, with a path what lies there in the workspace; the claim is mounted."""
    mounts = mounts_of(TUNER)
    assert mounts.inputs == {
        "job://first": "/inputs/pvc/first-workspace/export",
        "job://first/samples.jsonl": "/inputs/pvc/first-workspace/samples.jsonl",
    }
    assert mounts.claims == ("first-workspace",)
    assert mounts.jobs == ("first",)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (None, Lacking(waiting="FineTuneJob 'first' does not exist yet; this job starts when it has succeeded.")),
        (first(), Lacking(waiting="Waits for the output of FineTuneJob 'first', which is new.")),
        (
            first(phase="Training"),
            Lacking(waiting="Waits for the output of FineTuneJob 'first', which is Training."),
        ),
        (
            first(phase="Failed", finishedAt="2026-01-01T00:00:00Z"),
            Lacking(missing="FineTuneJob 'first' has no output, it is Failed; run it again, or name another."),
        ),
        (first(phase="Succeeded", conditions=EXPORTED), Lacking()),
    ],
)
def test_another_job_is_waited_for(other: Body | None, said: Lacking) -> None:
    """Absent or running: it may come; failed: it never will; exported: go on."""
    assert await_jobs("second", mounts_of(READER), lambda _: other) == said


def test_a_job_cannot_read_itself() -> None:
    """It would wait for ever."""
    assert "this job itself" in await_jobs("first", mounts_of(READER), lambda _: first()).missing


@pytest.mark.parametrize(
    ("export", "missing"),
    [
        (None, "spec.model.uri: FineTuneJob 'first' exports ONNX, which cannot be tuned further"),
        ("Adapter", "set its export.format to Safetensors"),
        ("Safetensors", ""),
    ],
)
def test_only_merged_weights_are_tuned_further(export: str | None, missing: str) -> None:
    """Another job's model is refused before that job is waited for; its data may come from any export."""
    lacking = await_jobs("second", mounts_of(TUNER), lambda _: first(export, phase="Training"))
    assert missing in lacking.missing
    assert bool(lacking.missing) == bool(missing)


def test_a_waiting_job_is_pending_and_then_starts(
    job: Callable[..., Body], landscape: Landscape, images: Any, now: Any
) -> None:
    """While the other one runs no stage is made, and the status says what is awaited."""
    body = job(dataset=DATASET)
    waiting = plan(body, Observed(landscape=landscape, waiting="Waits for 'first'."), now, images)
    assert waiting.status is not None
    assert waiting.status["phase"] == "Pending"
    assert "Waits for 'first'." in str(waiting.status["conditions"])
    assert [child["kind"] for child in waiting.apply if child["kind"] == "Job"] == []
    started = plan(body, Observed(landscape=landscape), now, images)
    assert [child["kind"] for child in started.apply if child["kind"] == "Job"] == ["Job"]


@pytest.mark.parametrize("uri", ["oci://registry/team/bot@sha256:ab", "s3://bucket", "gs://bucket/"])
def test_an_output_that_names_no_place_is_refused(uri: str) -> None:
    """A digest or a whole bucket cannot be written to; said before anything is trained."""
    spec = FineTuneJobSpec.model_validate(
        {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "hf://datasets/a/b"}}, "output": {"uri": uri}}
    )
    problem = find_problem(spec)
    assert problem is not None
    assert problem.message.startswith(f"spec.output.uri: {uri!r}")


class Caches:
    """The jobs of a namespace."""

    def __init__(self, *bodies: Body) -> None:
        self.bodies = {Key("FineTuneJob", "team", body["metadata"]["name"]): body for body in bodies}

    def get(self, key: Key) -> Body | None:
        """A job."""
        return self.bodies.get(key)

    def keys(self, kind: str) -> Any:
        """All jobs."""
        return iter([key for key in self.bodies if key.kind == kind])


class Queue:
    """What was put on it at once."""

    def __init__(self) -> None:
        self.added: list[str] = []

    def add(self, key: Key, **_: bool) -> None:
        """Note a key."""
        self.added.append(key.name)

    def add_after(self, key: Key, seconds: float) -> None:
        """Nothing of these tests."""


@pytest.mark.parametrize(
    ("first_status", "second_status", "woken"),
    [
        ({}, {}, []),
        ({"finishedAt": "2026-01-01T00:00:00Z"}, {}, ["second"]),
        ({"finishedAt": "2026-01-01T00:00:00Z"}, {"conditions": [{"type": "Prepared", "status": "True"}]}, []),
    ],
)
def test_the_end_of_a_job_wakes_its_readers(
    job: Callable[..., Body], first_status: Body, second_status: Body, woken: list[str]
) -> None:
    """Only when it has ended, and only readers that have not read yet; a neighbour of a similar name is not read."""
    bodies = (
        job("first", status=first_status),
        job("second", dataset=DATASET, status=second_status),
        job("third", dataset={"train": {"uri": "job://first-other/x"}}),
    )
    queue, caches = Queue(), Caches(*bodies)
    router = Router(queue, caches, observer=None, metrics=Metrics(CollectorRegistry()))  # type: ignore[arg-type]
    router.own_changed(Key("FineTuneJob", "team", "first"))
    assert [name for name in queue.added if name != "first"] == woken
