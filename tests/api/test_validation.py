"""What a person reads about a document that is wrong."""

import copy
from typing import Any

import pytest

from tunesmith_api.validation import InvalidResourceError, parse_resource

JOB: dict[str, Any] = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "tickets"},
    "spec": {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://data/train.jsonl"}}},
}
ENDPOINT: dict[str, Any] = {**JOB, "kind": "ModelEndpoint", "spec": {"source": {"job": "tickets"}}}
POOL: dict[str, Any] = {**JOB, "kind": "ComputePool", "spec": {"class": "CPU"}}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A document with one value set at a dotted path."""
    result = copy.deepcopy(document)
    node = result
    *parents, last = path.split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return result


def problems(document: object) -> list[str]:
    """The lines that a person reads."""
    with pytest.raises(InvalidResourceError) as caught:
        parse_resource(document)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("document", [JOB, ENDPOINT, POOL], ids=lambda document: document["kind"])
def test_a_valid_document_becomes_its_resource(document: dict[str, Any]) -> None:
    """Each kind is read as its own type."""
    assert type(parse_resource(document)).__name__ == document["kind"]


#: document, path, value, and what the one line says.
WRONG: list[tuple[dict[str, Any], str, Any, tuple[str, ...]]] = [
    (JOB, "spec.dataset.formt", "Auto", ("spec.dataset.formt: unknown field; did you mean format?", "columns, eval")),
    (JOB, "spec.training.learning_rate", 1, ("did you mean learningRate?",)),
    (JOB, "spec.epochs", 3, ("spec.epochs: unknown field; did you mean spec.training.epochs?",)),
    (JOB, "spec.task", "chat", ("spec.task: 'chat' is not known; did you mean Chat?", "allowed: TextGeneration")),
    (JOB, "spec.technique.type", "lora", ("did you mean LoRA?",)),
    (
        JOB,
        "spec.evaluation.gates",
        [{"metric": "exact", "min": 1}],
        ("spec.evaluation.gates[0].metric:", "exact_match"),
    ),
    (JOB, "spec.evaluation.gates", [{"metric": "perplexity"}], ("a gate needs min, max or maxRegression",)),
    (JOB, "spec.training.batchSize", "8", ("spec.training.batchSize: input should be a valid integer (is '8')",)),
    (JOB, "spec.training.learningRate", "2e-4", ("input should be a valid number",)),
    (JOB, "spec.tracking", [{"type": "TensorBoard", "uri": "http://a"}], ("uri, experiment and secretRef are for",)),
    (JOB, "spec.tracking", [{"type": "TensorBoard", "secretRef": {"name": "a"}}], ("are for type MLflow",)),
    (JOB, "spec.tracking", [{"type": "MLflow", "uri": "ftp://mlflow"}], ("uri must start with one of http://",)),
    *[
        (JOB, "spec.tracking", [{"type": "MLflow", "uri": uri}], ("uri must not name a user", "name it in secretRef"))
        for uri in ("http://me:hunter2@mlflow:5000", "https://token@mlflow", "azureml://me:hun?ter2@region/mlflow")
    ],
    (JOB, "spec.technique.lora", {"rank": 0}, ("spec.technique.lora.rank", "greater than or equal to 1")),
    (JOB, "spec.dataset", {}, ("spec.dataset.train: is required",)),
    (JOB, "spec.model", {}, ("spec.model: set exactly one of preset, uri",)),
    (JOB, "spec.model.preset", "phi3-mini-4k", ("spec.model.preset: 'phi3-mini-4k'", "phi-3-mini-4k-instruct")),
    (JOB, "spec.queue", {"localQueue": "a"}, ("spec.queue: this field is not supported yet; leave it out",)),
    (JOB, "spec.dataset.train.uri", "configmap://a", ("spec.dataset.train.uri:", "write configmap://name/key")),
    (JOB, "spec.dataset.train.uri", "data.jsonl", ("spec.dataset.train: uri must start with one of",)),
    (JOB, "metadata", {"name": "Not_A_Name"}, ("metadata.name", "match pattern")),
    (JOB, "kind", "FinetuneJob", ("kind: 'FinetuneJob' is not known; did you mean FineTuneJob?",)),
    (JOB, "apiVersion", "tunesmith.dev/v1", ("apiVersion: 'tunesmith.dev/v1'", "tunesmith.dev/v1alpha1")),
    (ENDPOINT, "spec.source", {"uri": "oci://registry"}, ("spec.source.uri: 'oci://registry' is incomplete",)),
    (ENDPOINT, "spec.source", {"uri": "s3://bucket/a"}, ("spec.source.uri: s3://bucket/a is not supported yet",)),
    (ENDPOINT, "spec.rollout.strategy", "Canary", ("spec.rollout.strategy: Canary is not supported yet",)),
    (POOL, "spec.class", "GPU", ("spec: a pool of class GPU or FPGA needs device.resource",)),
]


@pytest.mark.parametrize(("document", "path", "value", "said"), WRONG)
def test_a_mistake_is_one_line_with_the_way_out(
    document: dict[str, Any], path: str, value: Any, said: tuple[str, ...]
) -> None:
    """The line names the field, what is wrong with it, and what to write instead."""
    (line,) = problems(changed(document, path, value))
    assert all(part in line for part in said), line


@pytest.mark.parametrize("uri", ["http://mlflow:5000", "https://mlflow/team@home", "azureml://region.api/mlflow/v1.0"])
def test_a_tracker_without_a_user_is_valid(uri: str) -> None:
    """An `@` behind the host names no user."""
    document = changed(JOB, "spec.tracking", [{"type": "MLflow", "uri": uri, "secretRef": {"name": "mlflow"}}])
    assert parse_resource(document).kind == "FineTuneJob"


def test_all_mistakes_are_told_at_once() -> None:
    """A person corrects a file once."""
    wrong = changed(changed(changed(JOB, "spec.tsk", 1), "spec.training.seed", -1), "spec.model.preset", "tiny-phi")
    assert [line.split(":")[0] for line in problems(wrong)] == ["spec.training.seed", "spec.tsk", "spec.model.preset"]


@pytest.mark.parametrize("document", [None, [], "text"])
def test_a_document_must_be_a_mapping(document: object) -> None:
    """Anything else is refused with what a document needs."""
    assert problems(document) == ["the document is no mapping with apiVersion, kind, metadata and spec"]
