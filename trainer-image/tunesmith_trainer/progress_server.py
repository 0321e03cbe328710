"""Live progress over HTTP while training: `/progress` (JSON) for the operator, `/metrics` for Prometheus."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tunesmith_api.finetunejob import Progress
from tunesmith_api.jobconfig import PROGRESS_PORT, PROGRESS_PORT_VARIABLE
from tunesmith_trainer import log
from tunesmith_trainer.progress import ProgressBoard

#: Environment variable: address to listen on; every IPv4 address unless said otherwise (`::` in an IPv6 cluster).
PROGRESS_HOST_VARIABLE = "TUNESMITH_PROGRESS_HOST"

_GAUGES = {
    "step": "Optimizer steps done",
    "total_steps": "Optimizer steps in all",
    "loss": "Loss of the last logged step",
    "learning_rate": "Learning rate of the last logged step",
    "tokens_per_second": "Input tokens without padding per second",
    "eta_seconds": "Seconds to the last step",
}


def exposition(progress: Progress) -> bytes:
    """A Progress in Prometheus's text format; what is not known yet is left out."""
    registry = CollectorRegistry()
    for field, text in _GAUGES.items():
        value = getattr(progress, field)
        if value is not None:
            Gauge(f"tunesmith_train_{field}", text, registry=registry).set(value)
    return generate_latest(registry)


def _handler(board: ProgressBoard) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/progress":
                text = board.answer().model_dump_json(by_alias=True, exclude_none=True)
                self._answer("application/json", text.encode())
            elif self.path == "/metrics":
                self._answer("text/plain; version=0.0.4; charset=utf-8", exposition(board.latest))
            else:
                self.send_error(404)

        def _answer(self, content_type: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep access lines out of the JSON log."""

    return Handler


@contextmanager
def serve_progress(board: ProgressBoard, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Serve a board in a daemon thread while inside; port 0 in the environment means not at all.

    A port that is taken is logged and not fatal: the log file has the same lines.
    """
    port = int(environ.get(PROGRESS_PORT_VARIABLE, PROGRESS_PORT))
    if port == 0:
        yield
        return
    try:
        server = ThreadingHTTPServer((environ.get(PROGRESS_HOST_VARIABLE, "0.0.0.0"), port), _handler(board))  # noqa: S104 - pods are polled from outside
    except OSError as error:
        log.warn("progress is not served", port=port, error=str(error))
        yield
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
