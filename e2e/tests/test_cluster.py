"""The embedded cluster itself: pods, volumes, Services, names, Pod Security, our images."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-cluster"
EXIT_CODE = "{.status.containerStatuses[0].state.terminated.exitCode}"
SERVE = """
import http.server, os
os.chdir("/data")
open("index.html", "w").write("written by UID %d" % os.getuid())
http.server.ThreadingHTTPServer(("", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
ASK = """
import socket, time, urllib.request
for attempt in range(60):  # kube-proxy and CoreDNS learn of a Service a moment after the API server
    try:
        socket.gethostbyname("web.e2e-cluster.svc.cluster.local")
        print(urllib.request.urlopen("http://web", timeout=10).read().decode())
        break
    except OSError as error:
        last = error
        time.sleep(1)
else:
    raise last
"""


def pod(name: str, image: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod as Pod Security `restricted` wants it, with a read-only root file system and UID 65532."""
    capabilities = {"drop": ["ALL"]}
    security = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": capabilities}
    container = {"name": "main", "image": image, "securityContext": security}
    container |= {"command": list(command)} if command else {}
    container |= spec.pop("container", {})
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    labels = {"app": name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"restartPolicy": "Never", "securityContext": user, "containers": [container], **spec},
    }


def create(cluster, *objects: dict[str, Any]) -> None:
    """Creates objects in one call."""
    bundle = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(bundle))


def wait(cluster, what: str, condition: str) -> None:
    """Waits for a condition of an object."""
    cluster.kubectl("wait", "--namespace", NAMESPACE, f"--for={condition}", what, "--timeout=120s")


def finish(cluster, made: dict[str, Any]) -> str:
    """Runs a pod to its successful end and returns what it printed."""
    create(cluster, made)
    name = f"pod/{made['metadata']['name']}"
    wait(cluster, name, "jsonpath={.status.containerStatuses[0].state.terminated}")
    printed = cluster.kubectl("logs", "--namespace", NAMESPACE, name)
    code = cluster.kubectl("get", "--namespace", NAMESPACE, name, "-o", f"jsonpath={EXIT_CODE}")
    assert code == "0", f"{name} ended with {code}:\n{printed}"
    return printed


@pytest.fixture(scope="module")
def image(run_cluster) -> str:
    """The base image's reference."""
    return run_cluster("images", "base").strip().removeprefix("base=")


@pytest.fixture(scope="module", autouse=True)
def _namespace(cluster) -> Iterator[None]:
    """A namespace that enforces Pod Security `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": NAMESPACE, "labels": labels}
    create(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    cluster.kubectl("wait", "--namespace", NAMESPACE, "--for=create", "serviceaccount/default", "--timeout=60s")
    yield
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_pod_serves_from_a_volume_through_a_service(cluster, image):
    """UID 65532 writes to a dynamic volume, another pod finds it by its Service's name, and the folder goes away."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    in_namespace = {"namespace": NAMESPACE}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    probe = {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1}
    mounted = {"volumeMounts": [{"name": "data", "mountPath": "/data"}], "readinessProbe": probe}
    create(
        cluster,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", **in_namespace},
            "spec": claim,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", **in_namespace},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        pod("web", image, "python3", "-c", SERVE, volumes=volumes, container=mounted),
    )
    wait(cluster, "pod/web", "condition=Ready")
    assert finish(cluster, pod("client", image, "python3", "-c", ASK)).strip() == "written by UID 65532"
    name = cluster.kubectl("get", "pvc", "data", "--namespace", NAMESPACE, "-o", "jsonpath={.spec.volumeName}")
    path = cluster.kubectl("get", "pv", name, "-o", "jsonpath={.spec.hostPath.path}{.spec.local.path}")
    assert (Path(path) / "index.html").is_file()
    cluster.kubectl("delete", "pod/web", "pvc/data", "--namespace", NAMESPACE, "--grace-period=1")
    cluster.kubectl("wait", "--for=delete", f"pv/{name}", "--timeout=60s")
    assert not Path(path).exists()


def test_restricted_pod_security_refuses_a_plain_pod(cluster, image):
    """A pod without a security context is refused."""
    with pytest.raises(subprocess.CalledProcessError):
        cluster.kubectl("run", "plain", "--namespace", NAMESPACE, f"--image={image}")


def test_the_root_file_system_is_read_only(cluster, image):
    """A restricted pod cannot write outside its volumes."""
    script = "touch /opt/x 2>&1 || echo refused"
    assert "refused" in finish(cluster, pod("read-only", image, "sh", "-c", script))


def test_a_pod_reaches_the_api_server(cluster, image):
    """The API server's Service leads from a pod to the API server."""
    script = "import socket; socket.create_connection(('kubernetes.default.svc', 443), 10); print('reached')"
    assert finish(cluster, pod("api", image, "python3", "-c", script)).strip() == "reached"


@pytest.mark.parametrize("part", ["operator", "trainer", "server"])
def test_our_images_run_restricted(cluster, run_cluster, part):
    """Each image imports its package as UID 65532 on a read-only root, with only /tmp to write to."""
    image = run_cluster("images", part).strip().removeprefix(f"{part}=")
    temporary = {
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "container": {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]},
    }
    script = f"import os, tunesmith_api, tunesmith_{part}; print(os.getuid())"
    assert finish(cluster, pod(f"image-{part}", image, "python", "-c", script, **temporary)).strip() == "65532"


def test_the_server_image_has_no_torch(cluster, run_cluster):
    """The server's image carries ONNX Runtime and neither torch nor transformers."""
    image = run_cluster("images", "server").strip().removeprefix("server=")
    script = (
        "import importlib.util as u; print([bool(u.find_spec(n)) for n in ('onnxruntime', 'torch', 'transformers')])"
    )
    assert finish(cluster, pod("no-torch", image, "python", "-c", script)).strip() == "[True, False, False]"


def test_pods_survive_a_restart_of_the_api_server(cluster, run_cluster, image):
    """A pod that runs while the API server is killed and restarted is not touched."""
    create(cluster, pod("steady", image, "sleep", "3600"))
    wait(cluster, "pod/steady", "condition=Ready")
    path = "jsonpath={.metadata.uid} {.status.containerStatuses[0].containerID}"
    before = cluster.kubectl("get", "pod/steady", "--namespace", NAMESPACE, "-o", path)
    run_cluster("restart-apiserver")
    wait(cluster, "pod/steady", "condition=Ready")
    assert cluster.kubectl("get", "pod/steady", "--namespace", NAMESPACE, "-o", path) == before
    cluster.kubectl("delete", "pod/steady", "--namespace", NAMESPACE, "--grace-period=1")
