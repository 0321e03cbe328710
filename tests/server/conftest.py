"""Fixtures of the server's tests: random exported models, live servers on loopback, an engine."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest
from tokenizers import Tokenizer

from tunesmith_server.engine import Event, FailedEvent, Request, Sequence, TokenEvent
from tunesmith_server.folder import read_folder
from tunesmith_server.sampling import SamplingParams
from tunesmith_server.session import Decoder, describe, open_session
from tunesmith_server.slot_engine import EngineLimits, SlotEngine
from tunesmith_server.slots import SlotCache
from tunesmith_server.tokens import load_tokenizer

HERE = Path(__file__).parent
PATIENCE_SECONDS = 60.0
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `{plain,long,tiny}/{torch,onnx}`; see `export_models.py`."""
    out = tmp_path_factory.mktemp("models")
    made = subprocess.run(
        [sys.executable, HERE / "export_models.py", out],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-4000:]
    return out


@pytest.fixture(scope="session")
def plain(models: Path) -> Path:
    """The exported model with plain rotary embeddings and a context of 8192 tokens."""
    return models / "plain" / "onnx"


@pytest.fixture(scope="session")
def long(models: Path) -> Path:
    """The exported LongRoPE model, which switches factors beyond 64 tokens."""
    return models / "long" / "onnx"


@pytest.fixture(scope="session")
def tokenizer(plain: Path) -> Tokenizer:
    """The models' tokenizer."""
    return load_tokenizer(plain / "tokenizer.json")


@pytest.fixture
def folder_copy(plain: Path, tmp_path: Path) -> Path:
    """A copy of the plain model's folder that a test may spoil."""
    return Path(shutil.copytree(plain, tmp_path / "model"))


@dataclass
class Collector:
    """A sink that keeps events by sequence and tells when all have ended."""

    open: set[int]
    events: dict[int, list[Event]] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)
    first: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        """Keep an event."""
        self.events.setdefault(event.index, []).append(event)
        self.first.set()
        if isinstance(event, FailedEvent) or event.finish:
            self.open.discard(event.index)
            if not self.open:
                self.done.set()

    def tokens(self, index: int = 0) -> list[int]:
        """The tokens of a sequence, once all have ended."""
        assert self.done.wait(PATIENCE_SECONDS)
        assert all(isinstance(event, TokenEvent) for event in self.events[index]), self.events[index][-1]
        return [event.token for event in self.events[index]]


@dataclass(frozen=True)
class Bench:
    """An engine and how to use it."""

    engine: SlotEngine
    cache: SlotCache
    decoder: Decoder

    def submit(self, request_id: str, *sequences: Sequence) -> Collector:
        """Submit sequences as one request."""
        collector = Collector({one.index for one in sequences})
        self.engine.submit(Request(request_id, sequences), collector)
        return collector

    def generate(
        self, prompt: list[int], count: int, params: SamplingParams = GREEDY, seed: int | None = None
    ) -> list[int]:
        """The tokens of one sequence alone."""
        return self.submit(f"{time.monotonic_ns()}", Sequence(0, tuple(prompt), params, count, seed)).tokens()


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Bench]]:
    """Make engines over an exported folder; all are closed at the end. No token ends a sequence unless told."""
    with contextlib.ExitStack() as stack:

        def make(path: Path, slots: int = 4, end: frozenset[int] = frozenset(), **limits: int) -> Bench:
            folder = read_folder(path)
            session, _ = open_session(folder, ["CPUExecutionProvider"], "Require", 1)
            graph = describe(session, folder)
            cache = SlotCache(graph.cache, slots, folder.context_length)
            decoder = Decoder(session, graph, cache)
            engine = SlotEngine(decoder, cache, end, EngineLimits(**{"max_queue": 1000, "prefill_chunk": 32, **limits}))
            stack.callback(engine.close)
            return Bench(engine, cache, decoder)

        yield make


@dataclass
class LiveServer:
    """A server process on loopback."""

    process: "subprocess.Popen[str]"
    lines: "queue.Queue[dict]"
    log: list[dict] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def wait_for(self, message: str) -> dict:
        """The next log line with this message."""
        return self._next("message", message)

    def wait_for_level(self, level: str) -> dict:
        """The next log line of this level."""
        return self._next("level", level)

    def _next(self, key: str, value: str) -> dict:
        while True:
            line = self.lines.get(timeout=PATIENCE_SECONDS)
            self.log.append(line)
            if line.get(key) == value:
                return line

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = httpx.get(f"{self.url}/metrics").text
        samples = [
            line
            for line in text.splitlines()
            if line.startswith((name + " ", name + "{")) or line.split(" ")[0] == name
        ]
        assert samples, f"no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.01)


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[dict]") -> None:
    assert process.stderr is not None
    for line in process.stderr:
        try:
            lines.put(json.loads(line))
        except ValueError:
            lines.put({"message": "not json", "line": line})


@contextlib.contextmanager
def _serve(
    path: Path, *flags: str, ready: bool = True, environment: dict[str, str] | None = None
) -> Iterator[LiveServer]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tunesmith_server",
            path,
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--threads",
            "1",
            *flags,
        ],
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[dict] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines))
    reader.start()
    server = LiveServer(process, lines)
    try:
        if ready:
            server.port = server.wait_for("listening")["port"]
            server.wait_for("ready")
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[LiveServer]]:
    """Start server processes, with a folder and flags, as context managers."""
    return _serve


@pytest.fixture(scope="session")
def server(plain: Path) -> Iterator[LiveServer]:
    """One server with ample limits, shared by the tests that only ask questions."""
    with _serve(plain, "--served-model-name", "tiny", "--max-context", "512", "--max-body-bytes", "100000") as live:
        yield live


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    """OpenAI's client for the shared server."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made
