"""Watching a job of a cluster."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tunesmith_cli.errors import CliError
from tunesmith_cli.watch import WatchOptions, exit_code_of, status_lines, status_of, watch

CRDS = Path(__file__).parents[2] / "crds"


def condition(kind: str, status: str = "True") -> dict[str, str]:
    """A condition."""
    times = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"type": kind, "status": status, "reason": "Running", "message": f"{kind} it is", **times}


FAILURE = {"category": "GateFailed", "stage": "train", "message": "0.5 < 0.9", "resolution": "Train longer."}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({}, None),
        ({"observedGeneration": 1, "conditions": [condition("Ready", "False")]}, None),
        ({"observedGeneration": 1, "conditions": [condition("Ready")]}, 0),
        ({"observedGeneration": 0, "conditions": [condition("Ready")]}, None),
        ({"observedGeneration": 1, "conditions": [condition("Stalled")]}, 1),
        ({"observedGeneration": 1, "conditions": [condition("Stalled")], "failure": {**FAILURE, "exitCode": 71}}, 71),
    ],
)
def test_the_exit_code_follows_the_conditions(status: dict[str, Any], code: int | None) -> None:
    """Ready ends well, Stalled with the stage's code, and an old status does not end anything."""
    job = {"metadata": {"generation": 1}, "status": status}
    assert exit_code_of(job, status_of(job)) == code


def test_the_lines_tell_the_story() -> None:
    """Phase, plan, progress, messages and the way out, in this order."""
    status = {
        "phase": "Training",
        "plan": {"reasons": ["LoRA as asked"]},
        "progress": {"step": 1, "totalSteps": 2},
        "conditions": [condition("Trained", "False")],
        "failure": FAILURE,
    }
    assert status_lines("tickets", status_of({"status": status})) == [
        "tickets: Training",
        "  plan: LoRA as asked",
        "  training: step 1/2",
        "  Trained False (Running): Trained it is",
        "  GateFailed: 0.5 < 0.9",
        "  Train longer.",
    ]


def test_a_status_of_another_version_is_an_error() -> None:
    """What cannot be understood is not shown as if it were."""
    with pytest.raises(CliError, match="another version"):
        status_of({"status": {"phase": "Unheard"}})


@pytest.mark.apiserver
def test_watching_a_real_api_server(
    apiserver: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is Ready ends the watch with 0, one that waits ends it with 124, none at all with 66."""
    monkeypatch.setenv("PATH", f"{apiserver.kubeconfig.parents[2] / 'bin'}:{os.environ['PATH']}")
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
    apiserver.kubectl("create", "namespace", "watch-tests")
    kubectl = ("kubectl", "--kubeconfig", str(apiserver.kubeconfig), "--namespace", "watch-tests")
    spec = {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://a/b"}}}
    job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "bot"}, "spec": spec}
    apiserver.kubectl("--namespace", "watch-tests", "create", "-f", "-", stdin=json.dumps(job))
    assert watch(WatchOptions("bot", kubectl, timeout_seconds=0, every_seconds=0), Console()) == 124
    status = {"status": {"observedGeneration": 1, "phase": "Succeeded", "conditions": [condition("Ready")]}}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
    apiserver.kubectl("--namespace", "watch-tests", "patch", "ftj", "bot", *patch)
    assert watch(WatchOptions("bot", kubectl, every_seconds=0), Console()) == 0
    assert "bot: Succeeded" in capsys.readouterr().out
    with pytest.raises(CliError, match="not found") as caught:
        watch(WatchOptions("nobody", kubectl), Console())
    assert caught.value.exit_code == 66
