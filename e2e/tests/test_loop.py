"""The closed loop on a real cluster: one applied job becomes an endpoint that answers what it learnt."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import pytest

import deploy
import jobs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900, func_only=True)]

EXAMPLE = deploy.REPOSITORY / "examples" / "home-assistant"
NAMESPACE = "e2e-loop"
NAME = "home-assistant"
#: Requests that are under way at the same time.
STREAMS = 4


@pytest.fixture(scope="module")
def served(product: deploy.Tools) -> Iterator[dict[str, Any]]:
    """The example's job, Ready; its servers make room for other tests at the end."""
    product.create_namespace(NAMESPACE)
    product.kubectl("apply", "--namespace", NAMESPACE, "--kustomize", str(EXAMPLE))

    def ready() -> dict[str, Any] | None:
        job = product.get("ftj", NAME, NAMESPACE)
        assert deploy.condition(job, "Stalled").get("status") != "True", json.dumps(job, indent=1)
        return job if deploy.condition(job, "Ready").get("status") == "True" else None

    yield deploy.wait_until(f"FineTuneJob {NAME} is Ready", ready, timeout_seconds=600)
    product.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def endpoint_url(product: deploy.Tools, served: dict[str, Any]) -> str:
    """The Service's address: kube-proxy serves this machine as it serves pods."""
    service = product.get("service", served["status"]["endpoint"], NAMESPACE)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


@pytest.fixture(scope="module")
def client(endpoint_url: str) -> Iterator[openai.OpenAI]:
    """The real OpenAI client, without retries: a lost request must show."""
    with openai.OpenAI(base_url=f"{endpoint_url}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


def rows() -> list[tuple[str, str]]:
    """Questions and reference answers that the model has not seen."""
    lines = (EXAMPLE / "test.jsonl").read_text().splitlines()
    messages = [json.loads(line)["messages"] for line in lines]
    return [(found[-2]["content"], found[-1]["content"]) for found in messages]


def ask(client: openai.OpenAI, question: str) -> str:
    """One greedy answer."""
    answer = client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=64
    )
    return answer.choices[0].message.content or ""


def test_the_endpoint_answers_what_the_model_learnt(client: openai.OpenAI, served: dict[str, Any]) -> None:
    """At least nine of ten unseen commands come back as the right action; the base model knows fewer than one."""
    pairs = rows()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pair: ask(client, pair[0]).strip(), pairs))

    right = sum(answer == reference.strip() for answer, (_, reference) in zip(answers, pairs, strict=True))
    assert right / len(pairs) >= 0.9
    assert served["status"]["evaluation"]["base"]["exactMatch"] < 0.1
    assert served["status"]["evaluation"]["exported"]["exactMatch"] == pytest.approx(right / len(pairs), abs=0.02)


def test_the_endpoint_streams(client: openai.OpenAI) -> None:
    """A streamed answer joins to the plain one."""
    question = rows()[0][0]

    with client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=64, stream=True
    ) as stream:
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]

    assert "".join(pieces) == ask(client, question)


def test_the_status_tells_the_whole_story(served: dict[str, Any]) -> None:
    """Plan, data, progress, evaluation, artefact and every stage's condition are in the status."""
    status = served["status"]

    assert status["observedGeneration"] == served["metadata"]["generation"]
    assert status["plan"]["technique"] == "LoRA"
    assert status["plan"]["reasons"]
    assert status["dataset"]["evaluationExamples"] == 200
    assert status["progress"]["step"] == status["progress"]["totalSteps"]
    assert status["artifact"]["parity"]["maxLogitDifference"] <= 1e-4
    assert all(gate["passed"] for gate in status["evaluation"]["gates"])
    for kind in ("Planned", "Prepared", "Trained", "Evaluated", "Exported", "Serving", "Ready"):
        assert deploy.condition(served, kind)["status"] == "True", kind
    for kind in ("Reconciling", "Stalled"):
        assert deploy.condition(served, kind) == {}, kind


@pytest.mark.usefixtures("served")
def test_events_name_every_phase(product: deploy.Tools) -> None:
    """`kubectl describe` shows one event for each phase that the job went through."""
    described = product.kubectl("describe", "ftj", NAME, "--namespace", NAMESPACE)

    for phase in ("Preparing", "Training", "Exporting", "Succeeded"):
        assert phase in described.partition("Events:")[2], phase


@pytest.mark.usefixtures("served")
def test_the_table_shows_job_endpoint_and_pool(product: deploy.Tools) -> None:
    """`kubectl get ftj,mep,pools` prints phases, the URL and the default pool."""
    table = product.kubectl("get", "ftj,mep,pools", "--namespace", NAMESPACE)

    assert "Succeeded" in table
    assert f"http://{NAME}.{NAMESPACE}.svc" in table
    assert "CPU" in table


@pytest.mark.usefixtures("served")
def test_a_server_edited_by_hand_is_restored(product: deploy.Tools) -> None:
    """A Deployment that somebody scales or a Service that somebody deletes comes back as declared."""
    uid = product.get("service", NAME, NAMESPACE)["metadata"]["uid"]
    product.kubectl("scale", "deployment", f"{NAME}-server", "--replicas", "0", "--namespace", NAMESPACE)
    product.kubectl("delete", "service", NAME, "--namespace", NAMESPACE)

    def restored() -> bool:
        deployment = product.get("deployment", f"{NAME}-server", NAMESPACE)
        service = product.get("service", NAME, NAMESPACE)
        return bool(
            service
            and service["metadata"]["uid"] != uid
            and deployment
            and deployment["spec"]["replicas"] == 1
            and deployment["status"].get("readyReplicas") == 1
        )

    assert deploy.wait_until("the endpoint's children are back", restored, timeout_seconds=60)


@dataclass(frozen=True)
class Pair:
    """An endpoint with two servers, both of which answer.

    Attributes:
        url: its API.
        pods: its servers.
    """

    url: str
    pods: list[dict[str, Any]]


@pytest.fixture
def pair(product: deploy.Tools, served: dict[str, Any]) -> Pair:
    """An endpoint of the user's own: that of the job has one server, as the job says."""
    del served
    own = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": "pair", "namespace": NAMESPACE},
        "spec": {"source": {"job": NAME}, "replicas": {"min": 2}},
    }
    product.apply(own)
    selector = "tunesmith.dev/owner-kind=ModelEndpoint,tunesmith.dev/owner-name=pair"

    def both() -> list[dict[str, Any]] | None:
        pods = product.items("pods", NAMESPACE, selector)
        ready = [pod for pod in pods if deploy.condition(pod, "Ready").get("status") == "True"]
        return ready if len(pods) == len(ready) == 2 else None

    pods = deploy.wait_until("two servers are ready", both, timeout_seconds=120)
    service = product.get("service", "pair", NAMESPACE)
    url = f"http://{service['spec']['clusterIP']}/v1"
    deploy.wait_until(
        "kube-proxy sends requests to both servers",
        lambda: knock(url) and all(answered(pod) for pod in pods),
        timeout_seconds=60,
        every_seconds=0.05,
    )
    return Pair(url, pods)


def test_a_deleted_server_fails_no_request(product: deploy.Tools, pair: Pair) -> None:
    """A server that is deleted under load answers what it has begun, and gets no more: nothing is lost."""
    name = pair.pods[0]["metadata"]["name"]
    failures = load_while(
        pair.url, lambda: product.kubectl("delete", "pod", name, "--namespace", NAMESPACE, "--wait=false")
    )

    assert failures == []


def test_a_killed_server_fails_no_request_but_those_in_flight(pair: Pair) -> None:
    """A server that is killed (SIGKILL) under load costs at most the requests that it was answering.

    The client tries again what was refused, as the OpenAI client does by default: until the kubelet has seen the end of
    the process, kube-proxy still sends it new connections.
    """
    failures = load_while(pair.url, lambda: jobs.kill_hard(pair.pods[0], "tunesmith_server"), retries=2)

    assert len(failures) <= STREAMS


def knock(url: str) -> bool:
    """Sends one request; whether it was answered, which it is not before kube-proxy knows the Service."""
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=10) as fresh:
        try:
            fresh.chat.completions.create(model="pair", messages=[{"role": "user", "content": "hello"}], max_tokens=1)
        except openai.APIConnectionError:
            return False
    return True


def answered(pod: dict[str, Any]) -> bool:
    """Whether a server has answered a chat request, by its own count."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8080/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("tunesmith_requests_total") and 'outcome="success"' in line]
    return any(float(line.rpartition(" ")[2]) > 0 for line in counts)


def load_while(url: str, disturb: Callable[[], object], *, retries: int = 0, seconds: float = 12) -> list[str]:
    """The failures that some request loops saw while something was disturbed a third of the way in."""
    stop = threading.Event()
    failures: list[str] = []
    answered = [0] * STREAMS
    question = rows()[0][0]

    def loop(stream: int) -> None:
        while not stop.is_set():
            with openai.OpenAI(base_url=url, api_key="unused", max_retries=retries, timeout=30) as fresh:
                try:
                    fresh.chat.completions.create(
                        model="pair", messages=[{"role": "user", "content": question}], temperature=0, max_tokens=64
                    )
                    answered[stream] += 1
                except openai.OpenAIError as error:
                    failures.append(repr(error))

    threads = [threading.Thread(target=loop, args=(stream,)) for stream in range(STREAMS)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    deploy.wait_until("requests flow", lambda: sum(answered) >= 2 * STREAMS, timeout_seconds=30)
    disturb()
    stop.wait(max(1.0, deadline - time.monotonic()))
    stop.set()
    for thread in threads:
        thread.join()
    assert sum(answered) > 4 * STREAMS
    return failures
