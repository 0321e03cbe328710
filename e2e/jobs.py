"""Following FineTuneJobs on a real node, and killing what runs for them."""

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

import deploy

EXAMPLE = deploy.REPOSITORY / "examples" / "home-assistant"


def namespace_with_data(tools: deploy.Tools, namespace: str) -> Iterator[deploy.Tools]:
    """The cluster, with the example's data in a namespace of its own that goes at the end."""
    tools.create_namespace(namespace)
    rendered = tools.kubectl("kustomize", str(EXAMPLE))
    data = [found for found in yaml.safe_load_all(rendered) if found["kind"] == "ConfigMap"]
    for found in data:
        found["metadata"]["namespace"] = namespace
    tools.apply(*data)
    yield tools
    tools.kubectl("delete", "namespace", namespace, "--wait=false")


def phase_of(tools: deploy.Tools, namespace: str, name: str) -> str:
    """The job's phase; a failure ends the test with the whole status."""
    job = tools.get("ftj", name, namespace)
    assert deploy.condition(job, "Stalled").get("status") != "True", job
    return ((job or {}).get("status") or {}).get("phase", "")


def wait_phase(tools: deploy.Tools, namespace: str, name: str, phase: str) -> None:
    """Waits until the job is in a phase."""
    deploy.wait_until(f"{name} is {phase}", lambda: phase_of(tools, namespace, name) == phase, timeout_seconds=300)


def wait_succeeded(tools: deploy.Tools, namespace: str, name: str) -> dict[str, Any]:
    """The job when it has succeeded."""
    wait_phase(tools, namespace, name, "Succeeded")
    job = tools.get("ftj", name, namespace)
    assert job is not None
    return job


def wait_ready(tools: deploy.Tools, namespace: str, name: str) -> dict[str, Any]:
    """The job when its endpoint serves, too."""
    found = wait_succeeded(tools, namespace, name)
    assert deploy.condition(found, "Ready").get("status") == "True", found
    return found


def wait_step(tools: deploy.Tools, namespace: str, name: str, step: int) -> int:
    """Waits until the status shows at least some step, and returns it."""

    def reached() -> int:
        phase_of(tools, namespace, name)
        job = tools.get("ftj", name, namespace) or {}
        seen = ((job.get("status") or {}).get("progress") or {}).get("step", 0)
        return int(seen) if seen >= step else 0

    return int(deploy.wait_until(f"{name} has trained {step} steps", reached, timeout_seconds=300))


def progress_age(tools: deploy.Tools, namespace: str, name: str) -> float:
    """Seconds since the training has said what the status shows."""
    progress = ((tools.get("ftj", name, namespace) or {}).get("status") or {})["progress"]
    return (datetime.now(UTC) - datetime.fromisoformat(progress["updatedAt"])).total_seconds()


def train_pod(tools: deploy.Tools, namespace: str, name: str) -> dict[str, Any]:
    """The job's running train pod."""

    def running() -> dict[str, Any] | None:
        selector = f"tunesmith.dev/owner-name={name},tunesmith.dev/stage=train"
        pods = tools.items("pods", namespace, selector)
        return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

    return deploy.wait_until(f"{name} has a running train pod", running, timeout_seconds=120)


def kill_hard(pod: dict[str, Any], module: str = "tunesmith_trainer") -> None:
    """SIGKILL to a pod's process that runs a module, as the kernel's OOM killer would."""
    uid = pod["metadata"]["uid"]
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            in_pod = uid in (folder / "cgroup").read_text().replace("_", "-")
            is_wanted = module in (folder / "cmdline").read_text()
        except OSError:  # a process that ended meanwhile
            continue
        if in_pod and is_wanted:
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise AssertionError(f"pod {pod['metadata']['name']} has no process of {module} on this machine")


def train_report(tools: deploy.Tools, namespace: str, name: str) -> dict[str, Any]:
    """What the train stage has written into the job's workspace, which lies on this machine."""
    claim = tools.get("pvc", f"{name}-workspace", namespace)
    assert claim is not None
    volume = json.loads(tools.kubectl("get", "pv", claim["spec"]["volumeName"], "--output", "json"))["spec"]
    folder = Path((volume.get("hostPath") or volume["local"])["path"])
    found: dict[str, Any] = json.loads((folder / "train-report.json").read_text())
    return found
