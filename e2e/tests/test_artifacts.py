"""A model that goes through a registry: the job pushes an image, and the node mounts it into the server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import deploy
import servers
from cluster.layout import NODE_IP

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900, func_only=True)]

EXAMPLE = deploy.REPOSITORY / "examples" / "home-assistant"
NAMESPACE = "e2e-artifacts"
NAME = "pushed"


@pytest.fixture(scope="module")
def registry(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on the node's own address, which pods and the kubelet both reach, by plain http."""
    folder, port = tmp_path_factory.mktemp("registry"), servers.free_port()
    host = f"{NODE_IP}:{port}"
    mirror: Path = cluster.kubeconfig.parent / "certs.d" / host
    mirror.mkdir(parents=True)
    (mirror / "hosts.toml").write_text(f'server = "http://{host}"\n')
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '{host}'}}\n"
    )
    argv = [servers.program("registry"), "serve", str(folder / "config.yml")]
    with servers.running(argv, port, folder / "log", host=NODE_IP, OTEL_TRACES_EXPORTER="none"):
        yield host
    (mirror / "hosts.toml").unlink()
    mirror.rmdir()


@pytest.fixture(scope="module")
def served(product: deploy.Tools, registry: str) -> Iterator[dict[str, Any]]:
    """The example's job with its output in the registry, Ready."""
    product.create_namespace(NAMESPACE)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry", "namespace": NAMESPACE}}
    secret["stringData"] = {"plain-http": "true"}
    rows = {name: (EXAMPLE / name).read_text() for name in ("train.jsonl", "test.jsonl")}
    data = {"apiVersion": "v1", "kind": "ConfigMap", "data": rows}
    data["metadata"] = {"name": "home-assistant-data", "namespace": NAMESPACE}
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    job["metadata"] = {"name": NAME, "namespace": NAMESPACE}
    job["spec"]["output"] = {"uri": f"oci://{registry}/team/bot:v1", "secretRef": {"name": "registry"}}
    job["spec"]["evaluation"]["generation"]["maxSamples"] = 20
    job["spec"]["training"]["maxSteps"] = 160
    product.apply(secret, data, job)

    def ready() -> dict[str, Any] | None:
        found = product.get("ftj", NAME, NAMESPACE)
        assert deploy.condition(found, "Stalled").get("status") != "True", json.dumps(found, indent=1)
        return found if deploy.condition(found, "Ready").get("status") == "True" else None

    yield deploy.wait_until(f"FineTuneJob {NAME} is Ready", ready, timeout_seconds=600)
    product.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_the_status_names_what_was_pushed(served: dict[str, Any], registry: str) -> None:
    """The artifact's URI is the manifest's digest, which no later push can change."""
    assert served["status"]["artifact"]["uri"].startswith(f"oci://{registry}/team/bot@sha256:")


def test_the_server_mounts_the_image(product: deploy.Tools, served: dict[str, Any]) -> None:
    """The servers' volume is the image of that digest, and no claim."""
    deployment = product.get("deployment", f"{NAME}-server", NAMESPACE)
    assert deployment is not None
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    reference = served["status"]["artifact"]["uri"].removeprefix("oci://")
    assert volumes["model"]["image"]["reference"] == reference
    assert not any("persistentVolumeClaim" in volume for volume in volumes.values())


def test_the_endpoint_answers_from_the_image(product: deploy.Tools, served: dict[str, Any]) -> None:
    """The model that came back from the registry answers what the data teaches."""
    line = json.loads((EXAMPLE / "test.jsonl").read_text().splitlines()[0])["messages"]
    with deploy.port_forward(product, NAMESPACE, f"service/{served['status']['endpoint']}") as url:
        assert deploy.chat(url, NAME, line[-2]["content"]).strip() == line[-1]["content"].strip()
