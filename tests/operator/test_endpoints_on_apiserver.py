"""A ModelEndpoint on a real API server: its children, what is restored, what scales, what goes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from operator_rig import GATE, NAMESPACE, Rig, artifact, wait

pytestmark = pytest.mark.apiserver

Body = dict[str, Any]
CHILDREN = "deployments,services,hpa,pdb,replicasets,pods"


def _exported(rig: Rig, name: str, finished: str, **labels: str) -> None:
    """A FineTuneJob that has run already."""
    rig.create_job(name, suspend=True)
    rig.wait_phase(name, "Suspended")
    rig.patch("ftj", name, {"metadata": {"labels": labels}})
    done = [
        {"type": kind, "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": finished}
        for kind in ("Planned", "Prepared", "Trained", "Evaluated", "Exported")
    ]
    status = {
        "startedAt": finished,
        "finishedAt": finished,
        "artifact": artifact(name),
        "evaluation": {"gates": [GATE]},
        "conditions": done,
    }
    rig.patch("ftj", name, {"status": status}, "--subresource=status")


def _endpoint(rig: Rig, name: str, **spec: Any) -> None:
    kind = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": name}}
    rig.apply({**kind, "spec": {"compute": {"pool": "cpu"}, **spec}})


def _deployment(rig: Rig, name: str) -> Body:
    found = rig.get("deployment", f"{name}-server")
    return found or {}


def _until(rig: Rig, name: str, holds: Callable[[Body], bool], what: str) -> None:
    """Wait until the spec of the Deployment is as it should be."""

    def check() -> bool:
        live = _deployment(rig, name)
        return bool(live) and holds(live["spec"])

    wait(check, lambda: f"{what}: {_deployment(rig, name)}")


def _image(spec: Body) -> str:
    return str(spec["template"]["spec"]["containers"][0]["image"])


def test_an_endpoint_follows_the_newest_job(rig: Rig) -> None:
    """An endpoint waits for a model, serves it, goes over to a newer one by itself, and leaves nothing behind."""
    labels = {"bot": "follow"}
    _endpoint(rig, "follow", source={"latest": {"matchLabels": labels}})
    rig.wait_condition("follow", "Reconciling", "WaitingForModel", kind="mep")
    assert rig.status("follow", "mep")["phase"] == "Pending"
    _exported(rig, "follow-one", "2026-01-01T00:00:00Z", **labels)
    rig.wait_condition("follow", "Ready", "Available", kind="mep")
    assert rig.status("follow", "mep")["stable"] == {
        "source": "job://follow-one",
        "digest": "sha256:follow-one",
        "readyReplicas": 1,
    }
    _exported(rig, "follow-two", "2026-01-02T00:00:00Z", **labels)

    def has_followed() -> bool:
        stable = rig.status("follow", "mep")["stable"]
        return bool(stable == {"source": "job://follow-two", "digest": "sha256:follow-two", "readyReplicas": 1})

    wait(has_followed, lambda: f"the newer model: {rig.status('follow', 'mep')}")
    volume = _deployment(rig, "follow")["spec"]["template"]["spec"]["volumes"][0]
    assert volume["persistentVolumeClaim"]["claimName"] == "follow-two-workspace"
    rig.delete("mep", "follow")
    wait(lambda: not rig.list(CHILDREN, **{"owner-name": "follow"}), "garbage collection", 90)


def test_servers_are_restored_and_scaled(rig: Rig) -> None:
    """What is edited by hand is restored, what the autoscaler sets is kept, and what the spec drops goes."""
    _exported(rig, "scaled-job", "2026-01-01T00:00:00Z")
    _endpoint(rig, "scaled", source={"job": "scaled-job"}, replicas={"min": 2})
    rig.wait_condition("scaled", "Ready", kind="mep")
    assert rig.get("pdb", "scaled-server") is not None
    assert rig.get("hpa", "scaled-server") is None

    strange = {"containers": [{"name": "server", "image": "strange"}]}
    options = ("-n", NAMESPACE, "-p", f'{{"spec": {{"template": {{"spec": {json.dumps(strange)}}}}}}}')
    rig.api.kubectl("patch", "deployment", "scaled-server", *options)
    _until(rig, "scaled", lambda spec: _image(spec) == "registry/server:1", "the image")
    rig.api.kubectl("scale", "deployment", "scaled-server", "-n", NAMESPACE, "--replicas=5")
    _until(rig, "scaled", lambda spec: spec["replicas"] == 2, "the replicas")
    rig.delete("service", "scaled")
    wait(lambda: rig.get("service", "scaled"), "the Service")

    rig.patch("mep", "scaled", {"spec": {"replicas": {"min": 2, "max": 6}}})
    wait(lambda: rig.get("hpa", "scaled-server"), "the autoscaler")
    rig.patch("mep", "scaled", {"spec": {"runtime": {"maxQueue": 7}}})
    _until(rig, "scaled", lambda spec: "7" in spec["template"]["spec"]["containers"][0]["args"], "the new flag")
    assert _deployment(rig, "scaled")["spec"]["replicas"] == 2
    rig.api.kubectl("scale", "deployment", "scaled-server", "-n", NAMESPACE, "--replicas=4")
    wait(lambda: rig.status("scaled", kind="mep").get("replicas") == 4, "the operator to see four servers")
    rig.patch("mep", "scaled", {"spec": {"runtime": {"maxQueue": 9}}})
    _until(rig, "scaled", lambda spec: "9" in spec["template"]["spec"]["containers"][0]["args"], "the next flag")
    assert _deployment(rig, "scaled")["spec"]["replicas"] == 4

    rig.patch("mep", "scaled", {"spec": {"replicas": {"min": 0, "max": None}}})
    _until(rig, "scaled", lambda spec: spec["replicas"] == 0, "no servers")
    wait(lambda: rig.get("hpa", "scaled-server") is None, "the autoscaler to go")
    wait(lambda: rig.get("pdb", "scaled-server") is None, "the budget to go")
    rig.patch("mep", "scaled", {"spec": {"replicas": {"min": 1, "max": 3}}})
    _until(rig, "scaled", lambda spec: spec["replicas"] == 1, "the first server")
    rig.wait_condition("scaled", "Ready", kind="mep")
    rig.delete("mep", "scaled")


def test_a_pool_that_changes_reaches_its_servers(rig: Rig) -> None:
    """Servers get the tolerations that their pool gains, and lose those that it drops."""
    pool = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": "moving"}}
    toleration = {"key": "k", "operator": "Exists"}
    rig.apply({**pool, "spec": {"nodeSelector": {"pool": "cpu"}, "tolerations": [toleration]}})
    _exported(rig, "moving-job", "2026-01-01T00:00:00Z")
    _endpoint(rig, "moving", source={"job": "moving-job"}, compute={"pool": "moving"})
    _until(rig, "moving", lambda spec: spec["template"]["spec"]["tolerations"] == [toleration], "the toleration")
    rig.patch("computepool", "moving", {"spec": {"tolerations": None}})
    _until(rig, "moving", lambda spec: "tolerations" not in spec["template"]["spec"], "the toleration to go")
    rig.delete("mep", "moving")
    rig.delete("computepool", "moving")
