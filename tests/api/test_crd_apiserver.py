"""The CustomResourceDefinitions on a real API server: defaults, rules, immutability, pruning, explain, scale."""

import copy
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith_api.clashes import CLASHES, Clash, clash_rule
from tunesmith_api.crd import crd
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.misfits import refusals
from tunesmith_api.resource import API_VERSION, KINDS, FineTuneJob, ModelEndpoint
from tunesmith_api.techniques import PEFT_FAMILY, TECHNIQUES
from tunesmith_api.uri import Scheme

pytestmark = pytest.mark.apiserver

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "crd-tests"

BASES: dict[str, dict[str, Any]] = {
    "FineTuneJob": {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://data/train.jsonl"}}},
    "ModelEndpoint": {"source": {"job": "tickets"}},
    "ComputePool": {"class": "CPU"},
}

URI = "uri must start with one of"
ONE_MODEL = "set exactly one of preset, uri"
ONE_EVALUATION = "set exactly one of fraction, uri"
ONE_SOURCE = "set exactly one of uri, job, latest"
ONE_POOL = "set compute.pool or compute.class, not both"
REPLICAS = "replicas.max must not be below replicas.min"
STEPS = "rollout.steps goes with strategy Canary"
DECOMPOSED = "technique.lora.weightDecomposed goes with type DoRA or QLoRA"
DEEPSPEED = {"strategy": "DeepSpeed"}
BAD_REPLICAS = {"min": 3, "max": 2}
BAD_COMPUTE = {"pool": "gpu", "class": "GPU"}
BAD_ROLLOUT = {"strategy": "Replace", "steps": [{"weight": 10}]}
BAD_ADAPTERS = [{"name": "a", "uri": "ftp://host/a"}]

#: kind, path of the value below spec, a value that breaks the rule, the rule's message.
VIOLATIONS: list[tuple[str, str, Any, str]] = [
    ("FineTuneJob", "model", {}, ONE_MODEL),
    ("FineTuneJob", "model", {"preset": "a", "uri": "hf://org/repo"}, ONE_MODEL),
    ("FineTuneJob", "model", {"uri": "ftp://host/file"}, URI),
    ("FineTuneJob", "dataset.train", {"uri": "/data/train.jsonl"}, URI),
    ("FineTuneJob", "dataset.evaluation", {}, ONE_EVALUATION),
    ("FineTuneJob", "dataset.evaluation", {"fraction": 0.1, "uri": "pvc://claim/a"}, ONE_EVALUATION),
    ("FineTuneJob", "dataset.evaluation", {"uri": "ftp://host/file"}, URI),
    ("FineTuneJob", "technique", {"type": "Full", "lora": {}}, "technique.lora goes with type"),
    ("FineTuneJob", "technique", {"type": "PEFT"}, "technique.peft goes with type PEFT"),
    ("FineTuneJob", "technique", {"type": "LoRA", "peft": {"method": "IA3"}}, "technique.peft goes with type PEFT"),
    ("FineTuneJob", "technique", {"type": "LoRA", "goal": "Balanced"}, "technique.goal goes with type Auto only"),
    (
        "FineTuneJob",
        "technique",
        {"goal": "LowestMemory", "lora": {"rank": 4}},
        "technique.lora says what technique.goal would choose",
    ),
    ("FineTuneJob", "technique", {"type": "LoRA", "quantization": {}}, "technique.quantization goes with type QLoRA"),
    ("FineTuneJob", "technique", {"type": "LoRA", "full": {}}, "technique.full goes with type Full"),
    ("FineTuneJob", "technique", {"type": "LoRA", "lora": {"weightDecomposed": True}}, DECOMPOSED),
    ("FineTuneJob", "distribution", {"strategy": "None", "workers": 2}, "strategy None is one process"),
    ("FineTuneJob", "distribution", {"zeroStage": 3}, "zeroStage goes with strategy DeepSpeed"),
    ("FineTuneJob", "distribution", {"offload": "All"}, "offload goes with strategy DeepSpeed"),
    ("FineTuneJob", "distribution", {**DEEPSPEED, "zeroStage": 0, "offload": "Optimizer"}, "offload Optimizer needs"),
    ("FineTuneJob", "distribution", {**DEEPSPEED, "offload": "All"}, "offload All moves the weights too"),
    ("FineTuneJob", "tracking", [{"type": "MLflow"}], "tracking of type MLflow needs uri"),
    ("FineTuneJob", "tracking", [{"type": "TensorBoard", "experiment": "a"}], "uri, experiment and secretRef are for"),
    ("FineTuneJob", "tracking", [{"type": "MLflow", "uri": "ftp://mlflow"}], "uri must start with one of http://"),
    ("FineTuneJob", "tracking", [{"type": "MLflow", "uri": "http://me:word@mlflow"}], "name it in secretRef"),
    ("FineTuneJob", "compute", BAD_COMPUTE, ONE_POOL),
    ("FineTuneJob", "evaluation.gates", [{"metric": "exact_match"}], "a gate needs min, max or maxRegression"),
    ("FineTuneJob", "output", {"uri": "job://other"}, URI),
    ("FineTuneJob", "serve.compute", BAD_COMPUTE, ONE_POOL),
    ("FineTuneJob", "serve.replicas", BAD_REPLICAS, REPLICAS),
    ("FineTuneJob", "serve.adapters", BAD_ADAPTERS, URI),
    ("FineTuneJob", "serve.rollout", BAD_ROLLOUT, STEPS),
    ("ModelEndpoint", "source", {}, ONE_SOURCE),
    ("ModelEndpoint", "source", {"job": "a", "uri": "pvc://claim/a"}, ONE_SOURCE),
    ("ModelEndpoint", "source", {"uri": "file:///tmp/model"}, URI),
    ("ModelEndpoint", "compute", BAD_COMPUTE, ONE_POOL),
    ("ModelEndpoint", "replicas", BAD_REPLICAS, REPLICAS),
    ("ModelEndpoint", "adapters", BAD_ADAPTERS, URI),
    ("ModelEndpoint", "rollout", BAD_ROLLOUT, STEPS),
    ("ComputePool", "class", "GPU", "a pool of class GPU or FPGA needs device.resource"),
    ("ComputePool", "device", {"resource": "nvidia.com/gpu"}, "a pool of class CPU has no device"),
]

#: path below spec, a value that the field does not take, what the server says about it.
OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("task", "Chatting", 'supported values: "TextGeneration", "Chat"'),
    ("dataset.evaluation", {"fraction": 1}, "should be less than 1"),
    ("dataset.evaluation", {"fraction": 0}, "should be greater than 0"),
    ("technique", {"lora": {"rank": 0}}, "should be greater than or equal to 1"),
    ("training.learningRate", 0, "should be greater than 0"),
    ("training.learningRate", "2e-4", 'must be of type number: "string"'),
    ("training.maxSequenceLength", 4, "should be greater than or equal to 8"),
    ("compute.pool", "Not_A_Name", "should match"),
    ("compute.resources", {"memory": "lots"}, "should match"),
    ("evaluation.gates", [{"metric": "exact_match", "min": 0.1}] * 17, "must have at most 16 items"),
]

#: path below spec, a new value: each immutable field of a FineTuneJob.
CHANGES: dict[str, Any] = {
    "model": {"preset": "phi-4"},
    "task": "TextGeneration",
    "dataset": {"train": {"uri": "configmap://data/other.jsonl"}},
    "technique": {"type": "LoRA"},
    "distribution": {"workers": 2},
    "training": {"epochs": 4},
    "compute": {"class": "CPU"},
    "evaluation": {"gates": [{"metric": "exact_match", "min": 0.5}]},
    "export": {"precision": "Exact"},
    "output": {"uri": "pvc://claim/model"},
    "workspace": {"size": "1Gi"},
    "tracking": [{"type": "TensorBoard"}],
    "serve": {},
    "queue": {"localQueue": "team-a"},
    "backoffLimit": 1,
    "activeDeadlineSeconds": 60,
}


def manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object of ours."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def base_with(kind: str, path: str, value: Any) -> dict[str, Any]:
    """The kind's minimal spec with one value set at a dotted path."""
    spec = copy.deepcopy(BASES[kind])
    node = spec
    *parents, last = path.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return spec


def example_of(clash: Clash) -> dict[str, Any]:
    """A spec that has this clash and no other."""
    spec = clash.example()
    technique = spec.get("technique", {})
    if technique.get("type") == "PEFT":
        technique.setdefault("peft", {"method": "IA3"})
    method = technique.get("peft", {}).get("method")
    if method and not PEFT_FAMILY[method].merges:
        spec.setdefault("export", {"format": "Adapter"})
    return spec


class Kubectl:
    """kubectl in the test's own namespace of the API server."""

    def __init__(self, kubeconfig: Path) -> None:
        tools = kubeconfig.parents[2] / "bin"
        self._environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        self._command = ["kubectl", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE]

    def __call__(self, *arguments: str, stdin: object = None) -> "subprocess.CompletedProcess[str]":
        text = stdin if stdin is None or isinstance(stdin, str) else json.dumps(stdin)
        command = [*self._command, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, env=self._environment, check=False)

    def ok(self, *arguments: str, stdin: object = None) -> str:
        """The standard output of a command that must succeed."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, stdin: object = None) -> str:
        """The standard error of a command that must fail, on one line."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return re.sub(r"\s+", " ", done.stderr)


@pytest.fixture(scope="module")
def kubectl(apiserver: Any) -> Iterator[Kubectl]:
    """Kubectl on an API server that has the CRDs, with a namespace of its own."""
    command = Kubectl(apiserver.kubeconfig)
    command.ok("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    command.ok("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
    command.ok("create", "namespace", NAMESPACE)
    yield command
    command.ok("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def job(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a minimal job that exists while the test runs."""
    name = "job-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-50:]
    kubectl.ok("create", "-f", "-", stdin=manifest("FineTuneJob", name, BASES["FineTuneJob"]))
    yield name
    kubectl.ok("delete", "ftj", name)


def dry_run(kubectl: Kubectl, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The object as the server would store it."""
    text = kubectl.ok("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=manifest(kind, "dry", spec))
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_server_accepts_the_crds_without_complaint(kubectl: Kubectl) -> None:
    """Schemas are structural and every rule stays within the CEL cost limits."""
    for kind in KINDS.values():
        conditions = json.loads(kubectl.ok("get", "crd", crd(kind)["metadata"]["name"], "-o", "json"))["status"]
        states = {condition["type"]: condition["status"] for condition in conditions["conditions"]}
        assert states == {"NamesAccepted": "True", "Established": "True"}


def test_the_server_applies_the_defaults_of_the_types(kubectl: Kubectl) -> None:
    """A stored object carries what pydantic would fill in, nested defaults included."""
    stored = dry_run(kubectl, "FineTuneJob", {**BASES["FineTuneJob"], "serve": {}})
    expected = FineTuneJob.model_validate(manifest("FineTuneJob", "dry", {**BASES["FineTuneJob"], "serve": {}}))
    assert stored["spec"] == expected.spec.wire()


def test_defaults_reach_into_partly_filled_objects(kubectl: Kubectl) -> None:
    """A person who sets one field of an object gets the defaults of the others."""
    stored = dry_run(kubectl, "ModelEndpoint", {**BASES["ModelEndpoint"], "replicas": {"max": 4}})
    expected = ModelEndpoint.model_validate(manifest("ModelEndpoint", "dry", stored["spec"]))
    assert stored["spec"]["replicas"] == {"min": 1, "max": 4, "targetCpuPercent": 80}
    assert stored["spec"] == expected.spec.wire()


@pytest.mark.parametrize(("kind", "path", "value", "message"), VIOLATIONS)
def test_a_rule_rejects_what_breaks_it(kubectl: Kubectl, kind: str, path: str, value: Any, message: str) -> None:
    """The server answers a violation with the rule's own sentence."""
    wrong = manifest(kind, "wrong", base_with(kind, path, value))
    assert message in kubectl.refused("create", "--dry-run=server", "-f", "-", stdin=wrong)


@pytest.mark.parametrize("clash", CLASHES, ids=lambda clash: clash.message.partition(";")[0])
def test_fields_that_cannot_go_together_are_refused_when_the_job_is_applied(kubectl: Kubectl, clash: Clash) -> None:
    """The server says the sentence that the command line says."""
    spec = {**BASES["FineTuneJob"], **example_of(clash)}
    assert refusals(FineTuneJobSpec.model_validate(spec)) == [clash.message]
    error = kubectl.refused("create", "--dry-run=server", "-f", "-", stdin=manifest("FineTuneJob", "wrong", spec))
    assert clash.message in error


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_technique_is_applied_as_its_example_says(kubectl: Kubectl, name: str) -> None:
    """No clash stands against what the table offers, alone or with as many processes as DDP has."""
    row = TECHNIQUES[name]
    export = {"format": "ONNX" if row.merges else "Adapter"}
    for distribution in ({}, {"strategy": "DDP", "workers": 2}):
        spec = {"technique": dict(row.example), "export": export, "distribution": distribution}
        dry_run(kubectl, "FineTuneJob", {**BASES["FineTuneJob"], **spec})


def test_the_table_has_a_row_for_each_rule() -> None:
    """A new rule needs a row above."""
    for kind in KINDS.values():
        schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for path, message in _rules(schema, ""):
            rows = [row for row in VIOLATIONS if row[0] == kind.name and path.startswith(row[1]) and row[3] in message]
            generated = message == clash_rule().message  # has a test of its own, with a row for each clash
            assert rows or generated or "is immutable" in message, f"{kind.name} {path}: {message}"


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield f"{path}{rule.get('fieldPath', '')}".lstrip("."), rule["message"]
    for name, child in schema.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}")
    if "items" in schema:
        yield from _rules(schema["items"], path)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_data_set_may_lie_anywhere(kubectl: Kubectl, scheme: Scheme) -> None:
    """Every scheme of the contract passes the URI rule."""
    uri = {Scheme.FILE: "file:///data/a"}.get(scheme, f"{scheme}://name/a")
    stored = dry_run(kubectl, "FineTuneJob", base_with("FineTuneJob", "dataset.train.uri", uri))
    assert stored["spec"]["dataset"]["train"]["uri"] == uri


@pytest.mark.parametrize(("path", "value", "message"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_named(kubectl: Kubectl, path: str, value: Any, message: str) -> None:
    """The server names the field and the range."""
    wrong = manifest("FineTuneJob", "wrong", base_with("FineTuneJob", path, value))
    error = kubectl.refused("create", "--dry-run=server", "-f", "-", stdin=wrong)
    assert message in error
    assert f"spec.{path.split('.', maxsplit=1)[0]}" in error


@pytest.mark.parametrize("name", ["a" * 56, "with.dot", "1st"])
@pytest.mark.parametrize("kind", ["FineTuneJob", "ModelEndpoint"])
def test_a_name_that_children_cannot_carry_is_refused(kubectl: Kubectl, kind: str, name: str) -> None:
    """A Service's name has no dot and starts with a letter; a stage's Job needs room behind the name."""
    wrong = manifest(kind, name, BASES[kind])
    assert "metadata.name" in kubectl.refused("create", "--dry-run=server", "-f", "-", stdin=wrong)


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_of_a_job_cannot_change(kubectl: Kubectl, job: str, field: str) -> None:
    """A change of any field but suspend and ttlSecondsAfterFinished is refused by name, also an added one."""
    patch = json.dumps({"spec": {field: CHANGES[field]}})
    error = kubectl.refused("patch", "ftj", job, "--type=merge", "-p", patch)
    assert f"spec.{field} is immutable: a FineTuneJob runs once, so create a new one" in error


def test_an_optional_field_cannot_go(kubectl: Kubectl) -> None:
    """Removing an immutable optional field is a change, too."""
    spec = {**BASES["FineTuneJob"], "queue": {"localQueue": "team-a"}}
    kubectl.ok("create", "-f", "-", stdin=manifest("FineTuneJob", "queued", spec))
    error = kubectl.refused("patch", "ftj", "queued", "--type=merge", "-p", '{"spec":{"queue":null}}')
    assert "spec.queue is immutable" in error


def test_suspend_and_ttl_may_change(kubectl: Kubectl, job: str) -> None:
    """A running job can be suspended, resumed and given a time to live."""
    for patch in ({"suspend": True}, {"suspend": False, "ttlSecondsAfterFinished": 60}, {"ttlSecondsAfterFinished": 5}):
        kubectl.ok("patch", "ftj", job, "--type=merge", "-p", json.dumps({"spec": patch}))
    assert json.loads(kubectl.ok("get", "ftj", job, "-o", "json"))["spec"]["ttlSecondsAfterFinished"] == 5


def test_the_same_manifest_applies_again(kubectl: Kubectl, job: str) -> None:
    """Defaults that the server added do not count as a change."""
    kubectl.ok("apply", "--server-side", "-f", "-", stdin=manifest("FineTuneJob", job, BASES["FineTuneJob"]))


@pytest.mark.parametrize(("mode", "check"), [("strict", "refused"), ("ignore", "ok")])
def test_an_unknown_field_is_refused_or_pruned(kubectl: Kubectl, mode: str, check: str) -> None:
    """Strict validation names the unknown field; without it the server drops the field."""
    wrong = manifest("FineTuneJob", "typo", base_with("FineTuneJob", "training.learningrate", 0.1))
    command: Callable[..., str] = getattr(kubectl, check)
    said = command("create", "--dry-run=server", "-o", "json", f"--validate={mode}", "-f", "-", stdin=wrong)
    assert ('unknown field "spec.training.learningrate"' in said) == (mode == "strict")
    assert mode == "strict" or "learningrate" not in json.loads(said)["spec"]["training"]


def test_explain_speaks_the_docstrings(kubectl: Kubectl) -> None:
    """`kubectl explain` shows the sentences of the types, by short name."""
    text = re.sub(r"\s+", " ", kubectl.ok("explain", "ftj.spec.technique"))
    assert "How the weights are adapted." in text
    assert "What Auto optimises for; Balanced unless said otherwise." in text


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_short_names_and_columns(kubectl: Kubectl, kind: Any) -> None:
    """Each kind is listed by its short names, with its columns, and by the common category."""
    listing = kubectl.ok("api-resources", "--api-group=tunesmith.dev", "--no-headers", "--categories=tunesmith")
    assert re.search(rf"^{kind.plural}\s+{','.join(kind.short_names)}\s", listing, re.MULTILINE)
    name = f"columns-{kind.plural}"
    kubectl.ok("create", "-f", "-", stdin=manifest(kind.name, name, BASES[kind.name]))
    heading = kubectl.ok("get", kind.short_names[0], name, "-o", "wide").splitlines()[0]
    assert re.split(r"\s{2,}", heading.strip()) == ["NAME", *(column.name.upper() for column in kind.columns)]
    kubectl.ok("delete", kind.plural, name)


def test_scale_changes_the_least_number_of_servers(kubectl: Kubectl) -> None:
    """`kubectl scale` sets replicas.min, and the scale subresource reports status and selector."""
    kubectl.ok("create", "-f", "-", stdin=manifest("ModelEndpoint", "bot", BASES["ModelEndpoint"]))
    kubectl.ok("scale", "mep", "bot", "--replicas=3")
    status = json.dumps({"status": {"replicas": 2, "selector": "app=bot"}})
    kubectl.ok("patch", "mep", "bot", "--subresource=status", "--type=merge", "-p", status)
    scale = json.loads(kubectl.ok("get", "mep", "bot", "--subresource=scale", "-o", "json"))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"], scale["status"]["selector"]) == (3, 2, "app=bot")


def test_status_is_a_subresource(kubectl: Kubectl, job: str) -> None:
    """A person who writes the object does not write its status."""
    kubectl.ok("patch", "ftj", job, "--type=merge", "-p", '{"status":{"phase":"Succeeded"}}')
    assert "status" not in json.loads(kubectl.ok("get", "ftj", job, "-o", "json"))


def test_conditions_of_two_managers_live_side_by_side(kubectl: Kubectl, job: str) -> None:
    """Server-side apply merges conditions by their type."""
    for manager, kind in (("one", "Ready"), ("two", "Planned")):
        condition = {
            "type": kind,
            "status": "True",
            "reason": "Succeeded",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        applied = {**manifest("FineTuneJob", job, {}), "status": {"conditions": [condition]}}
        del applied["spec"]
        options = ("--server-side", f"--field-manager={manager}", "--subresource=status", "-f", "-")
        kubectl.ok("apply", *options, stdin=applied)
    conditions = json.loads(kubectl.ok("get", "ftj", job, "-o", "json"))["status"]["conditions"]
    assert [condition["type"] for condition in conditions] == ["Ready", "Planned"]


def test_the_documented_yaml_reads_as_numbers(kubectl: Kubectl) -> None:
    """`2e-4` in a manifest is a number to kubectl."""
    text = yaml.safe_dump(manifest("FineTuneJob", "dry", base_with("FineTuneJob", "training.learningRate", 0.5)))
    text = text.replace("learningRate: 0.5", "learningRate: 2e-4")
    stored = json.loads(kubectl.ok("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=text))
    assert stored["spec"]["training"]["learningRate"] == 0.0002
