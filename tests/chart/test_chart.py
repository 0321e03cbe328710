"""The chart's templates under several sets of values: policy, rights, schema, generated parts."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from tunesmith_api import KINDS
from tunesmith_api.crd import crd
from tunesmith_api.jobconfig import OWN_VARIABLES
from tunesmith_operator.kinds import BY_NAME, CHILDREN
from tunesmith_operator.settings import load_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/tunesmith"

#: Name to settings: what a platform engineer may ask for.
VALUE_SETS: dict[str, dict[str, Any]] = {
    "default": {},
    "namespaced": {"watchNamespaces": ["team-a", "team-b"], "nodeAccess": False},
    "available": {
        "replicas": 2,
        "podDisruptionBudget": {"create": True},
        "networkPolicy": {"create": True, "jobNamespaces": ["team-a"]},
        "metrics": {"podMonitor": True, "port": 9999},
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "platform"},
        "podAnnotations": {"note": "a"},
        "tolerations": [{"operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {"nodeAffinity": {}},
        "logging": {"level": "debug"},
    },
    "bring-your-own": {
        "images": {
            "operator": "registry.example/op@sha256:" + "a" * 64,
            "pullSecrets": ["pull"],
            "workloadPullSecrets": ["pull", "other"],
        },
        "crds": {"install": False},
        "defaultPool": {"create": False},
        "serviceAccount": {"create": False, "name": "existing"},
        "trainer": {"env": {"HF_ENDPOINT": "https://hub.example", "HTTPS_PROXY": 'http://me:$$w"$(HOME)<&>é@proxy'}},
        "metrics": {"service": False},
    },
    "priced": {
        "crds": {"keep": False},
        "defaultPool": {
            "name": "cheap",
            "pricePerHour": 0,
            "nodeSelector": {"pool": "cheap"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
        },
        "serviceAccount": {"annotations": {"role": "a"}},
    },
}

every_value_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)


def template(helm: Path, values: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Run `helm template`."""
    command = [helm, "template", "tunesmith", CHART, "--namespace", "tunesmith-system", "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


def render(helm: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object that the chart makes."""
    return _render(helm, json.dumps(values))


@cache
def _render(helm: Path, values: str) -> list[dict[str, Any]]:
    done = template(helm, json.loads(values))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def deployment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The operator's Deployment."""
    (found,) = of_kind(objects, "Deployment")
    return found


def environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    """The operator's environment as the kubelet makes it, with one $ of two; what it fills in is made up."""
    (container,) = deployment(objects)["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", "from-the-pod").replace("$$", "$") for one in container["env"]}


def rules(objects: list[dict[str, Any]], kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every rule of the roles of some kinds, but for the Lease's."""
    for role in objects:
        if role["kind"] in kinds and not role["metadata"]["name"].endswith("-lease"):
            yield from role["rules"]


def allows(granted: list[dict[str, Any]], group: str, resource: str, verb: str) -> bool:
    """Whether a list of rules grants a verb."""
    return any(
        group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"] for rule in granted
    )


@every_value_set
def test_every_object_is_named_and_labelled(helm: Path, values: dict[str, Any]) -> None:
    """No two objects share kind, namespace and name, and all carry the recommended labels."""
    objects = render(helm, values)
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    assert len(keys) == len(set(keys))
    assert all(one["metadata"]["labels"]["app.kubernetes.io/name"] == "tunesmith" for one in objects)


@every_value_set
def test_the_pod_is_restricted(helm: Path, values: dict[str, Any]) -> None:
    """The operator's pod keeps Pod Security `restricted`, a read-only root, resources and probes."""
    pod = deployment(render(helm, values))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])
        assert "memory" in container["resources"]["limits"]
        assert {"livenessProbe", "readinessProbe"} <= set(container)
        assert container["image"].rpartition("/")[2].count(":") == 1
    assert all(set(volume) == {"name", "emptyDir"} for volume in pod["volumes"])


@every_value_set
def test_no_right_is_a_wildcard_or_reads_secrets(helm: Path, values: dict[str, Any]) -> None:
    """Rights are spelt out, and Secrets, exec and impersonation are not among them."""
    for rule in rules(render(helm, values), ("Role", "ClusterRole")):
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert not {"secrets", "pods/exec", "pods/attach", "serviceaccounts"} & set(rule["resources"])
        assert not {"impersonate", "escalate", "bind", "deletecollection"} & set(rule["verbs"])


READ = ("get", "list", "watch")
WRITE = ("create", "patch", "delete")


def needed() -> Iterator[tuple[str, str, str]]:
    """Group, resource and verb of everything that the operator does in the namespaces of jobs."""
    for kind in CHILDREN:
        group = kind.api_version.rpartition("/")[0]
        yield from ((group, kind.plural, verb) for verb in (*READ, *WRITE))
    for name in ("FineTuneJob", "ModelEndpoint"):
        plural = BY_NAME[name].plural
        yield from (("tunesmith.dev", plural, verb) for verb in READ)
        yield ("tunesmith.dev", f"{plural}/status", "patch")
        yield ("tunesmith.dev", f"{plural}/finalizers", "update")
    yield ("tunesmith.dev", "finetunejobs", "delete")
    yield from (("", "pods", verb) for verb in READ)
    yield ("", "events", "create")


@pytest.mark.parametrize(("name", "kinds"), [("default", ("ClusterRole",)), ("namespaced", ("Role",))])
def test_what_the_operator_does_is_granted(helm: Path, name: str, kinds: tuple[str, ...]) -> None:
    """Each request that the operator makes has its right, in the whole cluster or in each named namespace."""
    objects = render(helm, VALUE_SETS[name])
    for namespace in VALUE_SETS[name].get("watchNamespaces", [None]):
        roles = [one for one in objects if namespace is None or one["metadata"].get("namespace") == namespace]
        granted = list(rules(roles, kinds))
        assert not [want for want in needed() if not allows(granted, *want)]


@pytest.mark.parametrize("name", ["default", "namespaced"])
def test_nothing_else_is_granted(helm: Path, name: str) -> None:
    """Every granted right is used: by the table above, or for pools and nodes."""
    extra = {("tunesmith.dev", "computepools", verb) for verb in READ}
    extra |= {("tunesmith.dev", "computepools/status", "patch")} | {("", "nodes", verb) for verb in READ}
    for rule in rules(render(helm, VALUE_SETS[name]), ("Role", "ClusterRole")):
        for group in rule["apiGroups"]:
            granted = {(group, resource, verb) for resource in rule["resources"] for verb in rule["verbs"]}
            assert granted <= extra | set(needed())


def test_namespaced_mode_leaves_the_cluster_alone(helm: Path) -> None:
    """With named namespaces and without node access, the ClusterRole holds nothing but pools."""
    granted = list(rules(render(helm, VALUE_SETS["namespaced"]), ("ClusterRole",)))
    assert {resource for rule in granted for resource in rule["resources"]} == {"computepools", "computepools/status"}


def test_the_lease_is_granted_where_it_lies(helm: Path) -> None:
    """The operator holds its Lease in the release's namespace."""
    (role,) = [one for one in of_kind(render(helm, {}), "Role") if one["metadata"]["name"].endswith("-lease")]
    assert role["metadata"]["namespace"] == "tunesmith-system"
    assert all(allows(role["rules"], "coordination.k8s.io", "leases", verb) for verb in ("get", "create", "update"))


@every_value_set
def test_every_binding_names_the_operators_account(helm: Path, values: dict[str, Any]) -> None:
    """Roles are bound to the account that the pod runs as, and each binding's role exists."""
    objects = render(helm, values)
    account = deployment(objects)["spec"]["template"]["spec"]["serviceAccountName"]
    roles = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects}
    bindings = of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding")
    assert bindings
    for binding in bindings:
        subject = {"kind": "ServiceAccount", "name": account, "namespace": "tunesmith-system"}
        assert binding["subjects"] == [subject]
        role = binding["roleRef"]
        assert (role["kind"], binding["metadata"].get("namespace"), role["name"]) in roles


@every_value_set
def test_the_operator_understands_its_environment(helm: Path, values: dict[str, Any]) -> None:
    """The settings that the operator reads from the pod's environment are the chart's values."""
    objects = render(helm, values)
    settings = load_settings(environment(objects))
    assert settings.watch_namespaces == tuple(values.get("watchNamespaces", ()))
    assert settings.node_access is values.get("nodeAccess", True)
    assert settings.log_level == values.get("logging", {}).get("level", "info").upper()
    assert settings.images.pull_secrets == tuple(values.get("images", {}).get("workloadPullSecrets", ()))
    assert settings.images.trainer == "tunesmith/trainer:0.1.0"
    assert dict(settings.trainer_env) == values.get("trainer", {}).get("env", {})
    (container,) = deployment(objects)["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": settings.metrics_port, "health": settings.health_port}


@every_value_set
def test_every_variable_is_one_that_the_operator_reads(helm: Path, values: dict[str, Any]) -> None:
    """A variable that the operator does not know would be ignored."""
    source = (ROOT / "operator/tunesmith_operator/settings.py").read_text()
    assert not [name for name in environment(render(helm, values)) if f'"{name}"' not in source]


@every_value_set
def test_crds_follow_their_switches(helm: Path, values: dict[str, Any]) -> None:
    """The CRDs are the generated ones, kept or not, or are left out."""
    crds = values.get("crds", {})
    found = {one["metadata"]["name"]: one for one in of_kind(render(helm, values), "CustomResourceDefinition")}
    expected = {crd(kind)["metadata"]["name"]: crd(kind)["spec"] for kind in KINDS.values()}
    assert {name: one["spec"] for name, one in found.items()} == (expected if crds.get("install", True) else {})
    for one in found.values():
        policy = one["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        assert policy == ("keep" if crds.get("keep", True) else None)


@every_value_set
def test_the_default_pool_is_valid(helm: Path, values: dict[str, Any]) -> None:
    """The pool that the chart makes is one that the API server accepts; a price of zero is a price."""
    pools = of_kind(render(helm, values), "ComputePool")
    wanted = values.get("defaultPool", {})
    assert len(pools) == (1 if wanted.get("create", True) else 0)
    for pool in pools:
        found = KINDS["ComputePool"].model.model_validate(pool).wire()
        assert found["metadata"]["name"] == wanted.get("name", "default")
        assert found["spec"].get("pricePerHour") == wanted.get("pricePerHour")


def test_optional_objects_are_made_when_asked(helm: Path) -> None:
    """Budget, monitor and policies appear with their switches only, and select the operator's pods."""
    plain, full = (render(helm, VALUE_SETS[name]) for name in ("default", "available"))
    labels = deployment(full)["spec"]["template"]["metadata"]["labels"]
    for kind in ("PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
        assert not of_kind(plain, kind)
        spec = of_kind(full, kind)[0]["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        assert selector["matchLabels"].items() <= labels.items()


def test_job_policies_close_the_metadata_service(helm: Path) -> None:
    """Job pods are reached by the operator only and do not reach link-local addresses."""
    (policy,) = [one for one in of_kind(render(helm, VALUE_SETS["available"]), "NetworkPolicy") if "jobs" in str(one)]
    assert policy["metadata"]["namespace"] == "team-a"
    assert policy["spec"]["podSelector"]["matchExpressions"][0]["key"] == "tunesmith.dev/stage"
    assert "169.254.0.0/16" in policy["spec"]["egress"][0]["to"][0]["ipBlock"]["except"]


@every_value_set
def test_objects_have_the_shape_of_their_kinds(helm: Path, values: dict[str, Any]) -> None:
    """Every field of the core objects is one that the Kubernetes client knows."""
    types = {"Deployment": client.V1Deployment, "Service": client.V1Service, "NetworkPolicy": client.V1NetworkPolicy}
    for one in render(helm, values):
        if one["kind"] in types:
            assert set(one["spec"]) <= set(_wire_names(types[one["kind"]]))


def _wire_names(kind: Any) -> list[str]:
    spec = getattr(client, kind.openapi_types["spec"])
    return list(spec.attribute_map.values())


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": -1}, "replicas"),
        ({"replicas": "two"}, "replicas"),
        ({"images": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"images": {"trainerImage": "a"}}, "trainerImage"),
        ({"watchNamespaces": "team-a"}, "watchNamespaces"),
        ({"watchNamespaces": ["Team A"]}, "watchNamespaces"),
        ({"metrics": {"port": 8080}}, "port"),
        ({"metrics": {"port": 80}}, "port"),
        ({"logging": {"level": "loud"}}, "level"),
        ({"defaultPool": {"pricePerHour": -1}}, "pricePerHour"),
        ({"operator": {"pollSeconds": 60}}, "pollSeconds"),
        ({"resources": {"limits": {}, "requets": {}}}, "requets"),
        ({"trainer": {"environment": {}}}, "environment"),
        ({"trainer": {"env": {"TUNESMITH_MAX_DOWNLOAD_BYTES": 5}}}, "TUNESMITH_MAX_DOWNLOAD_BYTES"),
        ({"trainer": {"env": {"A B": "c"}}}, "A B"),
        *[({"trainer": {"env": {name: "1"}}}, f"trainer/env/{name}") for name in OWN_VARIABLES],
    ],
)
def test_a_wrong_value_is_named(helm: Path, values: dict[str, Any], field: str) -> None:
    """Helm refuses what the schema does not allow, before anything is applied."""
    done = template(helm, values)
    assert done.returncode != 0
    assert field in done.stderr


def _paths(node: Any, path: str = "") -> Iterator[str]:
    if not isinstance(node, dict) or not node:
        yield path
        return
    for key, child in node.items():
        yield from _paths(child, f"{path}.{key}".lstrip("."))


def test_every_value_is_documented() -> None:
    """The README's table has a row for each value, or for the object that holds it."""
    readme = (CHART / "README.md").read_text()
    for path in _paths(yaml.safe_load((CHART / "values.yaml").read_text())):
        parts = path.split(".")
        assert any(f"| `{'.'.join(parts[:length])}` |" in readme for length in range(1, len(parts) + 1)), path


def test_the_readme_is_up_to_date(tmp_path: Path) -> None:
    """The README is what `make generate` writes."""
    code = "import runpy, sys; sys.stdout.write(runpy.run_path('charts/generate_readme.py')['readme']())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (CHART / "README.md").read_text()


def test_lint_has_no_warning(helm: Path) -> None:
    """`helm lint --strict` passes."""
    done = subprocess.run([helm, "lint", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.apiserver
@pytest.mark.parametrize("name", ["default", "namespaced"])
def test_a_real_api_server_takes_the_release(apiserver: Any, helm: Path, name: str) -> None:
    """Helm installs the chart where `restricted` is enforced, the account has its rights, and the CRDs stay."""
    namespace = f"chart-{name}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for one in (namespace, *VALUE_SETS[name].get("watchNamespaces", ())):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one, "labels": labels}}
        apiserver.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    run = partial(subprocess.run, capture_output=True, text=True, check=False)
    target = ("--namespace", namespace, "--kubeconfig", str(apiserver.kubeconfig))
    values = {**VALUE_SETS[name], "replicas": 0}
    flags = ("--values", "-", "--take-ownership", "--wait", "--timeout", "60s")
    done = run([helm, "install", "tunesmith", CHART, *target, *flags], input=json.dumps(values))
    assert done.returncode == 0, done.stderr
    try:
        where = VALUE_SETS[name].get("watchNamespaces", ["default"])[0]
        account = f"--as=system:serviceaccount:{namespace}:tunesmith"
        can = apiserver.kubectl("auth", "can-i", "--list", "-n", where, account)
        assert "finetunejobs.tunesmith.dev" in can
        assert "secrets" not in can
        apiserver.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(_pod(apiserver, namespace)))
        assert "default" in apiserver.kubectl("get", "pools")
    finally:
        gone = run([helm, "uninstall", "tunesmith", *target])
    assert gone.returncode == 0, gone.stderr
    assert "finetunejobs.tunesmith.dev" in apiserver.kubectl("get", "crd")
    apiserver.kubectl("delete", "pools", "default", "--ignore-not-found")


def _pod(apiserver: Any, namespace: str) -> dict[str, Any]:
    """The operator's pod as the Deployment would make it, for admission to judge."""
    made = json.loads(apiserver.kubectl("-n", namespace, "get", "deployment", "tunesmith", "-o", "json"))
    metadata = {"name": "probe", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]["template"]["spec"]}
