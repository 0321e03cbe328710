"""A control plane with the operator on it; tests play the kubelet by patching the status of pods."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

Body = dict[str, Any]
NAMESPACE = "team"
INDEX = "batch.kubernetes.io/job-completion-index"
WAIT_SECONDS = 40
REPOSITORY = Path(__file__).parents[2]


class Kubectl(Protocol):
    """The `apiserver` fixture."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl."""


@dataclass
class Replica:
    """One operator process."""

    name: str
    kubeconfig: Path
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "TUNESMITH_TRAINER_IMAGE": "registry/trainer:1",
            "TUNESMITH_SERVER_IMAGE": "registry/server:1",
            "TUNESMITH_HOST": "127.0.0.1",
            "TUNESMITH_HEALTH_PORT": str(self.port),
            "TUNESMITH_METRICS_PORT": str(self.port + 1),
            "TUNESMITH_POD_NAME": self.name,
            "TUNESMITH_POD_NAMESPACE": NAMESPACE,
            "TUNESMITH_LEASE_SECONDS": "6",
            "TUNESMITH_GANG_WAIT_SECONDS": "3",
            "TUNESMITH_CLOSED_NAMESPACES": NAMESPACE,
            **self.settings,
        }
        with self.log.open("ab") as log:
            argv = [sys.executable, "-m", "tunesmith_operator"]
            self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        wait(self.is_ready, f"{self.name} to be ready")

    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metrics(self) -> str:
        """What /metrics shows."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 1}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it; its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(20)
        self.process = None
        return status


def wait(condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = WAIT_SECONDS) -> Any:
    """The first true value of a condition; AssertionError after a while, which says what was waited for."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what() if callable(what) else what}")
        time.sleep(0.1)


@dataclass
class Rig:
    """What tests use."""

    api: Kubectl
    replica: Replica
    created: list[str] = field(default_factory=list)

    def apply(self, *bodies: Body) -> None:
        """Create or change objects."""
        self.api.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(bodies))

    def get(self, kind: str, name: str) -> Body | None:
        """An object, or None."""
        text = self.api.kubectl("get", kind, name, "-n", NAMESPACE, "--ignore-not-found", "-o", "json")
        found: Body | None = json.loads(text) if text else None
        return found

    def list(self, kind: str, **labels: str) -> list[Body]:
        """Objects with labels."""
        selector = ",".join(f"tunesmith.dev/{key}={value}" for key, value in labels.items())
        text = self.api.kubectl("get", kind, "-n", NAMESPACE, "-l", selector, "-o", "json")
        items: list[Body] = json.loads(text)["items"]
        return items

    def patch(self, kind: str, name: str, change: Body, *options: str) -> None:
        """Merge a change into an object."""
        self.api.kubectl("patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(change), *options)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and wait until it is gone."""
        self.api.kubectl("delete", kind, name, "-n", NAMESPACE, "--ignore-not-found")

    def create_job(self, name: str, **spec: Any) -> None:
        """Create a FineTuneJob, with a volume for its workspace."""
        base = {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://rows/train.jsonl"}}}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{name}-volume"},
            "spec": {
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "capacity": {"storage": "100Gi"},
                "hostPath": {"path": "/nowhere"},
                "claimRef": {"namespace": NAMESPACE, "name": f"{name}-workspace"},
            },
        }
        job = {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name, "labels": {"bot": name}},
            "spec": {"compute": {"pool": "cpu"}, **base, **spec},
        }
        self.created.append(name)
        self.apply(volume, job)

    def status(self, name: str, kind: str = "ftj") -> Body:
        """The status of an object of ours."""
        return (self.get(kind, name) or {}).get("status", {})

    def wait_condition(self, name: str, condition: str, reason: str | None = None, kind: str = "ftj") -> Body:
        """The condition, once it is True with the reason."""

        def found() -> Body | None:
            for one in self.status(name, kind).get("conditions", []):
                if one["type"] == condition and one["status"] == "True" and reason in {None, one["reason"]}:
                    return dict(one)
            return None

        result: Body = wait(found, lambda: f"{condition} {reason or ''} of {name}: {self.status(name, kind)}")
        return result

    def wait_phase(self, name: str, phase: str, kind: str = "ftj") -> Body:
        """The status, once it has the phase."""
        wait(lambda: self.status(name, kind).get("phase") == phase, lambda: f"phase {phase}: {self.status(name, kind)}")
        return self.status(name, kind)

    def run_through(self, job: str) -> None:
        """Let every stage of a job succeed."""
        for stage in ("prepare", "train", "export"):
            self.end(job, stage, report(stage, job))

    def running_pods(self, job: str, stage: str) -> dict[int, Body]:
        """The running pods of a stage, by worker."""
        return {
            int(pod["metadata"]["labels"].get(INDEX, 0)): pod
            for pod in self.list("pods", **{"owner-name": job, "stage": stage})
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        }

    def running_pod(self, job: str, stage: str, worker: int = 0) -> Body:
        """The running pod of a stage."""

        def found() -> Body | None:
            return self.running_pods(job, stage).get(worker)

        result: Body = wait(found, lambda: f"a running pod of {stage} of {job}: {self.status(job)}")
        return result

    def end(self, job: str, stage: str, message: str, code: int = 0, *, worker: int = 0) -> None:
        """Let the container of a stage end, as the kubelet would tell it."""
        pod = self.running_pod(job, stage, worker)
        ended = {"exitCode": code, "message": message, "reason": "Completed" if code == 0 else "Error"}
        container = {"name": "stage", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
        status = {
            "phase": "Succeeded" if code == 0 else "Failed",
            "containerStatuses": [{**container, "state": {"terminated": ended}}],
        }
        self.patch("pod", pod["metadata"]["name"], {"status": status}, "--subresource=status")


DATASET = {
    "examples": 10,
    "evaluationExamples": 2,
    "tokens": 100,
    "longestTokens": 20,
    "format": "PromptCompletion",
    "digest": "sha256:0",
}
GATE = {"metric": "exact_match", "value": 1, "passed": True, "message": "exact_match 1 >= 0.9"}


def artifact(job: str) -> Body:
    """The exported model of a job."""
    return {
        "uri": f"pvc://{job}-workspace/export",
        "digest": f"sha256:{job}",
        "sizeBytes": 4,
        "precision": "Balanced",
        "parity": {"maxLogitDifference": 0, "greedyAgreement": 1},
    }


def report(stage: str, job: str) -> str:
    """What a stage that succeeds says last."""
    parts: dict[str, Body] = {
        "prepare": {"dataset": DATASET},
        "train": {
            "evaluation": {"tuned": {"exactMatch": 1}, "gates": [GATE]},
            "progress": {"step": 3, "totalSteps": 3},
        },
        "export": {"evaluation": {"exported": {"exactMatch": 1}, "gates": [GATE]}, "artifact": artifact(job)},
    }
    return json.dumps({"stage": stage, "exitCode": 0, **parts[stage]})


def node(name: str, pool: str, **devices: str) -> Body:
    """A node on which pods stay Running."""
    have = {"cpu": "16", "memory": "64Gi", "pods": "110", **devices}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"holding-{name}", "labels": {"pool": pool}},
        "status": {"allocatable": have, "capacity": have},
    }


def pool(name: str, **spec: Any) -> Body:
    """A ComputePool of the nodes that carry its name."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ComputePool",
        "metadata": {"name": name},
        "spec": {"nodeSelector": {"pool": name}, **spec},
    }


CLUSTER = (
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    },
    node("cpu", "cpu"),
    node("gpu", "gpu", **{"nvidia.com/gpu": "2"}),
    node("fpga", "fpga", **{"amd.com/xilinx_u250": "1"}),
    pool("cpu"),
    pool("gpu", **{"class": "GPU", "device": {"resource": "nvidia.com/gpu"}}),
    pool("fpga", **{"class": "FPGA", "device": {"resource": "amd.com/xilinx_u250"}}),
)


@contextmanager
def rig_on(api: Kubectl, folder: Path, port: int) -> Iterator[Rig]:
    """The types, nodes and pools, and one operator; stopped at the end."""
    api.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
    for name in ("computepools", "finetunejobs", "modelendpoints"):
        api.kubectl("wait", "--for=condition=Established", f"crd/{name}.tunesmith.dev", "--timeout=30s")
    api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(CLUSTER))
    replica = Replica("one", api.kubeconfig, port, folder / "operator.log")
    rig = Rig(api, replica)
    rows = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"train.jsonl": "{}"}}
    wait(lambda: rig.get("serviceaccount", "default"), "the default ServiceAccount")
    rig.apply(rows)
    try:
        replica.start()
        yield rig
    finally:
        replica.stop()
