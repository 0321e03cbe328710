"""Tests of a server process's life: start, overload, disconnects, drain, refusal to start."""

import json
import signal

import httpx
import openai
import pytest

ENDLESS = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "turn on the light"}],
    "max_tokens": 8000,
    "temperature": 0,
    "logit_bias": {"3": -100},
    "stream": True,
}
SHORT = {**ENDLESS, "max_tokens": 2, "stream": False}
BUSY = ("--served-model-name", "tiny", "--max-context", "8192", "--max-concurrency", "1")


def started(http, server, body):
    """A streamed request of which the first event has come: its lines and its response."""
    response = http.send(http.build_request("POST", f"{server.url}/v1/chat/completions", json=body), stream=True)
    lines = response.iter_lines()
    assert next(lines).startswith("data: ")
    return response, lines


def post(server, body):
    """A plain request."""
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def test_a_full_queue_is_answered_with_429_and_a_disconnect_frees_the_slot(serve, plain):
    """With no place left the client is told when to come back; when a client leaves, its slot is free at once."""
    with serve(plain, *BUSY, "--max-queue", "0") as server, httpx.Client(timeout=60) as http:
        response, _ = started(http, server, ENDLESS)
        refused = post(server, SHORT)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "queue_full"
        response.close()
        server.wait_until(lambda: server.metric("tunesmith_requests_running") == 0)
        assert post(server, SHORT).status_code == 200
        samples = httpx.get(f"{server.url}/metrics").text.splitlines()
        requests = {line.split(" ")[0] for line in samples if line.startswith("tunesmith_requests_total")}
        assert {
            outcome for outcome in ("success", "rejected", "cancelled") if f'outcome="{outcome}"' in str(requests)
        } == {
            "success",
            "rejected",
            "cancelled",
        }


def test_the_client_retries_after_429(serve, plain):
    """OpenAI's client waits as it is told and then succeeds."""
    with serve(plain, *BUSY, "--max-queue", "0") as server, httpx.Client(timeout=60) as http:
        response, _ = started(http, server, ENDLESS)
        attempts = []

        def leave_after_the_first(refused):
            attempts.append(refused.status_code)
            if refused.status_code == 429:
                response.close()

        hooked = httpx.Client(event_hooks={"response": [leave_after_the_first]})
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", http_client=hooked, max_retries=5) as client:
            client.chat.completions.create(**SHORT)
        assert attempts[0] == 429
        assert attempts[-1] == 200


def test_a_waiting_request_that_is_not_streamed_is_dropped_when_its_client_leaves(serve, plain):
    """A request in the queue whose client is gone never runs."""
    with serve(plain, *BUSY, "--max-queue", "1") as server, httpx.Client(timeout=60) as http:
        response, _ = started(http, server, ENDLESS)
        with httpx.Client(timeout=httpx.Timeout(60, read=0.2)) as impatient, pytest.raises(httpx.ReadTimeout):
            impatient.post(f"{server.url}/v1/chat/completions", json=SHORT)
        server.wait_until(lambda: 'outcome="cancelled"' in httpx.get(f"{server.url}/metrics").text)
        server.wait_until(lambda: server.metric("tunesmith_queue_depth") == 0)
        assert server.metric("tunesmith_requests_running") == 1
        response.close()


def test_sigterm_lets_requests_in_flight_finish(serve, plain):
    """While draining, readiness is off, new requests get 503 on a closing connection, old ones end well, exit is 0."""
    with serve(plain, *BUSY) as server, httpx.Client(timeout=60) as http:
        _, lines = started(http, server, {**ENDLESS, "max_tokens": 3000})
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        ready = httpx.get(f"{server.url}/health/ready")
        refused = post(server, SHORT)
        assert (ready.status_code, ready.json()["phase"]) == (503, "draining")
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        events = [line for line in lines if line]
        assert events[-1] == "data: [DONE]"
        assert json.loads(events[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(60) == 0


def test_a_drain_does_not_wait_for_ever(serve, plain):
    """What is not done in time ends with an error event, and the exit is still 0."""
    with serve(plain, *BUSY, "--drain-seconds", "0.1") as server, httpx.Client(timeout=60) as http:
        _, lines = started(http, server, ENDLESS)
        server.process.send_signal(signal.SIGTERM)
        events = [line for line in lines if line]
        assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "unavailable"
        assert server.process.wait(60) == 0


def test_an_idle_server_stops_at_once(serve, plain):
    """Nothing in flight, nothing to wait for."""
    with serve(plain) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_a_loading_server_lives_but_is_not_ready(serve, plain):
    """The process answers from the first moment on, and is ready only once the model is loaded."""
    with serve(plain, ready=False) as server:
        server.port = server.wait_for("listening")["port"]
        phases = []

        def loaded():
            assert httpx.get(f"{server.url}/health/live").status_code == 200
            answer = httpx.get(f"{server.url}/health/ready")
            phases.append((answer.json()["phase"], answer.status_code))
            return answer.status_code == 200

        server.wait_until(loaded)
        assert set(phases) <= {("loading", 503), ("ready", 200)}


def test_settings_come_from_the_environment(serve, plain):
    """What a chart sets as variables arrives."""
    with serve(plain, environment={"TUNESMITH_SERVED_MODEL_NAME": "from-env"}) as server:
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "from-env"


def test_a_preferred_provider_that_is_missing_is_reported(serve, plain):
    """With Prefer the server runs, warns, and shows the degradation in metric and model."""
    flags = ("--providers", "CUDAExecutionProvider,CPUExecutionProvider", "--provider-policy", "Prefer")
    with serve(plain, *flags) as server:
        assert server.wait_for("execution provider degraded")["missing"] == ["CUDAExecutionProvider"]
        assert server.metric('tunesmith_provider_degraded{provider="CUDAExecutionProvider"}') == 1
        metadata = httpx.get(f"{server.url}/v1/models").json()["data"][0]["metadata"]
        assert metadata["provider_degraded"] is True
        assert metadata["active_providers"] == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--providers", "CUDAExecutionProvider"), "missing: CUDAExecutionProvider"),
        (("--max-context", "9000"), "beyond the model's context of 8192"),
        (("--max-queue", "-5"), "--max-queue"),
    ],
)
def test_what_cannot_work_stops_the_process_with_78(serve, plain, flags, said):
    """A configuration error exits at once with a status that a restart policy can tell, and one clear line."""
    with serve(plain, *flags, ready=False) as server:
        assert server.process.wait(60) == 78
        line = server.wait_for_level("critical")
        assert said in line["message"]


def test_a_folder_that_is_no_model_stops_the_process_with_78(serve, tmp_path):
    """The message names the missing file."""
    with serve(tmp_path, ready=False) as server:
        assert server.process.wait(60) == 78
        assert "genai_config.json: not found" in server.wait_for_level("critical")["message"]
