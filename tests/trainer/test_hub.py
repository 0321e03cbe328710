"""Fetching from a hub, by the real client against a local server of the hub's shape."""

import hashlib
import http.server
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cutter import cutter

import servers
from tunesmith_api import ExitCode, Stage
from tunesmith_trainer.retry import ATTEMPTS_VARIABLE, FIRST_WAIT_VARIABLE

QUICK = {ATTEMPTS_VARIABLE: "2", FIRST_WAIT_VARIABLE: "0.01"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"
LISTING = re.compile(r"api/(?P<name>(models|datasets)/[^/]+/[^/]+)(/(?P<what>revision|tree)/(?P<revision>[^/]+))?")
FILE = re.compile(r"(?P<name>(datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
ROWS = b'{"prompt": "hi", "completion": "hello"}\n' * 4


@dataclass
class Repository:
    """A repository of the hub.

    Attributes:
        commits: a commit's hash to its files.
        names: a branch or a tag to its commit.
        token: what opens the files; anybody may read them where it is empty.
    """

    commits: dict[str, dict[str, bytes]]
    names: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str = ""

    def commit(self, revision: str) -> str:
        """The commit that a branch, a tag or a hash names; empty where there is none."""
        found = self.names.get(revision, revision)
        return found if found in self.commits else ""


class Hub(http.server.BaseHTTPRequestHandler):
    """Repository listings and files, as huggingface_hub asks for them; `server.repositories` holds the content.

    As on the real hub anybody may list a gated repository, and only its files need the token.
    """

    def do_HEAD(self):
        """A file's metadata."""
        self.answer(body=False)

    def do_GET(self):
        """A repository's listing or a file."""
        self.answer(body=True)

    def answer(self, *, body):
        """Find the repository and the revision that the path names."""
        path = urlsplit(self.path).path.removeprefix("/")
        self.server.tokens.append(self.headers.get("Authorization"))
        listing, file = LISTING.fullmatch(path), FILE.fullmatch(path)
        name = listing["name"].removeprefix("models/") if listing else file["name"] if file else ""
        repository = self.server.repositories.get(name)
        if repository is None:
            self.refuse(self.server.failure, "RepoNotFound")
            return
        revision = (listing or file)["revision"] or "main"
        commit = repository.commit(revision)
        files = repository.commits.get(commit)
        if files is None:
            self.refuse(404, "RevisionNotFound")
        elif listing and listing["what"] == "tree":
            entries = [{"type": "file", "path": f, "size": len(c), "oid": "0"} for f, c in files.items()]
            self.send(json.dumps(entries).encode(), commit, body=body)
        elif listing:
            self.server.left = 1
            siblings = [{"rfilename": one} for one in files]
            listed = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []}
            self.send(json.dumps(listed).encode(), commit, body=body)
        elif body and self.server.rationed and not self.take():
            self.server.rationed(self)
        elif repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        else:
            self.send(files[file["path"]], commit, body=body)

    def take(self):
        """Whether this is the one file that is given after each listing."""
        with self.server.lock:
            self.server.left -= 1
            return self.server.left >= 0

    def reset(self):
        """Cut the connection without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def refuse(self, status, code=""):
        """Answer with an error as the client tells it from others."""
        self.send_response(status)
        if status < 500:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content, commit, *, body):
        """Answer with the headers that the client reads, and with the rest of a file where that is asked for."""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        etag, whole = f'"{hashlib.sha256(content).hexdigest()}"', len(content)
        content = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", etag)
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if body:
            self.wfile.write(content if self.server.spoiled not in self.path else bytes(len(content)))

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def hub():
    """A hub with one model and one data set."""
    model = {file.name: file.read_bytes() for file in MODEL.iterdir() if file.is_file()}
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    httpd.repositories = {
        "acme/tiny": Repository({COMMIT: {**model, "pytorch_model.bin": b"pickle"}}),
        "datasets/acme/rows": Repository(
            {COMMIT: {"data/train.jsonl": ROWS, "data/test.jsonl": ROWS[:40], "README.md": b"x"}}
        ),
    }
    httpd.tokens, httpd.failure, httpd.spoiled = [], 404, "nothing"
    httpd.rationed, httpd.left, httpd.lock = None, 0, threading.Lock()
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def prepare(hub, run_stage, tmp_path):
    """Runs the stage as a process whose hub is the local one."""
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    return lambda config: run_stage(Stage.PREPARE, config, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hf"), **QUICK)


def from_hub(job, model="hf://acme/tiny", data="hf://datasets/acme/rows"):
    """The example's job with its model and its rows on the hub."""
    config = job(model={"preset": None, "uri": model})
    config["spec"]["dataset"] = {"train": {"uri": data}, "evaluation": {"fraction": 0.5}}
    return config


def with_token(config, folder, token):
    """The job with a secret for its model."""
    folder.mkdir()
    (folder / "token").write_text(f"{token}\n")
    config["spec"]["model"]["secretRef"] = {"name": "hub"}
    return config | {"secrets": {"hub": str(folder)}}


def test_model_and_data_come_from_the_hub(hub, prepare, job, tmp_path):
    """Weights, tokenizer and the training split are fetched with the secret's token; pickles are not."""
    config = with_token(from_hub(job), tmp_path / "secret", "hf_secret")
    code, termination = prepare(config)
    assert code == 0, termination
    assert termination.dataset.examples == 2
    fetched = Path(config["workspace"]) / "model"
    assert (fetched / "model.safetensors").read_bytes() == (MODEL / "model.safetensors").read_bytes()
    assert not (fetched / "pytorch_model.bin").exists()
    assert set(hub.tokens) == {"Bearer hf_secret", None}


def test_a_model_of_pickles_is_a_bad_configuration(hub, prepare, job):
    """They are never fetched; the message says how to make safetensors of them."""
    files = hub.repositories["acme/tiny"].commits[COMMIT]
    del files["model.safetensors"]
    code, termination = prepare(from_hub(job))
    assert code == ExitCode.BAD_CONFIG
    message = termination.failure.message
    assert "acme/tiny has only pickled weights (pytorch_model.bin)" in message
    assert "save_pretrained(folder)" in message


@pytest.fixture
def gated(hub):
    """A model that a token opens, whose tag v1 has a licence of its own."""
    files = hub.repositories["acme/tiny"].commits[COMMIT]
    commits = {COMMIT: {**files, "LICENSE": b"new"}, OLD_COMMIT: {**files, "LICENSE": b"old"}}
    hub.repositories["acme/gated"] = Repository(commits, {"main": COMMIT, "v1": OLD_COMMIT}, "hf_secret")


@pytest.mark.parametrize(("revision", "licence"), [("", "new"), ("@v1", "old"), (f"@{OLD_COMMIT}", "old")])
def test_a_gated_model_comes_in_the_revision_that_is_asked_for(gated, prepare, job, tmp_path, revision, licence):
    """A branch, a tag or a commit, with the token that the hub demands for each file."""
    config = with_token(from_hub(job, model=f"hf://acme/gated{revision}"), tmp_path / "secret", "hf_secret")
    code, termination = prepare(config)
    assert code == 0, termination
    assert (Path(config["workspace"]) / "model" / "LICENSE").read_text() == licence


@pytest.mark.parametrize(
    ("revision", "token", "message"),
    [
        ("", "", "Cannot access gated repo .*; a private or gated repository needs secretRef with the key token"),
        (
            "",
            "hf_other",
            "Cannot access gated repo .*; if it is private or gated, the token of secretRef does not open",
        ),
        ("@v9", "hf_secret", "Revision Not Found .*v9"),
    ],
)
def test_a_gated_model_that_is_not_opened_ends_with_66(gated, prepare, job, tmp_path, revision, token, message):
    """The message says whether a token is missing or wrong, or that there is no such revision; never the token."""
    config = from_hub(job, model=f"hf://acme/gated{revision}")
    code, termination = prepare(with_token(config, tmp_path / "secret", token) if token else config)
    assert code == ExitCode.INPUT_NOT_FOUND, termination
    assert re.search(f"acme/gated: {message}", termination.failure.message)
    assert not (token and token in termination.failure.message)


def test_a_branch_that_moved_between_two_runs_leaves_nothing_behind(hub, prepare, job):
    """Files of an interrupted fetch that the new commit lacks are gone, and the others are the new commit's."""
    tiny, files = hub.repositories["acme/tiny"], hub.repositories["acme/tiny"].commits[COMMIT]
    tiny.commits[OLD_COMMIT] = {**files, "LICENSE": b"old", "added_tokens.json": b"{}"}
    tiny.names["main"], hub.spoiled = OLD_COMMIT, "model.safetensors"
    config = from_hub(job)
    assert prepare(config)[0] == ExitCode.INPUT_NOT_FOUND
    model = Path(config["workspace"]) / "model"
    assert (model / "added_tokens.json").is_file()
    tiny.names["main"], hub.spoiled = COMMIT, "nothing"
    code, termination = prepare(config)
    assert code == 0, termination
    fetched = {file.name for file in model.iterdir() if file.is_file() and not file.name.startswith(".")}
    assert fetched == {name for name in files if name.endswith((".json", ".jinja", ".safetensors"))}


def test_an_unknown_repository_ends_with_66(prepare, job):
    """The message names the repository."""
    code, termination = prepare(from_hub(job, model="hf://acme/absent"))
    assert code == ExitCode.INPUT_NOT_FOUND
    assert "acme/absent" in termination.failure.message
    assert "needs secretRef with the key token" in termination.failure.message


def test_a_cut_download_is_repaired(hub, job, run_stage, tmp_path):
    """The line is cut twice within the weights: they are right. The client resumes in steps of its 10 MiB chunks."""
    with cutter(f"http://127.0.0.1:{hub.server_address[1]}") as line:
        size = (MODEL / "model.safetensors").stat().st_size
        line.down_marks = [size // 3, 2 * size // 3]
        own = {"HF_ENDPOINT": f"http://127.0.0.1:{line.port}", "HF_HOME": str(tmp_path / "hf")}
        config = from_hub(job)
        code, termination = run_stage(Stage.PREPARE, config, **own, **QUICK)
        assert code == 0, termination
        assert line.down_marks == []
    fetched = Path(config["workspace"]) / "model" / "model.safetensors"
    assert fetched.read_bytes() == (MODEL / "model.safetensors").read_bytes()


@pytest.mark.parametrize("rationed", [lambda handler: handler.refuse(503), Hub.reset], ids=["503", "reset"])
def test_only_attempts_without_progress_count(hub, prepare, job, rationed):
    """Each attempt brings one file of six and fails at the others: two attempts are allowed, and all six are made."""
    hub.rationed = rationed
    config = from_hub(job)
    code, termination = prepare(config)
    assert code == 0, termination
    fetched = Path(config["workspace"]) / "model" / "model.safetensors"
    assert fetched.read_bytes() == (MODEL / "model.safetensors").read_bytes()


def test_a_file_that_differs_from_its_digest_ends_with_66(hub, prepare, job):
    """The hub states each file's digest; content that a proxy or a disk has spoiled is refused by name."""
    hub.spoiled = "model.safetensors"
    code, termination = prepare(from_hub(job))
    assert code == ExitCode.INPUT_NOT_FOUND, termination
    assert "model.safetensors differs from the digest" in termination.failure.message


def test_a_hub_that_is_down_ends_with_69(hub, prepare, job):
    """A server error may pass: the stage can be tried again."""
    hub.failure = 503
    code, termination = prepare(from_hub(job, model="hf://acme/absent"))
    assert code == ExitCode.SERVICE_UNAVAILABLE, termination
    assert "tried 2 times" in termination.failure.message


def test_a_hub_that_does_not_listen_ends_with_69(job, run_stage, tmp_path):
    """A refused connection is an outage, not a crash."""
    own = {"HF_ENDPOINT": f"http://127.0.0.1:{servers.free_port()}", "HF_HOME": str(tmp_path / "hf")}
    code, termination = run_stage(Stage.PREPARE, from_hub(job), **own, **QUICK)
    assert code == ExitCode.SERVICE_UNAVAILABLE, termination
    assert "Connection refused (tried 2 times)" in termination.failure.message


def test_a_data_set_is_no_model(job, run_here):
    """The two kinds of hub URI are not mixed up."""
    for config in (from_hub(job, model="hf://datasets/acme/rows"), from_hub(job, data="hf://acme/tiny")):
        if config["spec"]["model"]["uri"] == "hf://acme/tiny":
            config["spec"]["model"] = {"preset": "tiny-phi3"}
        assert run_here(Stage.PREPARE, config).code == ExitCode.BAD_CONFIG
