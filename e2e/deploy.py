"""The product on a cluster: images, chart, pools and requests, through the same commands that a user would type."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
CHART = REPOSITORY / "charts" / "tunesmith"
SYSTEM_NAMESPACE = "tunesmith-system"
#: Enforces the strictest Pod Security level, for our pods and for the jobs'.
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


class CommandError(RuntimeError):
    """Raised when kubectl, helm or the cluster command fails; the message is what it printed."""


@dataclass(frozen=True)
class Tools:
    """kubectl and helm, pointed at one cluster.

    Attributes:
        environment: what the commands see: PATH with the tools and, for the embedded cluster, its KUBECONFIG.
    """

    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Runs a command and returns its standard output.

        Raises:
            CommandError: it failed.
        """
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=self.environment, check=False)
        if done.returncode != 0:
            raise CommandError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr or done.stdout}")
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl."""
        return self.run("kubectl", *arguments, stdin=stdin)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """An object, or None when there is none."""
        text = self.kubectl("get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
        return json.loads(text) if text.strip() else None

    def items(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind in a namespace."""
        text = self.kubectl("get", kind, "--namespace", namespace, "--selector", selector, "--output", "json")
        return json.loads(text)["items"]

    def apply(self, *objects: dict[str, Any]) -> None:
        """Applies objects by server-side apply."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=json.dumps(bundle))

    def create_namespace(self, name: str) -> None:
        """Makes a namespace that enforces Pod Security `restricted`."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})


def embedded(*arguments: str) -> str:
    """Runs the embedded cluster's command line; its progress goes to standard error.

    Raises:
        CommandError: it failed; it has printed why.
    """
    command = [sys.executable, str(REPOSITORY / "e2e" / "cluster"), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"`python3 e2e/cluster {' '.join(arguments)}` failed")
    return done.stdout


def start_embedded() -> Tools:
    """Starts the embedded cluster, unless it runs, and returns the tools that speak to it."""
    printed = embedded("up")
    exported = re.search(r"^export KUBECONFIG=(\S+) PATH=([^:]+):", printed, re.MULTILINE)
    if exported is None:
        raise CommandError(f"`python3 e2e/cluster up` printed no KUBECONFIG:\n{printed}")
    kubeconfig, programs = exported.groups()
    return Tools(dict(os.environ) | {"KUBECONFIG": kubeconfig, "PATH": f"{programs}:{os.environ['PATH']}"})


def embedded_images() -> dict[str, str]:
    """Builds and loads the images of the working tree: part to reference."""
    return dict(line.split("=", 1) for line in embedded("images").splitlines() if "=" in line)


def install_chart(tools: Tools, images: dict[str, str], *settings: str) -> None:
    """Installs or upgrades the chart, and waits until the operator is ready.

    Args:
        tools: the cluster.
        images: part (operator, trainer, server) to reference; empty takes the chart's own.
        settings: further `key=value` settings.
    """
    tools.create_namespace(SYSTEM_NAMESPACE)
    values = [f"images.{part}={image}" for part, image in images.items()] + list(settings)
    flags = [flag for value in values for flag in ("--set", value)]
    tools.run(
        "helm", "upgrade", "--install", "tunesmith", str(CHART), "--namespace", SYSTEM_NAMESPACE, "--wait",
        "--timeout", "2m", *flags,
    )  # fmt: skip


@contextlib.contextmanager
def port_forward(tools: Tools, namespace: str, target: str, port: int = 80) -> Iterator[str]:
    """The base URL of a Service or pod, forwarded to a free port of this machine's loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = probe.getsockname()[1]
    command = ["kubectl", "port-forward", "--namespace", namespace, target, f"{local}:{port}"]
    process = subprocess.Popen(
        command, env=tools.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if "Forwarding" not in first:
            raise CommandError(f"{' '.join(command)}: {first or 'ended at once'}")
        yield f"http://127.0.0.1:{local}"
    finally:
        process.terminate()
        process.communicate()


def chat(base_url: str, model: str, question: str, *, timeout_seconds: float = 60) -> str:
    """One answer of the endpoint, by the OpenAI protocol."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 128}
    request = urllib.request.Request(
        f"{base_url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def condition(body: dict[str, Any] | None, kind: str) -> dict[str, Any]:
    """A condition of an object, empty when it has none of that type."""
    conditions = ((body or {}).get("status") or {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), {})


def wait_until(what: str, check: Any, *, timeout_seconds: float, every_seconds: float = 0.5) -> Any:
    """Polls until `check()` is true and returns its value.

    Raises:
        TimeoutError: it never was; the message says what was waited for.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(every_seconds)
    raise TimeoutError(f"waited {timeout_seconds:.0f} s in vain: {what}")
