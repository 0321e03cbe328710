"""The operator with the chart's rights and no more: in the whole cluster, and in one namespace without nodes."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_rig import NAMESPACE, REPOSITORY, Rig, wait

pytestmark = pytest.mark.apiserver

Body = dict[str, Any]
SYSTEM = "tunesmith-system"
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
MODES: dict[str, Body] = {
    "cluster": {},
    "namespaced": {"watchNamespaces": [NAMESPACE], "nodeAccess": False},
}


def _rendered(helm: Path, values: Body) -> tuple[list[Body], dict[str, str]]:
    """The chart's rights, and the settings that its Deployment gives the operator."""
    chart = REPOSITORY / "charts/tunesmith"
    command = [helm, "template", "tunesmith", chart, "--namespace", SYSTEM, "--values", "-"]
    text = subprocess.run(command, input=json.dumps(values), check=True, stdout=subprocess.PIPE, text=True).stdout
    bodies = [one for one in yaml.safe_load_all(text) if one]
    deployment = next(one for one in bodies if one["kind"] == "Deployment")
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    kept = ("TUNESMITH_WATCH_NAMESPACES", "TUNESMITH_NODE_ACCESS")
    settings = {one["name"]: one["value"] for one in variables if one["name"] in kept}
    return [one for one in bodies if one["kind"] in RIGHTS], {**settings, "TUNESMITH_POD_NAMESPACE": SYSTEM}


def _kubeconfig(rig: Rig, folder: Path) -> Path:
    """A kubeconfig with the token of the chart's ServiceAccount."""
    config = json.loads(rig.api.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    token = rig.api.kubectl("create", "token", "tunesmith", "-n", SYSTEM).strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def _operator(rig: Rig, helm: Path, values: Body, folder: Path) -> Iterator[Path]:
    """The operator as the chart's ServiceAccount instead of the rig's; its log."""
    rights, settings = _rendered(helm, values)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    rig.api.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    rig.api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rights))
    account = f"--as=system:serviceaccount:{SYSTEM}:tunesmith"
    probe = ("auth", "can-i", "--list", "-n", NAMESPACE, account)
    for needed in ("finetunejobs.tunesmith.dev/status", "computepools.tunesmith.dev/status"):
        wait(lambda needed=needed: needed in rig.api.kubectl(*probe), f"the right to {needed}")
    log = folder / "operator.log"
    rig.replica.stop()
    limited = replace(rig.replica, name="limited", kubeconfig=_kubeconfig(rig, folder), log=log, settings=settings)
    try:
        limited.start()
        yield log
    finally:
        limited.stop()
        rig.api.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=yaml.safe_dump_all(rights))
        rig.replica.start()


def _spoil(rig: Rig, kind: str, name: str, field: str) -> None:
    """Change a child by hand and wait until the operator has restored it."""
    before = rig.get(kind, name)
    assert before is not None
    rig.patch(kind, name, {"spec": {field: 9}})
    wait(lambda: (rig.get(kind, name) or before)["spec"][field] != 9, f"{field} of the {kind}")


@pytest.mark.parametrize("mode", MODES)
def test_the_rights_suffice(rig: Rig, helm: Path, tmp_path: Path, mode: str) -> None:
    """With the chart's rights a job comes to autoscaled servers and goes again, and nothing is forbidden."""
    name = f"rights-{mode}"
    with _operator(rig, helm, MODES[mode], tmp_path) as log:
        rig.create_job(name, serve={"replicas": {"min": 2, "max": 3}})
        rig.run_through(name)
        rig.wait_phase(name, "Succeeded")
        for kind, field in (("deployment", "replicas"), ("hpa", "maxReplicas"), ("pdb", "maxUnavailable")):
            _spoil(rig, kind, f"{name}-server", field)
        events = rig.api.kubectl("get", "events", "-n", NAMESPACE, f"--field-selector=involvedObject.name={name}")
        assert "Preparing" in events
        rig.patch("ftj", name, {"spec": {"ttlSecondsAfterFinished": 0}})
        wait(lambda: rig.get("ftj", name) is None, "the job to go")
        rig.delete("mep", name)
    troubles = [line for line in map(json.loads, log.read_text().splitlines()) if line["level"] != "info"]
    assert troubles == []
    assert "orbidden" not in log.read_text()


def test_only_the_named_namespaces_are_served(rig: Rig, helm: Path, tmp_path: Path) -> None:
    """In namespaced mode a job of another namespace is left alone."""
    elsewhere = "elsewhere"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}}
    job = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "foreign"},
        "spec": {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://rows/train.jsonl"}}},
    }
    with _operator(rig, helm, MODES["namespaced"], tmp_path):
        rig.api.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        rig.api.kubectl("apply", "-n", elsewhere, "-f", "-", stdin=json.dumps(job))
        rig.create_job("native")
        rig.running_pod("native", "prepare")
        found = json.loads(rig.api.kubectl("get", "ftj", "foreign", "-n", elsewhere, "-o", "json"))
        assert "status" not in found
        rig.api.kubectl("delete", "ftj", "foreign", "-n", elsewhere)
        rig.delete("ftj", "native")
