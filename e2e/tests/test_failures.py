"""Failures and sources on a real cluster: what the status says, what is tried again, and what never is served."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

import deploy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900, func_only=True)]

EXAMPLE = deploy.REPOSITORY / "examples" / "home-assistant"
NAMESPACE = "e2e-failures"
#: A training of seconds: what is tested is not what the model learns.
SHORT = {"maxSteps": 4, "batchSize": 4, "maxSequenceLength": 128, "precision": "FP32"}


@pytest.fixture(scope="module")
def tools(product: deploy.Tools) -> Iterator[deploy.Tools]:
    """The cluster, with a small data set in a namespace of its own."""
    product.create_namespace(NAMESPACE)
    product.apply(config_map("data", (EXAMPLE / "train.jsonl").read_text().splitlines()[:40]))
    yield product
    product.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def config_map(name: str, rows: list[str]) -> dict[str, Any]:
    """A ConfigMap with rows."""
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"rows.jsonl": "\n".join(rows)}}


def apply_job(tools: deploy.Tools, name: str, **fields: Any) -> None:
    """A short job on the small data set, with some fields of its spec replaced."""
    spec: dict[str, Any] = {
        "model": {"preset": "tiny-phi3"},
        "dataset": {"train": {"uri": "configmap://data/rows.jsonl"}},
        "training": copy.deepcopy(SHORT),
        "evaluation": {"generation": {"maxSamples": 4, "maxNewTokens": 8}},
        "export": {"precision": "Exact"},
        "backoffLimit": 0,
    }
    tools.apply(
        {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {**spec, **fields},
        }
    )


def wait_condition(tools: deploy.Tools, name: str, kind: str) -> dict[str, Any]:
    """The job's status once a condition is True."""

    def found() -> dict[str, Any] | None:
        job = tools.get("ftj", name, NAMESPACE)
        return job if deploy.condition(job, kind).get("status") == "True" else None

    return deploy.wait_until(f"{name} is {kind}", found, timeout_seconds=300)["status"]


def test_a_missed_gate_keeps_the_report_and_serves_nothing(tools: deploy.Tools) -> None:
    """Exit code 71 ends the job at once; the scores stay in the status and no endpoint is made."""
    gates = {"gates": [{"metric": "exact_match", "min": 0.99}], "generation": {"maxSamples": 4, "maxNewTokens": 8}}
    apply_job(tools, "gated", evaluation=gates, serve={}, backoffLimit=3)

    status = wait_condition(tools, "gated", "Stalled")

    assert status["failure"]["category"] == "GateFailed"
    assert status["failure"]["exitCode"] == 71
    assert "exact_match" in status["failure"]["message"]
    assert status["evaluation"]["tuned"]["perplexity"] > 0
    assert tools.get("mep", "gated", NAMESPACE) is None
    assert tools.get("job", "gated-export", NAMESPACE) is None


def test_a_training_without_enough_memory_is_told_so(tools: deploy.Tools) -> None:
    """The kernel's OOM kill becomes a category, the limit, and the fields that lower the need."""
    apply_job(tools, "hungry", compute={"resources": {"memory": "300Mi"}})

    status = wait_condition(tools, "hungry", "Stalled")

    assert status["failure"]["category"] == "OutOfMemory"
    assert "300Mi" in status["failure"]["message"]


def test_bad_rows_are_refused_by_number_before_training(tools: deploy.Tools) -> None:
    """Prepare names the rows; no train Job is ever made."""
    good = (EXAMPLE / "train.jsonl").read_text().splitlines()[:5]
    bad = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    tools.apply(config_map("broken", [*good, bad, bad]))
    apply_job(tools, "unreadable", dataset={"train": {"uri": "configmap://broken/rows.jsonl"}})

    status = wait_condition(tools, "unreadable", "Stalled")

    assert status["failure"]["category"] == "BadData"
    assert "row 6" in status["failure"]["message"]
    assert tools.get("job", "unreadable-train", NAMESPACE) is None


def test_a_job_waits_for_data_that_comes_later(tools: deploy.Tools) -> None:
    """A missing ConfigMap is named; once it is there the job goes on by itself."""
    apply_job(tools, "early", dataset={"train": {"uri": "configmap://late/rows.jsonl"}})
    status = wait_condition(tools, "early", "Stalled")
    stalled = next(found for found in status["conditions"] if found["type"] == "Stalled")
    assert stalled["reason"] == "InputNotFound"
    assert "late" in stalled["message"]

    tools.apply(config_map("late", (EXAMPLE / "train.jsonl").read_text().splitlines()[:40]))

    wait_condition(tools, "early", "Prepared")
    tools.kubectl("delete", "ftj", "early", "--namespace", NAMESPACE)


def test_a_model_published_to_a_claim_is_served_from_there(tools: deploy.Tools) -> None:
    """`output.uri: pvc://` and an endpoint's `source.uri: pvc://` meet on a claim of the user's own."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    endpoint = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": "published", "namespace": NAMESPACE},
        "spec": {"source": {"uri": "pvc://models/assistant"}},
    }
    tools.apply(claim)
    apply_job(tools, "publishing", output={"uri": "pvc://models/assistant"})
    status = wait_condition(tools, "publishing", "Ready")
    assert status["artifact"]["uri"] == "pvc://models/assistant"

    tools.apply(endpoint)

    def ready() -> bool:
        return deploy.condition(tools.get("mep", "published", NAMESPACE), "Ready").get("status") == "True"

    deploy.wait_until("the published model is served", ready, timeout_seconds=120)
    with deploy.port_forward(tools, NAMESPACE, "service/published") as url:
        assert isinstance(deploy.chat(url, "published", "turn on the lamp"), str)


def test_what_is_not_built_yet_is_refused_by_name(tools: deploy.Tools) -> None:
    """A capability of a later release is Stalled with NotSupported and the field, not ignored."""
    apply_job(tools, "ahead", queue={"localQueue": "team-a"})

    status = wait_condition(tools, "ahead", "Stalled")

    stalled = next(found for found in status["conditions"] if found["type"] == "Stalled")
    assert stalled["reason"] == "NotSupported"
    assert "spec.queue" in stalled["message"]
