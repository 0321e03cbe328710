"""A server's pod: where its model comes from, how it starts and stops, what scales and guards it."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_api import ModelEndpointSpec
from tunesmith_operator.modelendpoint.manifests import Facts, children, deployment
from tunesmith_operator.modelendpoint.source import Served
from tunesmith_operator.pools import Pool
from tunesmith_operator.settings import Images

Body = dict[str, Any]


@pytest.fixture
def facts(images: Images) -> Callable[..., Facts]:
    """Makes the facts of an endpoint; keyword arguments go over the spec."""

    def make(uri: str = "pvc://models/bot", *, model_bytes: int = 0, **spec: Any) -> Facts:
        whole = ModelEndpointSpec.model_validate({"source": {"uri": uri}, **spec})
        metadata = {"name": "chat", "namespace": "team", "uid": "u"}
        body = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": metadata}
        return Facts(body, whole, Served(uri, uri), model_bytes, Pool("cpu"), images)

    return make


def _pod(facts: Facts) -> Body:
    spec: Body = deployment(facts)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("uri", "volume", "mount"),
    [
        (
            "pvc://models/bots/v1",
            {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"mountPath": "/models/bots/v1", "subPath": "bots/v1"},
        ),
        (
            "pvc://models",
            {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"mountPath": "/models"},
        ),
        (
            "pvc://models/bot/",
            {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"mountPath": "/models/bot", "subPath": "bot"},
        ),
        (
            "oci://registry.example:5000/team/bot:v3",
            {"image": {"reference": "registry.example:5000/team/bot:v3", "pullPolicy": "IfNotPresent"}},
            {"mountPath": "/models"},
        ),
        (
            "oci://registry.example/team/bot@sha256:abc",
            {"image": {"reference": "registry.example/team/bot@sha256:abc", "pullPolicy": "IfNotPresent"}},
            {"mountPath": "/models"},
        ),
    ],
)
def test_the_model_is_mounted(facts: Callable[..., Facts], uri: str, volume: Body, mount: Body) -> None:
    """A claim's folder, or an image of a registry, is mounted read-only where the server is told to look."""
    pod = _pod(facts(uri))
    container = pod["containers"][0]
    assert pod["volumes"][0] == {"name": "model", **volume}
    assert container["volumeMounts"][0] == {"name": "model", "readOnly": True, **mount}
    assert container["args"][0] == mount["mountPath"]


def test_a_server_is_withdrawn_before_it_stops(facts: Callable[..., Facts]) -> None:
    """The server gets SIGTERM only after its endpoint is withdrawn, and time for the sleep, the drain and its end."""
    pod = _pod(facts())
    container = pod["containers"][0]
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(container["args"][container["args"].index("--drain-seconds") + 1])
    assert sleep == 5
    assert pod["terminationGracePeriodSeconds"] > sleep + drain


def test_probes(facts: Callable[..., Facts]) -> None:
    """Readiness and start ask whether the model is loaded; liveness does not, and waits for the start."""
    container = _pod(facts())["containers"][0]
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert paths == {
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
        "startupProbe": "/health/ready",
    }
    start = container["startupProbe"]
    assert start["failureThreshold"] * start["periodSeconds"] >= 900
    assert {container[name]["httpGet"]["port"] for name in paths} == {container["ports"][0]["name"]}


def test_memory_follows_the_model(facts: Callable[..., Facts]) -> None:
    """A server asks for a base and twice its model, unless compute.resources says otherwise."""
    plain = _pod(facts(model_bytes=2**30))["containers"][0]["resources"]
    assert plain == {"requests": {"cpu": "250m", "memory": "3072Mi"}, "limits": {"memory": "3072Mi"}}
    stated = facts(model_bytes=2**30, compute={"resources": {"cpu": "2", "memory": "5Gi"}})
    resources = _pod(stated)["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "2", "memory": "5120Mi"}, "limits": {"memory": "5120Mi"}}


def test_runtime_settings_are_flags(facts: Callable[..., Facts]) -> None:
    """Each setting of spec.runtime is a flag of the server."""
    runtime = {
        "maxConcurrency": 3,
        "maxContext": 512,
        "maxQueue": 7,
        "executionProviders": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "providerPolicy": "Prefer",
    }
    arguments = _pod(facts(runtime=runtime))["containers"][0]["args"]
    flags = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert flags == {
        "--served-model-name": "chat",
        "--max-concurrency": "3",
        "--max-context": "512",
        "--max-queue": "7",
        "--providers": "CUDAExecutionProvider,CPUExecutionProvider",
        "--provider-policy": "Prefer",
        "--drain-seconds": "30",
    }


def test_pull_secrets(facts: Callable[..., Facts]) -> None:
    """The operator's pull secrets are the pod's, for the server's image and for an image that is the model."""
    one = facts()
    assert "imagePullSecrets" not in _pod(one)
    private = Images("t", "s", "Always", ("pull", "other"))
    pod = _pod(Facts(one.body, one.spec, one.model, 0, one.pool, private))
    assert pod["imagePullSecrets"] == [{"name": "pull"}, {"name": "other"}]
    assert (pod["containers"][0]["image"], pod["containers"][0]["imagePullPolicy"]) == ("s", "Always")


@pytest.mark.parametrize(
    ("replicas", "kinds"),
    [
        ({}, set()),
        ({"min": 0}, set()),
        ({"min": 0, "max": 3}, set()),
        ({"min": 1, "max": 1}, set()),
        ({"min": 1, "max": 3}, {"HorizontalPodAutoscaler"}),
        ({"min": 2}, {"PodDisruptionBudget"}),
        ({"min": 2, "max": 3}, {"HorizontalPodAutoscaler", "PodDisruptionBudget"}),
    ],
)
def test_what_scales_and_guards(facts: Callable[..., Facts], replicas: Body, kinds: set[str]) -> None:
    """An autoscaler comes with a range of replicas, a disruption budget with two servers or more."""
    found = {one["kind"]: one for one in children(facts(replicas=replicas))}
    assert set(found) == {"Service", "Deployment", *kinds}
    for one in found.values():
        assert one["metadata"]["ownerReferences"][0]["uid"] == "u"
        assert one["metadata"]["ownerReferences"][0]["controller"] is True
    scaler = found.get("HorizontalPodAutoscaler")
    if scaler is not None:
        assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (replicas["min"], replicas["max"])
        assert scaler["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    budget = found.get("PodDisruptionBudget")
    if budget is not None:
        assert budget["spec"]["selector"] == found["Deployment"]["spec"]["selector"]
        assert budget["spec"]["maxUnavailable"] == 1
    assert found["Service"]["spec"]["selector"].items() <= _labels(found["Deployment"]).items()


def _labels(live: Body) -> Body:
    labels: Body = live["spec"]["template"]["metadata"]["labels"]
    return labels
