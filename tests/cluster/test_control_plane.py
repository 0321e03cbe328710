"""The control plane that API-server tests run on: what it accepts, refuses and survives."""

import json
import subprocess

import pytest

pytestmark = pytest.mark.apiserver

NODE = {"apiVersion": "v1", "kind": "Node"}


def job(name: str, node: str) -> str:
    """A Job of one pod for a given node."""
    pod = {"nodeName": node, "restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})


@pytest.fixture
def make_node(apiserver):
    """Makes nodes that go with the test: the pods of other tests must not land on them."""
    made = []

    def make(name):
        made.append(name)
        apiserver.kubectl("create", "-f", "-", stdin=json.dumps({**NODE, "metadata": {"name": name}}))

    yield make
    for name in made:
        apiserver.kubectl("delete", "node", name)


def test_a_job_on_a_simulated_node_completes(apiserver, make_node):
    """A Job's pod runs and succeeds on a Node object that a test has created."""
    make_node("plain")
    apiserver.kubectl("create", "-f", "-", stdin=job("completes", "plain"))
    apiserver.kubectl("wait", "--for=condition=Complete", "job/completes", "--timeout=60s")


def test_a_test_decides_how_a_pod_on_a_holding_node_ends(apiserver, make_node):
    """On a node named holding-… a pod stays Running until its status is patched, and its Job follows."""
    make_node("holding-1")
    apiserver.kubectl("create", "-f", "-", stdin=job("fails", "holding-1"))
    pods = ("pods", "--selector=job-name=fails")
    apiserver.kubectl("wait", "--for=create", *pods, "--timeout=60s")
    apiserver.kubectl("wait", "--for=jsonpath={.status.phase}=Running", *pods, "--timeout=60s")
    pod = apiserver.kubectl("get", *pods, "-o", "name").strip()
    apiserver.kubectl("patch", pod, "--subresource=status", "--type=merge", "-p", '{"status": {"phase": "Failed"}}')
    apiserver.kubectl("wait", "--for=condition=Failed", "job/fails", "--timeout=60s")


def test_restricted_pod_security_refuses_a_plain_pod(apiserver):
    """A namespace that enforces `restricted` refuses a pod without a security context."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}}
    apiserver.kubectl("create", "-f", "-", stdin=json.dumps(namespace))
    with pytest.raises(subprocess.CalledProcessError):
        apiserver.kubectl("run", "plain", "--namespace=strict", "--image=none", "--dry-run=server")
    apiserver.kubectl("run", "plain", "--namespace=default", "--image=none", "--dry-run=server")


def test_objects_survive_a_restart_of_the_api_server(apiserver):
    """A killed API server comes back with everything that it had."""
    apiserver.kubectl("create", "configmap", "survivor", "--from-literal=key=value")
    apiserver.restart()
    assert apiserver.kubectl("get", "configmap", "survivor", "-o", "jsonpath={.data.key}") == "value"


def test_everything_starts_again_after_a_crash(apiserver, make_node):
    """A restarted machine has records of dead processes: `up` starts them all, kwok too, with the old objects."""
    apiserver.kubectl("create", "configmap", "crashed", "--from-literal=key=value")
    apiserver.crash()
    apiserver.up()
    assert apiserver.kubectl("get", "configmap", "crashed", "-o", "jsonpath={.data.key}") == "value"
    make_node("after-crash")
    apiserver.kubectl("wait", "--for=condition=Ready", "node/after-crash", "--timeout=60s")
