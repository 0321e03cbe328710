"""Registries against a real one (distribution), open and with a login: artifacts, images, digests, cut lines."""

import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cutter import cutter

import servers
from tunesmith_api import JobConfig, Stage, parse_uri
from tunesmith_trainer.artifacts import fetch_artifact
from tunesmith_trainer.credentials import HIDDEN, Credentials
from tunesmith_trainer.errors import BadConfigError, InputNotFoundError, OutputNotWritableError, ServiceUnavailableError
from tunesmith_trainer.image import layers_of
from tunesmith_trainer.publish import publish_output
from tunesmith_trainer.registry import Repository, login_of, open_repository
from tunesmith_trainer.retry import ATTEMPTS_VARIABLE, FIRST_WAIT_VARIABLE, Retry

pytestmark = pytest.mark.timeout(900)  # the first run builds the registry

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
WORD = "a-very-secret-word"
#: The word as bcrypt keeps it, the only form that the registry takes.
HASHED = "$2b$04$abcdefghijklmnopqrstuuCFNb19483qy.Kltm94VzyefzSNmfGRC"
QUICK = Retry(attempts=3, first_seconds=0.01)


@dataclass(frozen=True)
class Place:
    """A running registry: its host with the port."""

    host: str

    def repository(self, path: str, **values: str) -> Repository:
        """A repository to read from, with the values of a secret."""
        location = parse_uri(f"oci://{self.host}/{path}")
        credentials = Credentials("login", values)
        return open_repository(location, credentials, QUICK, field="spec.model.uri", refusal=InputNotFoundError)

    def push(self, path: str, content: bytes, kind: str = "application/octet-stream") -> str:
        """Upload a blob (or a manifest, if the path names one) and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if "/manifests/" in path:
            httpx.put(
                f"http://{self.host}/v2/{path}", content=content, headers={"Content-Type": kind}
            ).raise_for_status()
            return digest
        begun = httpx.post(f"http://{self.host}/v2/{path}/blobs/uploads/")
        address = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        httpx.put(address, content=content)
        return digest


def serve(folder: Path, auth: str = "") -> Any:
    """A registry whose configuration has some more lines."""
    port = servers.free_port()
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    argv = [servers.program("registry"), "serve", str(folder / "config.yml")]
    return servers.running(argv, port, folder / "log", OTEL_TRACES_EXPORTER="none")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A registry that anybody may use."""
    with serve(tmp_path_factory.mktemp("registry")) as url:
        yield Place(url.removeprefix("http://"))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A registry that asks for a login."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "htpasswd").write_text(f"team:{HASHED}\n")
    with serve(folder, f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}\n") as url:
        yield Place(url.removeprefix("http://"))


@pytest.fixture
def output(tmp_path: Path, job: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobConfig]:
    """`output(host, path, **values)`: a job whose output is there, with a secret of some values."""
    monkeypatch.setenv(FIRST_WAIT_VARIABLE, "0.01")
    monkeypatch.setenv(ATTEMPTS_VARIABLE, "2")

    def make(host: str, path: str, **values: str) -> JobConfig:
        spec: dict[str, Any] = {"uri": f"oci://{host}/{path}"}
        secrets = {}
        if values:
            secret = tmp_path / "secret"
            secret.mkdir(exist_ok=True)
            for key, value in values.items():
                (secret / key).write_text(value)
            spec["secretRef"], secrets = {"name": "login"}, {"login": str(secret)}
        return JobConfig.model_validate(job(output=spec) | {"secrets": secrets})

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with files small and large, and one below."""
    found = tmp_path / "export"
    (found / "more").mkdir(parents=True)
    for name, size in {"model.onnx": 1000, "model.onnx.data": 9 << 20, "a.json": 10, "more/b.json": 7}.items():
        (found / name).write_bytes(os.urandom(size))
    return found


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_published_folder_is_read_back(registry: Place, output: Any, folder: Path, tmp_path: Path) -> None:
    """The URI names the manifest by its digest; tag and digest both lead to the same files."""
    uri = publish_output(output(registry.host, "team/bot:v1"), folder)

    assert uri is not None
    assert uri.startswith(f"oci://{registry.host}/team/bot@sha256:")
    for path in ("team/bot:v1", uri.partition(f"{registry.host}/")[2]):
        target = tmp_path / path.partition(":")[2][:8]
        fetch_artifact(registry.repository(path), target)
        assert content_of(target) == content_of(folder)


def test_the_image_is_what_a_node_can_mount(registry: Place, output: Any, folder: Path) -> None:
    """An OCI image: tar layers whose digests the configuration repeats; a large file is a layer of its own."""
    uri = publish_output(output(registry.host, "team/image:v1"), folder)
    digest = (uri or "").rpartition("@")[2]
    base = f"http://{registry.host}/v2/team/image"
    manifest = httpx.get(f"{base}/manifests/{digest}", headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    config = httpx.get(f"{base}/blobs/{manifest.json()['config']['digest']}").json()
    layers = manifest.json()["layers"]

    assert manifest.json()["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in layers]
    names = []
    for layer in layers:
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
        with tarfile.open(fileobj=io.BytesIO(httpx.get(f"{base}/blobs/{layer['digest']}").content)) as archive:
            names.append([(entry.name, entry.mode, entry.uid) for entry in archive])
    assert names == [
        [("a.json", 0o644, 0), ("model.onnx", 0o644, 0), ("more/b.json", 0o644, 0)],
        [("model.onnx.data", 0o644, 0)],
    ]


def test_a_layer_says_its_size_and_digest_before_it_is_sent(folder: Path) -> None:
    """The stream is as long as was said, and the same each time."""
    for layer in layers_of(folder):
        content = b"".join(layer.chunks())
        assert len(content) == layer.size
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.digest


def test_a_repeated_push_changes_nothing(registry: Place, output: Any, folder: Path) -> None:
    """The same files give the same digest, whatever their times, and no layer is sent twice."""
    with cutter(registry.host) as line:
        config = output(f"127.0.0.1:{line.port}", "team/again:v1")
        first = publish_output(config, folder)
        for file in folder.rglob("*"):
            os.utime(file, (0, 0))
        sent = line.uploaded
        assert publish_output(config, folder) == first
        assert line.uploaded - sent < 20_000


def test_a_cut_push_is_invisible_and_goes_on(registry: Place, output: Any, folder: Path) -> None:
    """A push that is cut leaves no tag; the next run makes it whole."""
    with cutter(registry.host) as line:
        line.up_marks = [4 << 20, (4 << 20) + 1]
        config = output(f"127.0.0.1:{line.port}", "team/cut:v1")
        with pytest.raises(ServiceUnavailableError, match=r"layer sha256:.*tried \d times"):
            publish_output(config, folder)
        with pytest.raises(InputNotFoundError, match="does not exist"):
            fetch_artifact(registry.repository("team/cut:v1"), folder)
        line.up_marks = []
        uri = publish_output(config, folder)
    assert uri is not None


def test_a_cut_pull_goes_on_where_it_was(registry: Place, output: Any, folder: Path, tmp_path: Path) -> None:
    """The line is cut twice: the files are right, and little was sent again."""
    publish_output(output(registry.host, "team/pull:v1"), folder)
    with cutter(registry.host) as line:
        line.down_marks = [3 << 20, 6 << 20]
        fetch_artifact(Place(f"127.0.0.1:{line.port}").repository("team/pull:v1"), tmp_path / "back")
        assert line.down_marks == []
        assert line.downloaded < 12 << 20
    assert content_of(tmp_path / "back") == content_of(folder)


@pytest.mark.parametrize("moves", [False, True])
def test_a_tag_that_moved_is_not_unpacked_over_the_old_files(
    registry: Place, output: Any, folder: Path, tmp_path: Path, *, moves: bool
) -> None:
    """A pull that was cut goes on where the tag is the same; where it names another image, nothing of the old stays."""
    config = output(registry.host, "team/moved:v1")
    publish_output(config, folder)
    with cutter(registry.host) as line:
        place = Place(f"127.0.0.1:{line.port}")
        line.down_marks = [4 << 20] * 50
        with pytest.raises(ServiceUnavailableError, match=r"tried 3 times"):
            fetch_artifact(place.repository("team/moved:v1"), tmp_path / "back")
        assert (tmp_path / "back" / "a.json").is_file()
        if moves:
            (folder / "a.json").unlink()
            (folder / "model.onnx").write_bytes(b"new")
            publish_output(config, folder)
        line.down_marks, before = [], line.downloaded
        fetch_artifact(place.repository("team/moved:v1"), tmp_path / "back")
        assert (line.downloaded - before < 7 << 20) is not moves
    assert content_of(tmp_path / "back") == content_of(folder)


BLOB = os.urandom(3 << 20)


class Careless(http.server.BaseHTTPRequestHandler):
    """A registry with one blob, which it cuts at its half; asked for the rest, it answers by `server.way`."""

    def do_GET(self):
        """The root, the manifest, or the blob."""
        digest = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
        layer = {"digest": digest, "size": len(BLOB), "annotations": {"org.opencontainers.image.title": "model.bin"}}
        bodies = {"/v2/team/bot/manifests/v1": json.dumps({"layers": [layer]}).encode()}
        if self.path.endswith(digest):
            self.give(int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-")))
        else:
            self.send_file(200, bodies.get(self.path, b""))

    def give(self, start):
        """The blob, cut the first time, or what is taken for the rest of it."""
        self.server.starts.append(start)
        if len(self.server.starts) == 1:
            self.send_file(200, BLOB, sent=len(BLOB) // 2)
        elif not start:
            self.send_file(200, BLOB)
        elif self.server.way == "no rest":
            self.send_file(416, b"")
        else:
            extent = {"Content-Range": f"bytes {start - 10}-{len(BLOB) - 11}/{len(BLOB)}"}
            self.send_file(206, BLOB[start - 10 : -10], **(extent if self.server.way == "another range" else {}))

    def send_file(self, status, body, sent=None, **headers):
        """An answer, or its beginning."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *_):
        """Keep quiet."""


@pytest.mark.parametrize("way", ["another range", "a range without its bounds", "no rest"])
def test_a_blob_whose_rest_is_another_one_is_fetched_anew(tmp_path: Path, way: str) -> None:
    """Its bytes would come to lie in the wrong place, which the digest tells only when all of them are here."""
    httpd: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    httpd.way, httpd.starts = way, []
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    try:
        fetch_artifact(Place(f"127.0.0.1:{httpd.server_address[1]}").repository("team/bot:v1"), tmp_path / "back")
    finally:
        httpd.shutdown()
        httpd.server_close()
    assert content_of(tmp_path / "back") == {"model.bin": BLOB}
    first, rest, *anew = httpd.starts
    assert (first, anew) == (0, [0])
    assert rest > 0


def test_files_of_an_artifact_are_read(registry: Place, tmp_path: Path) -> None:
    """An artifact as the ORAS command line makes it: a layer per file, named by an annotation."""
    layer = {"mediaType": "text/plain", "digest": registry.push("data/rows", b'{"text": "hi"}\n'), "size": 15}
    layer |= {"annotations": {"org.opencontainers.image.title": "rows/train.jsonl"}}
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": registry.push("data/rows", b"{}"), "size": 2}
    manifest = {"schemaVersion": 2, "config": empty, "layers": [layer]}
    manifest["mediaType"] = kind = "application/vnd.oci.image.manifest.v1+json"
    registry.push("data/rows/manifests/v1", json.dumps(manifest).encode(), kind)

    fetch_artifact(registry.repository("data/rows:v1"), tmp_path / "rows")

    assert content_of(tmp_path / "rows") == {"rows/train.jsonl": b'{"text": "hi"}\n'}


def test_model_and_data_come_from_a_registry(
    locked: Place, output: Any, job: Any, run_stage: Any, tmp_path: Path
) -> None:
    """The prepare stage, as a process, with a login: the model by its tag, the rows by their digest."""
    login = {"username": "team", "password": WORD}
    publish_output(output(locked.host, "models/tiny:v1", **login), MODEL)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_bytes(b'{"prompt": "hi", "completion": "hello"}\n' * 8)
    rows = publish_output(output(locked.host, "data/rows:v1", **login), tmp_path / "rows")
    reference = {"secretRef": {"name": "login"}}
    config = job(model={"preset": None, "uri": f"oci://{locked.host}/models/tiny:v1", **reference})
    config["spec"]["dataset"] = {"train": {"uri": rows, **reference}, "evaluation": {"fraction": 0.5}}
    config["secrets"] = {"login": str(tmp_path / "secret")}

    code, termination = run_stage(Stage.PREPARE, config)

    assert code == 0, termination
    assert termination.dataset.examples == 4
    fetched = Path(config["workspace"]) / "model" / "model.safetensors"
    assert fetched.read_bytes() == (MODEL / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside"])
def test_a_file_that_leaves_the_folder_is_refused(registry: Place, tmp_path: Path, name: str) -> None:
    """Neither a title nor an entry of a tar may point outside."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(f"../{name}")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    kind = "application/vnd.oci.image.manifest.v1+json"
    config = {"mediaType": kind, "digest": registry.push("bad", b"{}"), "size": 2}
    titled = {"mediaType": "text/plain", "digest": registry.push("bad", b"x"), "size": 1}
    titled |= {"annotations": {"org.opencontainers.image.title": name}}
    tarred = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(packed.getvalue())}
    tarred |= {"digest": registry.push("bad", packed.getvalue())}
    for tag, layer in (("title", titled), ("tar", tarred)):
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}
        registry.push(f"bad/manifests/{tag}", json.dumps(manifest).encode(), kind)
        with pytest.raises(InputNotFoundError, match="is refused"):
            fetch_artifact(registry.repository(f"bad:{tag}"), tmp_path / "in")
    assert not list(tmp_path.rglob("outside"))


def test_an_absent_tag_is_named(registry: Place, tmp_path: Path) -> None:
    """The message has the URI with its tag."""
    with pytest.raises(InputNotFoundError, match=rf"oci://{registry.host}/team/none:v9 does not exist"):
        fetch_artifact(registry.repository("team/none:v9"), tmp_path)


def logins(host: str) -> list[dict[str, str]]:
    """A secret's values in each form that a login can have."""
    word = base64.b64encode(f"team:{WORD}".encode()).decode()
    return [
        {"username": "team", "password": WORD},
        {".dockerconfigjson": json.dumps({"auths": {host: {"auth": word}}})},
        {".dockerconfigjson": json.dumps({"auths": {f"https://{host}/v2/": {"username": "team", "password": WORD}}})},
    ]


def test_a_login_opens_a_locked_registry(locked: Place, output: Any, folder: Path, tmp_path: Path) -> None:
    """By name and password, or by a Secret of type kubernetes.io/dockerconfigjson."""
    for number, values in enumerate(logins(locked.host)):
        publish_output(output(locked.host, f"team/bot:v{number}", **values), folder)
        fetch_artifact(locked.repository(f"team/bot:v{number}", **values), tmp_path / str(number))
        assert content_of(tmp_path / str(number)) == content_of(folder)


def test_a_missing_or_wrong_login_is_refused(locked: Place, output: Any, folder: Path) -> None:
    """The message says so at once, without the word; a docker configuration for another host names the hosts it has."""
    with pytest.raises(OutputNotWritableError, match=r"asks for a login; give spec.output.secretRef"):
        publish_output(output(locked.host, "team/bot:v1"), folder)
    with pytest.raises(OutputNotWritableError, match="access is denied") as caught:
        publish_output(output(locked.host, "team/bot:v1", username="team", password="a-wrong-word"), folder)
    assert "a-wrong-word" not in str(caught.value)
    with pytest.raises(BadConfigError, match=r"has no login for .*; it has: ghcr.io"):
        locked.repository("team/bot:v1", **logins("ghcr.io")[1])


class Referring(http.server.BaseHTTPRequestHandler):
    """A registry that refers to another address, and that address; notes each login."""

    def answer(self):
        """Ask for a login at the root, and for a token at the rest; refer to the other host."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        login = self.headers.get("Authorization", "")
        self.server.seen.append((self.command, login.partition(" ")[0]))
        host, referring = self.headers["Host"], self.server.refers_to
        status, headers, body = {"HEAD": 404, "POST": 202}.get(self.command, 201), {}, b""
        if self.path.startswith("/token"):
            status, body = 200, b'{"token": "abc"}'
        elif referring and not login:
            status, way = 401, self.server.way.format(host=host)
            headers = {"Www-Authenticate": way}
        elif referring and "moved" in self.path:
            status, headers = 307, {"Location": f"http://{referring}/moved"}
        elif self.command == "POST":
            headers = {"Location": f"http://{referring}/upload?state=x"}
        elif not referring and self.server.way.startswith("Bearer"):
            status = 403 if "moved" in self.path else 401
            headers = {"Www-Authenticate": f'Bearer realm="http://{host}/token",service="x"'}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - the library's names

    def log_message(self, *_):
        """Keep quiet."""


@contextlib.contextmanager
def referring(refers_to: str, way: str) -> Iterator[Any]:
    """A server that refers to another one, or is that one."""
    httpd: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Referring)
    httpd.refers_to, httpd.way, httpd.seen = refers_to, way, []
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(
    ("way", "refused"), [('Basic realm="x"', False), ('Bearer realm="http://{host}/token",service="x"', True)]
)
def test_a_login_stays_with_its_registry(output: Any, folder: Path, way: str, *, refused: bool) -> None:
    """An upload that is sent to another host gets neither login nor token there, even when that host asks for one."""
    with referring("", way) as store, referring(f"127.0.0.1:{store.server_address[1]}", way) as registry:
        config = output(f"127.0.0.1:{registry.server_address[1]}", "team/bot:v1", username="team", password=WORD)
        with pytest.raises(OutputNotWritableError, match="denied") if refused else contextlib.nullcontext():
            publish_output(config, folder)
        assert ("POST", way.partition(" ")[0]) in registry.seen
        assert set(store.seen) == {("PUT", "")}


def test_a_host_that_a_blob_is_redirected_to_cannot_ask_for_the_login() -> None:
    """Its challenge names a token service of its own, which would get the name and the password."""
    way = 'Bearer realm="http://{host}/token",service="x"'
    with referring("", way) as store, referring(f"127.0.0.1:{store.server_address[1]}", way) as registry:
        place = Place(f"127.0.0.1:{registry.server_address[1]}")
        repository = place.repository("team/bot", username="team", password=WORD)
        with pytest.raises(InputNotFoundError, match="access is denied"):
            repository.request("GET", repository.url("blobs/moved"))
        assert set(store.seen) == {("GET", "")}


@pytest.mark.parametrize(
    "entry",
    [
        {"auth": "no base64!"},
        {"auth": base64.b64encode(b"\xff\xfe").decode()},
        {"auth": base64.b64encode(b"team:").decode(), "identitytoken": WORD},
        {"identitytoken": WORD},
        {"username": "team"},
        {},
        "team",
    ],
)
def test_a_docker_configuration_without_a_password_is_refused(entry: Any) -> None:
    """What is there and cannot be used is told with the key; a token in it is hidden as a password is."""
    content = json.dumps({"auths": {"127.0.0.1:5000": entry}})
    credentials = Credentials("login", {".dockerconfigjson": content})
    with pytest.raises(BadConfigError, match=r"key .dockerconfigjson: the login for 127.0.0.1:5000 has no name"):
        login_of("127.0.0.1:5000", credentials, "spec.model.uri")
    assert (HIDDEN in credentials.hide(f"Bearer {WORD}")) is (WORD in content)


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": ["team"]}', '{"auths": null}'])
def test_what_is_no_docker_configuration_is_refused(content: str) -> None:
    """Whatever the key holds, the message names it."""
    with pytest.raises(BadConfigError, match=r"key .dockerconfigjson: is no JSON with 'auths'"):
        login_of("ghcr.io", Credentials("login", {".dockerconfigjson": content}), "spec.model.uri")


@pytest.mark.parametrize("name", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("authority", ["docker.io", "registry-1.docker.io"])
def test_docker_hub_is_known_by_each_of_its_names(name: str, authority: str) -> None:
    """`docker login` without a host writes the first; a configuration for another host is not taken."""
    auths = {"ghcr.io": {"username": "x", "password": "y"}, name: {"username": "team", "password": WORD}}
    credentials = Credentials("login", {".dockerconfigjson": json.dumps({"auths": auths})})
    assert login_of(authority, credentials, "spec.model.uri") == ("team", WORD)


def test_a_registry_that_is_down_is_an_outage() -> None:
    """Nothing listens there: trying again can help."""
    with pytest.raises(ServiceUnavailableError, match=r"does not answer.*tried 3 times"):
        Place(f"127.0.0.1:{servers.free_port()}").repository("team/bot:v1")
