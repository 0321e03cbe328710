"""The server of a local run: started on the exported model, waited for, asked one question."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tunesmith_api import ExitCode, JobConfig, Scheme, parse_uri
from tunesmith_api.enums import ModelKind, Task
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.modelendpoint import EndpointTemplate, RuntimeSpec
from tunesmith_api.reports import Sample
from tunesmith_api.resolve import objections
from tunesmith_api.serving import server_arguments
from tunesmith_api.support import NO_ENCODER_SERVER
from tunesmith_api.tasks import model_kind
from tunesmith_cli.errors import CliError
from tunesmith_cli.folder import RunFolder
from tunesmith_cli.machine import require_part
from tunesmith_cli.process import Children, wait
from tunesmith_cli.report import Answer

HOST = "127.0.0.1"
#: Where the exported model keeps its chat template.
CHAT_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Server:
    """A server that answers; `chats` when its model has a chat template."""

    url: str
    model: str
    process: "subprocess.Popen[bytes]"
    chats: bool = True


def server_command(folder: RunFolder, config: JobConfig, port: int) -> list[str]:
    """The server's command line, with the settings of the job's `serve.runtime`."""
    runtime = config.spec.serve.runtime if config.spec.serve else RuntimeSpec()
    flags = ("--host", HOST, "--port", str(port), *server_arguments(config.name, runtime))
    return [sys.executable, "-m", "tunesmith_server", str(folder.model), *flags]


def refuse_unserved(folder: RunFolder, config: JobConfig) -> None:
    """Refuse to serve what the server cannot run, as soon as the base model can be looked at.

    Raises:
        CliError: the job exports no model that the server runs.
    """
    served = config.spec.model_copy(update={"serve": config.spec.serve or EndpointTemplate()})
    known = [str(one.message) for one in objections(served) if one.field.startswith("spec.serve")]
    if model_kind(_model_config(folder, config)) is not ModelKind.CAUSAL:
        known.append(NO_ENCODER_SERVER)
    if known:
        rest = f"; go on without it: tunesmith run --resume {folder.root}" if folder.config.exists() else ""
        raise CliError(f"--serve: {known[0].removeprefix('spec.serve: ')}{rest}")


def _model_config(folder: RunFolder, config: JobConfig) -> dict[str, Any]:
    """The base model's config.json; empty as long as prepare has to fetch it."""
    uri = config.spec.model.uri or ""
    local = parse_uri(uri).path if uri.startswith(f"{Scheme.FILE}://") else config.inputs.get(uri)
    path = Path(local or folder.fetched_model) / "config.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # prepare tells what is wrong with it
    return found


@contextmanager
def serving(folder: RunFolder, config: JobConfig, port: int, children: Children) -> Iterator[Server]:
    """A ready server, gone when the block is left.

    Raises:
        CliError: it ended before it was ready.
    """
    require_part("tunesmith_server", "server")
    log = folder.log("server")
    url = f"http://{HOST}:{port}"
    with children.started(server_command(folder, config, port), log, {}) as process:
        with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
            while not _is_ready(client):
                wait(process)
                if process.poll() is not None:
                    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                    raise CliError(
                        f"the server ended with exit code {process.returncode}: {lines[-1] if lines else 'no output'}",
                        ExitCode.SERVICE_UNAVAILABLE,
                    )
        yield Server(url, config.name, process, (folder.model / CHAT_TEMPLATE).is_file())


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def ask(server: Server, spec: FineTuneJobSpec, sample: Sample) -> Answer:
    """Ask the server what an evaluation row asks, greedily.

    Raises:
        CliError: it does not answer.
    """
    limit = spec.evaluation.generation.max_new_tokens
    body: dict[str, object] = {"model": server.model, "temperature": 0, "max_tokens": limit}
    question = sample.messages[-1].content
    is_prompt = spec.task is Task.TEXT_GENERATION and len(sample.messages) == 1
    completes = is_prompt or not server.chats
    if completes:
        path, body = "/v1/completions", body | {"prompt": question}
    else:
        path, body = "/v1/chat/completions", body | {"messages": [turn.wire() for turn in sample.messages]}
    try:
        response = httpx.post(f"{server.url}{path}", json=body, timeout=300, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise CliError(f"{server.url}{path}: {error}", ExitCode.SERVICE_UNAVAILABLE) from error
    choice = response.json()["choices"][0]
    text = choice["text"] if completes else choice["message"]["content"]
    return Answer(question, str(text).strip(), sample.reference.strip())
