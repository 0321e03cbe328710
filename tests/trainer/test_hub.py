"""Fetching from a hub, by the real client against a local server of the hub's shape."""

import contextlib
import hashlib
import http.server
import itertools
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import servers
from tunesmith_api import ExitCode, Stage
from tunesmith_trainer.hub_files import HubFile
from tunesmith_trainer.retry import ATTEMPTS_VARIABLE, FIRST_WAIT_VARIABLE, TransientError
from tunesmith_trainer.transfer import UNKNOWN_START

QUICK = {ATTEMPTS_VARIABLE: "2", FIRST_WAIT_VARIABLE: "0.01"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"
LISTING = re.compile(r"api/(?P<name>(models|datasets)/[^/]+/[^/]+)(/(?P<what>revision|tree)/(?P<revision>[^/]+))?")
FILE = re.compile(r"(?P<name>(datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
OPUS = Path(__file__).parents[1] / "models" / "tiny-opus-mt"
ROWS = b'{"prompt": "hi", "completion": "hello"}\n' * 4


@dataclass
class Repository:
    """A repository of the hub.

    Attributes:
        commits: a commit's hash to its files; those of safetensors are large ones, which the hub has in LFS.
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
        revision = unquote((listing or file)["revision"] or "main")
        commit = repository.commit(revision)
        files = repository.commits.get(commit)
        if files is None:
            self.refuse(404, "RevisionNotFound")
        elif listing and listing["what"] == "tree":
            entries = [entry(file, content) for file, content in files.items()]
            self.send(json.dumps(entries).encode(), commit, body=body)
        elif listing:
            siblings = [{"rfilename": one} for one in files]
            listed = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []}
            self.send(json.dumps(listed).encode(), commit, body=body)
        elif repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        elif self.server.failures:
            self.server.failures.pop()(self)
        elif self.server.network and is_large(file["path"]):
            self.refer(f"{self.server.network}/{hashlib.sha256(files[file['path']]).hexdigest()}?Signature=abcdef")
        else:
            self.send_file(files[file["path"]], commit, body=body)

    def send_file(self, content, commit="", *, body=True):
        """A file, whole or from a position; `server.portion` is what one answer brings of it."""
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start >= len(content):
            self.refuse(416)
            return
        self.server.answers.append((self.path, start))
        self.send(content, commit, start=start, body=body)

    def cut(self):
        """End the connection in the middle of an answer."""
        self.close_connection = True

    def reset(self):
        """Cut the connection without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def hold(self):
        """Say nothing more until the test ends, as a line that is dead."""
        self.server.ended.wait(120)

    def refer(self, address):
        """Lead to another host, as the hub does for large files."""
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def refuse(self, status, code="", wait=""):
        """Answer with an error as the client tells it from others, and how long to wait."""
        self.send_response(status)
        if wait:
            self.send_header("Retry-After", wait)
        if status < 500:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content, commit, *, body, start=0):
        """Answer with the headers that the client reads, and with the bytes from a position on."""
        rest = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if not body:
            return
        portion, then = self.server.portion
        self.wfile.write((rest if self.server.spoiled not in self.path else bytes(len(rest)))[:portion])
        if portion is not None and portion < len(rest):
            self.wfile.flush()
            then(self)

    def log_message(self, *_):
        """Keep quiet."""


class Network(Hub):
    """The content delivery network that a hub refers to: files by their digests, without any login."""

    def answer(self, *, body):
        """Find the file that the path names."""
        self.server.tokens.append(self.headers.get("Authorization"))
        self.send_file(self.server.files[urlsplit(self.path).path.removeprefix("/")], body=body)


def is_large(name):
    """Whether the hub has a file in LFS."""
    return name.endswith(".safetensors")


def entry(path, content):
    """A file as a repository's tree lists it: Git's hash of a small one, the SHA-256 of a large one."""
    found = {"type": "file", "path": path, "size": len(content)}
    if is_large(path):
        large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return found | {"oid": "f" * 40, "lfs": large}
    return found | {"oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}


@contextlib.contextmanager
def serving(handler):
    """A server of the hub's kind; nothing is held, cut, spoiled or referred unless a test says so."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    httpd.tokens, httpd.answers, httpd.failures, httpd.failure, httpd.spoiled = [], [], [], 404, "nothing"
    httpd.network, httpd.portion, httpd.ended = "", (None, None), threading.Event()
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield httpd
    httpd.ended.set()
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def hub():
    """A hub with one model and one data set."""
    model = {file.name: file.read_bytes() for file in MODEL.iterdir() if file.is_file()}
    with serving(Hub) as httpd:
        httpd.repositories = {
            "acme/tiny": Repository({COMMIT: {**model, "pytorch_model.bin": b"pickle"}}),
            "datasets/acme/rows": Repository(
                {COMMIT: {"data/train.jsonl": ROWS, "data/test.jsonl": ROWS[:40], "README.md": b"x"}}
            ),
        }
        yield httpd


@pytest.fixture
def network(hub):
    """The network that the hub refers to for large files."""
    with serving(Network) as httpd:
        hub.network = f"http://127.0.0.1:{httpd.server_address[1]}"
        files = hub.repositories["acme/tiny"].commits[COMMIT]
        httpd.files = {hashlib.sha256(content).hexdigest(): content for content in files.values()}
        yield httpd


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
    config["spec"]["model"]["secretRef"] = {"name": "hub"}
    return config | {"secrets": {"hub": str(secret_of(folder, token))}}


def secret_of(folder, token):
    """A folder that is the secret with a token."""
    folder.mkdir()
    (folder / "token").write_text(f"{token}\n")
    return folder


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


def test_a_model_of_marian_comes_with_its_own_tokenizer_files(hub, prepare, job):
    """As Helsinki-NLP's repositories have them, with weights in safetensors."""
    files = {file.name: file.read_bytes() for file in OPUS.iterdir()}
    hub.repositories["acme/tiny"].commits[COMMIT] = {**files, "rust_model.ot": b"", "README.md": b""}
    hub.repositories["datasets/acme/rows"].commits[COMMIT] = {"train.jsonl": b'{"source": "a", "target": "b"}\n' * 4}
    config = from_hub(job)
    config["spec"]["task"] = "Translation"
    code, termination = prepare(config)
    assert code == 0, termination
    fetched = {file.name for file in (Path(config["workspace"]) / "model").iterdir() if file.is_file()}
    assert fetched >= files.keys()


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


UNOPENED = [
    ("", "", "Cannot access gated repo .*; a private or gated repository needs secretRef with the key token"),
    ("", "hf_other", "Cannot access gated repo .*; if it is private or gated, the token of secretRef does not open"),
    ("@v9", "hf_secret", "Revision Not Found .*v9"),
]


@pytest.mark.parametrize(("revision", "token", "message"), UNOPENED)
def test_a_gated_model_that_is_not_opened_ends_with_66(gated, prepare, job, tmp_path, revision, token, message):
    """The message says whether a token is missing or wrong, or that there is no such revision; never the token."""
    config = from_hub(job, model=f"hf://acme/gated{revision}")
    code, termination = prepare(with_token(config, tmp_path / "secret", token) if token else config)
    assert code == ExitCode.INPUT_NOT_FOUND, termination
    assert re.search(f"acme/gated: {message}", termination.failure.message)
    assert not (token and token in termination.failure.message)


@pytest.fixture
def gated_rows(hub):
    """A data set that a token opens; its branch `old/rows` has fewer rows than the main one."""
    commits = {COMMIT: {"data/train.jsonl": ROWS}, OLD_COMMIT: {"data/train.jsonl": ROWS[: len(ROWS) // 2]}}
    names = {"main": COMMIT, "v1": OLD_COMMIT, "old/rows": OLD_COMMIT}
    hub.repositories["datasets/acme/gated"] = Repository(commits, names, "hf_secret")


def of_rows(job, uri, folder, token):
    """The example's job on the rows of the hub, with a secret if there is a token."""
    config = job()
    config["spec"]["dataset"] = {"train": {"uri": uri}, "evaluation": {"fraction": 0.5}}
    if not token:
        return config
    config["spec"]["dataset"]["train"]["secretRef"] = {"name": "hub"}
    return config | {"secrets": {"hub": str(secret_of(folder, token))}}


@pytest.mark.parametrize(
    ("file", "revision", "examples"),
    [("", "", 2), ("", "@v1", 1), ("/data/train.jsonl", "@old/rows", 1), ("/data/train.jsonl", f"@{OLD_COMMIT}", 1)],
)
def test_a_gated_data_set_comes_in_the_revision_that_is_asked_for(
    gated_rows, prepare, job, tmp_path, file, revision, examples
):
    """The whole of it or one file, of a tag, a branch or a commit, with the token of the data set's own secret."""
    uri = f"hf://datasets/acme/gated{file}{revision}"
    code, termination = prepare(of_rows(job, uri, tmp_path / "secret", "hf_secret"))
    assert code == 0, termination
    assert termination.dataset.examples == examples


@pytest.mark.parametrize(("revision", "token", "message"), UNOPENED)
def test_a_gated_data_set_that_is_not_opened_ends_with_66(gated_rows, prepare, job, tmp_path, revision, token, message):
    """As of a model: what is wrong with the token or the revision, and never the token."""
    config = of_rows(job, f"hf://datasets/acme/gated{revision}", tmp_path / "secret", token)
    code, termination = prepare(config)
    assert code == ExitCode.INPUT_NOT_FOUND, termination
    assert re.search(f"hf:// dataset acme/gated: {message}", termination.failure.message)
    assert not (token and token in termination.failure.message)


def test_a_file_that_a_data_set_has_not_is_named(prepare, job, tmp_path):
    """The URI names one file below the repository."""
    code, termination = prepare(of_rows(job, "hf://datasets/acme/rows/data/absent.jsonl", tmp_path, ""))
    assert code == ExitCode.INPUT_NOT_FOUND
    assert "hf:// dataset acme/rows has 3 files and none of data/absent.jsonl" in termination.failure.message


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


WEIGHTS = (MODEL / "model.safetensors").read_bytes()


def weights_of(config):
    """What the stage has fetched as the model's weights."""
    return (Path(config["workspace"]) / "model" / "model.safetensors").read_bytes()


def test_only_attempts_without_progress_count(hub, prepare, job):
    """Each answer brings a sixth of the weights: two attempts are allowed, six are made, and no byte comes twice."""
    hub.portion = len(WEIGHTS) // 6 + 1, Hub.cut
    config = from_hub(job)
    code, termination = prepare(config)
    assert code == 0, termination
    assert weights_of(config) == WEIGHTS
    starts = [start for path, start in hub.answers if is_large(path)]
    assert len(starts) == 6
    assert starts[0] == 0
    assert all(before < after for before, after in itertools.pairwise(starts))


def test_a_killed_download_goes_on_in_the_next_run(hub, network, prepare, start_stage, job, tmp_path):
    """The second run asks for the rest of the weights alone, at the host that the hub refers to, without the token."""
    network.portion = len(WEIGHTS) // 2, Hub.hold
    config = with_token(from_hub(job), tmp_path / "secret", "hf_secret")
    own = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_HOME": str(tmp_path / "hf")}
    part = Path(config["workspace"]) / "model" / ".model.safetensors.part"
    with start_stage(Stage.PREPARE, config, **own, **QUICK) as process:
        await_size(part, network.portion[0] - (64 << 10))
        process.kill()
    kept, network.portion = part.stat().st_size, (None, None)
    code, termination = prepare(config)
    assert code == 0, termination
    assert weights_of(config) == WEIGHTS
    assert [start for _, start in network.answers] == [0, kept]
    assert set(network.tokens) == {None}
    assert "Bearer hf_secret" in hub.tokens


def await_size(file, size):
    """Wait until a file has a size."""
    deadline = time.monotonic() + 120
    while not file.is_file() or file.stat().st_size < size:
        assert time.monotonic() < deadline, f"{file} does not grow"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "failure", [lambda handler: handler.refuse(429), lambda handler: handler.refuse(503), Hub.reset]
)
def test_an_outage_that_passes_is_waited_for(hub, prepare, job, failure):
    """One failure of the two attempts that each file is allowed."""
    hub.failures = [failure]
    config = from_hub(job)
    code, termination = prepare(config)
    assert code == 0, termination
    assert hub.failures == []


def test_the_signature_of_an_address_is_not_shown(hub, network, prepare, job):
    """The network refuses what the hub referred to: the message has its address without the query."""
    network.files = dict.fromkeys(network.files, b"")
    code, termination = prepare(from_hub(job))
    assert code == ExitCode.INPUT_NOT_FOUND
    assert "416" in termination.failure.message
    assert hub.network in termination.failure.message
    assert "Signature" not in termination.failure.message


@pytest.mark.parametrize("name", ["../outside.json", "/etc/outside.json"])
def test_a_file_name_that_leaves_the_folder_is_refused(hub, prepare, job, name):
    """Whoever wrote the listing: nothing is fetched."""
    hub.repositories["acme/tiny"].commits[COMMIT][name] = b"{}"
    code, termination = prepare(from_hub(job))
    assert code == ExitCode.INPUT_NOT_FOUND
    assert f"the file name {name!r} leaves the folder" in termination.failure.message
    assert hub.answers == []


@pytest.mark.parametrize(("name", "kind"), [("model.safetensors", "SHA-256"), ("tokenizer.json", "Git hash")])
def test_a_file_that_differs_from_its_digest_ends_with_66(hub, prepare, job, name, kind):
    """The hub states each file's digest; content that a proxy or a disk has spoiled is refused by name."""
    hub.spoiled = name
    config = from_hub(job)
    code, termination = prepare(config)
    assert code == ExitCode.INPUT_NOT_FOUND, termination
    assert f"acme/tiny: {name} has the {kind}" in termination.failure.message
    assert not list(Path(config["workspace"]).rglob(f"*{name}*"))


def test_a_file_that_was_spoiled_between_two_runs_is_fetched_again(hub, prepare, job):
    """What is there already is held against the digest; the rest is not asked for again."""
    hub.spoiled = "tokenizer.json"
    config = from_hub(job)
    assert prepare(config)[0] == ExitCode.INPUT_NOT_FOUND
    folder = Path(config["workspace"]) / "model"
    whole = {path.name for path in folder.iterdir()}  # of files that are fetched at once the error stops some
    (folder / "model.safetensors").write_bytes(bytes(len(WEIGHTS)))
    hub.spoiled, hub.answers[:] = "nothing", []
    code, termination = prepare(config)
    assert code == 0, termination
    assert weights_of(config) == WEIGHTS
    asked = {path.rpartition("/")[2] for path, _ in hub.answers if "acme/tiny" in path}
    assert asked >= {"model.safetensors", "tokenizer.json"}
    assert not asked & (whole - {"model.safetensors"})


def test_the_wait_that_a_hub_asks_for_is_known(hub):
    """An answer of 429 says how long it is to be left alone."""
    hub.failures = [lambda handler: handler.refuse(429, wait="9")]
    url = f"http://127.0.0.1:{hub.server_address[1]}/acme/tiny/resolve/main/config.json"
    file = HubFile("hf:// model acme/tiny", "config.json", url, 1, "0" * 40, token=None)
    with pytest.raises(TransientError) as caught, file.open(0, ""):
        pass
    assert caught.value.retry_after == "9"


def test_a_file_that_is_shorter_than_what_is_here_has_no_rest(hub):
    """The hub refuses the range; the fetch begins anew."""
    url = f"http://127.0.0.1:{hub.server_address[1]}/acme/tiny/resolve/main/config.json"
    file = HubFile("hf:// model acme/tiny", "config.json", url, 1, "0" * 40, token=None)
    with file.open(1 << 20, "") as opened:
        assert opened.start == UNKNOWN_START


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
