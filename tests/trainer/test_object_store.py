"""Object stores against real servers: versitygw for s3://, Azurite for az://, fake-gcs-server for gs://."""

import base64
import hashlib
import hmac
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from cutter import Cutter, cutter
from obstore.store import AzureStore, S3Store
from xml_api import service_account, xml_api

import servers
from tunesmith_api import ExitCode, JobConfig, Stage, parse_uri
from tunesmith_api.finetunejob import SecretReference
from tunesmith_trainer import publish, stores
from tunesmith_trainer.credentials import Credentials, Redaction, secret_parts
from tunesmith_trainer.errors import (
    BadConfigError,
    InputNotFoundError,
    OutputNotWritableError,
    ServiceUnavailableError,
    StageError,
)
from tunesmith_trainer.fetch import Input, locate_model
from tunesmith_trainer.hub import MODEL_PATTERNS
from tunesmith_trainer.object_store import MANIFEST, fetch_objects, read_manifest
from tunesmith_trainer.publish import publish_output
from tunesmith_trainer.retry import ATTEMPTS_VARIABLE, FIRST_WAIT_VARIABLE, Retry
from tunesmith_trainer.stores import Remote, open_remote
from tunesmith_trainer.workspace import Workspace

pytestmark = pytest.mark.timeout(900)  # the first run builds the servers

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
SECRET = "a-very-secret-access-key"
AZURE_KEY = base64.b64encode(b"a-very-secret-azure-account-key!").decode()
QUICK = Retry(attempts=3, first_seconds=0.01)
ROWS = b'{"prompt": "hi", "completion": "hello"}\n' * 8
HTTP: Any = {"allow_http": True}


@dataclass(frozen=True)
class Server:
    """A running store.

    Attributes:
        scheme: of its URIs.
        values: keys and values of the secret that opens it.
        wrong: those of the secret that are to be replaced by these for the store to refuse it.
        put: puts an object into the bucket `box`.
    """

    scheme: str
    values: dict[str, str]
    wrong: dict[str, str]
    put: Callable[[str, bytes], Any]

    def remote(self, path: str, retry: Retry = QUICK, **changes: str) -> Remote:
        """A place in the bucket, with some values of the secret changed."""
        credentials = Credentials("store", {**self.values, **changes})
        return open_remote(parse_uri(f"{self.scheme}://box/{path}"), credentials, retry, field="spec.model.uri")

    def over(self, line: Cutter) -> str:
        """The endpoint where it is reached over a line."""
        return str(httpx.URL(self.values["endpoint"]).copy_with(port=line.port))

    def write_secret(self, folder: Path, **changes: str) -> Path:
        """The secret's keys as files."""
        folder.mkdir(exist_ok=True)
        for key, value in {**self.values, **changes}.items():
            (folder / key).write_text(value)
        return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server that checks signatures, with a bucket."""
    with servers.s3(tmp_path_factory.mktemp("s3"), "AKIAEXAMPLE", SECRET) as url:
        values = {"access-key-id": "AKIAEXAMPLE", "secret-access-key": SECRET, "endpoint": url}
        store = S3Store("box", endpoint=url, access_key_id="AKIAEXAMPLE", secret_access_key=SECRET, client_options=HTTP)
        wrong = {"secret-access-key": "another-secret-of-mine"}
        yield Server("s3", values, wrong, lambda path, content: obstore.put(store, path, content))


@pytest.fixture(scope="module")
def az(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Azure Storage's emulator, which checks signatures, with a container."""
    folder, port = tmp_path_factory.mktemp("az"), servers.free_port()
    options = ["--blobPort", str(port), "--blobHost", "127.0.0.1", "--skipApiVersionCheck", "--silent"]
    argv = [*servers.azurite(), *options, "--inMemoryPersistence"]
    with servers.running(argv, port, folder / "log", AZURITE_ACCOUNTS=f"acme:{AZURE_KEY}") as url:
        store = AzureStore(
            "box", account_name="acme", account_key=AZURE_KEY, endpoint=f"{url}/acme", client_options=HTTP
        )
        _create_container(store, "box")
        _create_container(store, "open", public=True)
        values = {"account-name": "acme", "account-key": AZURE_KEY, "endpoint": f"{url}/acme"}
        wrong = {"account-key": base64.b64encode(b"another-secret-azure-account-key").decode()}
        yield Server("az", values, wrong, lambda path, content: obstore.put(store, path, content))


def _create_container(store: Any, name: str, *, public: bool = False) -> None:
    """The library has no call for it: the signature of a request to the container's own address is made by hand."""
    endpoint = store.config["endpoint"]
    date = formatdate(usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": "2023-11-03", "Content-Length": "0"}
    access = "x-ms-blob-public-access:container\n" if public else ""
    headers |= {"x-ms-blob-public-access": "container"} if public else {}
    canonical = f"{access}x-ms-date:{date}\nx-ms-version:2023-11-03\n/acme/acme/{name}\nrestype:container"
    text = "PUT\n\n\n\n\n\n\n\n\n\n\n\n" + canonical
    mac = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey acme:{base64.b64encode(mac).decode()}"
    answer = httpx.put(f"{endpoint}/{name}?restype=container", headers=headers)
    assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An emulator of Google Cloud Storage, with a bucket, behind the login and the XML writes that it lacks."""
    folder, port = tmp_path_factory.mktemp("gs"), servers.free_port()
    (folder / "data" / "box").mkdir(parents=True)
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    argv = [servers.program("fake-gcs-server"), *options, "-backend", "memory", "-data", str(folder / "data")]
    account = service_account(folder / "key")
    with servers.running(argv, port, folder / "log") as plain, xml_api(plain, folder / "key") as url:

        def put(path: str, content: bytes) -> None:
            query = {"uploadType": "media", "name": path}
            answer = httpx.post(f"{plain}/upload/storage/v1/b/box/o", params=query, content=content)
            assert answer.status_code == 200, answer.text

        values = {"service-account.json": account, "endpoint": url}
        yield Server("gs", values, {"service-account.json": service_account(folder / "another")}, put)


@pytest.fixture(params=["s3", "az", "gs"])
def store(request: pytest.FixtureRequest) -> Server:
    """Each store."""
    found: Server = request.getfixturevalue(request.param)
    return found


def test_a_file_and_a_folder_are_read(store: Server, tmp_path: Path) -> None:
    """A URI names one object or the folder of objects below it; pickles and neighbours of the same beginning stay."""
    for path in ("data/train.jsonl", "data/more/test.jsonl", "data/weights.bin", "data-other/x.jsonl"):
        store.put(path, ROWS)

    single = fetch_objects(store.remote("data/train.jsonl"), tmp_path / "one", ("*.jsonl",))
    folder = fetch_objects(store.remote("data/"), tmp_path / "all", ("*.jsonl",))

    assert single == tmp_path / "one" / "train.jsonl"
    assert single.read_bytes() == ROWS
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == {"train.jsonl", "more/test.jsonl"}


def test_what_is_not_there_is_named(store: Server, tmp_path: Path) -> None:
    """Neither an object nor a folder: the URI is named; a folder without wanted files says what was looked for."""
    store.put("pickles/model.bin", b"x")

    with pytest.raises(InputNotFoundError, match=rf"{store.scheme}://box/nothing: there is no such object"):
        fetch_objects(store.remote("nothing"), tmp_path, ("*",))
    with pytest.raises(InputNotFoundError, match=r"1 objects and none of \*\.jsonl"):
        fetch_objects(store.remote("pickles"), tmp_path, ("*.jsonl",))


def test_a_model_of_pickles_is_refused_before_it_is_fetched(s3: Server, tmp_path: Path) -> None:
    """They are never fetched, so without a word the weights would just be missing."""
    for name in ("config.json", "pytorch_model.bin"):
        s3.put(f"pickled/{name}", b"{}")
    with pytest.raises(BadConfigError, match=r"s3://box/pickled has only pickled weights \(pytorch_model.bin\)"):
        fetch_objects(s3.remote("pickled"), tmp_path / "in", MODEL_PATTERNS)
    assert not (tmp_path / "in").exists()


def test_a_cut_download_goes_on_where_it_was(store: Server, tmp_path: Path) -> None:
    """The line is cut twice: the file is right, and little of it was sent again."""
    content = os.urandom(6 << 20)
    store.put("large.parquet", content)
    with cutter(store.values["endpoint"]) as line:
        line.down_marks = [2 << 20, 4 << 20]
        path = fetch_objects(store.remote("large.parquet", endpoint=store.over(line)), tmp_path, ("*",))
        assert path.read_bytes() == content
        assert line.down_marks == []
        assert line.downloaded < 1.5 * len(content)


@pytest.mark.usefixtures("without_library_retries")
def test_a_killed_download_goes_on_in_the_next_run(store: Server, tmp_path: Path) -> None:
    """The part that a first run left is kept and completed by the second, unless the object has changed."""
    content = os.urandom(4 << 20)
    store.put("killed.bin", content)
    with cutter(store.values["endpoint"]) as line:
        for expected in (content, bytes(reversed(content))):
            line.down_marks = [line.downloaded + (3 << 20), line.downloaded + (3 << 20) + 1]
            impatient = store.remote("killed.bin", Retry(attempts=1), endpoint=store.over(line))
            with pytest.raises(ServiceUnavailableError, match=r"tried 1 times"):
                fetch_objects(impatient, tmp_path, ("*",))
            assert 0 < (tmp_path / ".killed.bin.part").stat().st_size < len(content)
            store.put("killed.bin", expected)
            line.down_marks = []
            assert fetch_objects(store.remote("killed.bin"), tmp_path, ("*",)).read_bytes() == expected
            (tmp_path / "killed.bin").unlink()


@pytest.fixture
def without_library_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is cut once is a failed attempt of ours."""
    monkeypatch.setattr(stores, "_LIBRARY_RETRIES", {"max_retries": 0})


@pytest.fixture
def line(s3: Server, without_library_retries: None) -> Iterator[Cutter]:
    """A line to the store that can be cut."""
    with cutter(s3.values["endpoint"]) as found:
        yield found


def interrupt(line: Cutter, s3: Server, path: str, target: Path) -> None:
    """Fetch a folder whose large file is the last one, until the line is cut within that."""
    line.down_marks = [line.downloaded + (1 << 20)]
    with pytest.raises(ServiceUnavailableError, match=r"tried 1 times"):
        fetch_objects(s3.remote(path, Retry(attempts=1), endpoint=s3.over(line)), target, ("*",))
    assert any(target.rglob(".*.part"))


LARGE = os.urandom(2 << 20)
FIRST = {"a.bin": b"first", "b.bin": b"only in the first", "more/z.bin": LARGE}
SECOND = {"a.bin": b"other", "more/z.bin": LARGE[::-1]}


def test_two_versions_of_a_folder_are_not_mixed(s3: Server, line: Cutter, tmp_path: Path) -> None:
    """A folder that changed between two runs is fetched anew: no file of the first version stays, old or surplus."""
    store = s3.remote("mix").store
    for name, content in FIRST.items():
        s3.put(f"mix/{name}", content)
    interrupt(line, s3, "mix", tmp_path / "in")
    obstore.delete(store, "mix/b.bin")
    for name, content in SECOND.items():
        s3.put(f"mix/{name}", content)
    fetch_objects(s3.remote("mix"), tmp_path / "in", ("*",))
    assert content_of(tmp_path / "in") == SECOND


def test_a_folder_that_is_the_same_goes_on(s3: Server, line: Cutter, tmp_path: Path) -> None:
    """What the first run brought of an unchanged folder is not read again."""
    for name, content in {"0.bin": LARGE, "1.bin": LARGE[:1000], "2.bin": LARGE}.items():
        s3.put(f"same/{name}", content)
    line.down_marks = [3 << 20]
    with pytest.raises(ServiceUnavailableError):
        fetch_objects(s3.remote("same", Retry(attempts=1), endpoint=s3.over(line)), tmp_path / "in", ("*",))
    before = line.downloaded
    fetch_objects(s3.remote("same", endpoint=s3.over(line)), tmp_path / "in", ("*",))
    assert content_of(tmp_path / "in") == {"0.bin": LARGE, "1.bin": LARGE[:1000], "2.bin": LARGE}
    assert line.downloaded - before < 1.5 * len(LARGE)


def test_a_folder_that_changes_while_it_is_read_is_read_anew(s3: Server, line: Cutter, tmp_path: Path) -> None:
    """The second version comes while the first is fetched, here in the pause after a cut: a look at the end tells."""
    for name, content in FIRST.items():
        s3.put(f"live/{name}", content)
    line.down_marks = [1 << 20]
    patient = Retry(attempts=3, sleep=lambda _: s3.put("live/a.bin", SECOND["a.bin"]))
    fetch_objects(s3.remote("live", patient, endpoint=s3.over(line)), tmp_path / "in", ("*",))
    assert line.down_marks == []
    assert content_of(tmp_path / "in") == {**FIRST, "a.bin": SECOND["a.bin"]}


def test_the_digest_of_a_fragment_is_checked(s3: Server, tmp_path: Path) -> None:
    """Content of another digest than the URI states is refused and not kept."""
    s3.put("rows.jsonl", ROWS)
    with pytest.raises(InputNotFoundError, match=f"not {'0' * 64}"):
        fetch_objects(s3.remote(f"rows.jsonl#sha256={'0' * 64}"), tmp_path, ("*",))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_key_is_refused_and_not_shown(store: Server, tmp_path: Path) -> None:
    """The server checks the signature: the message says that access is denied, without the key."""
    with pytest.raises(InputNotFoundError, match="access is denied") as caught:
        fetch_objects(store.remote("data/train.jsonl", **store.wrong), tmp_path, ("*",))
    shown = f"{caught.value} {caught.value.__cause__}"
    assert not any(part in shown for part in secret_parts(store.wrong))


def test_a_full_disk_is_told_before_anything_is_fetched(
    s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what is needed, what is there, and which field to raise."""
    s3.put("data/train.jsonl", ROWS)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputNotWritableError, match=r"needs 0.00 GiB .* spec.workspace.size"):
        fetch_objects(s3.remote("data/train.jsonl"), tmp_path, ("*",))


def test_a_disk_needs_room_for_the_rest_alone(
    s3: Server, line: Cutter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed fetch has left of a file is not asked for twice: of 19 MiB 16 stay free, and 3 do for the rest."""
    s3.put("part/large.bin", os.urandom(4 << 20))
    line.down_marks = [3 << 20]
    with pytest.raises(ServiceUnavailableError):
        fetch_objects(s3.remote("part/", Retry(attempts=1), endpoint=s3.over(line)), tmp_path, ("*",))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=19 << 20))
    fetch_objects(s3.remote("part/"), tmp_path, ("*",))
    assert (tmp_path / "large.bin").stat().st_size == 4 << 20


def test_plain_http_needs_the_secrets_word(tmp_path: Path) -> None:
    """Without an endpoint that says http:// the connection is encrypted."""
    remote = open_remote(parse_uri("s3://box/x"), Credentials(), QUICK, field="spec.model.uri")
    assert remote.store.client_options["allow_http"] in {False, "false"}
    with pytest.raises(BadConfigError, match="the key account-name, and with account-key or sas-token unless"):
        open_remote(parse_uri("az://box/x"), Credentials(), QUICK, field="spec.model.uri")


# Writing.


@pytest.fixture
def output(tmp_path: Path, job: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobConfig]:
    """`output(store, path, **changes)`: a job whose output is there, with changes to the secret's values."""
    monkeypatch.setenv(FIRST_WAIT_VARIABLE, "0.01")
    monkeypatch.setenv(ATTEMPTS_VARIABLE, "2")

    def make(store: Server, path: str, **changes: str) -> JobConfig:
        uri = f"{store.scheme}://box/{path}"
        secrets = {"store": str(store.write_secret(tmp_path / "secret", **changes))}
        config = job(output={"uri": uri, "secretRef": {"name": "store"}}) | {"secrets": secrets}
        return JobConfig.model_validate(config)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder: large and small files, and one below."""
    found = tmp_path / "export"
    (found / "more").mkdir(parents=True)
    for name, size in {"model.onnx": 1000, "model.onnx.data": 3 << 20, "a.json": 10, "more/b.json": 7}.items():
        (found / name).write_bytes(os.urandom(size))
    return found


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_published_folder_is_read_back(store: Server, output: Any, folder: Path, tmp_path: Path) -> None:
    """What was written comes back byte for byte, and the manifest lists it with digests."""
    uri = publish_output(output(store, "team/bot"), folder)

    assert uri == f"{store.scheme}://box/team/bot"
    fetch_objects(store.remote("team/bot"), tmp_path / "back", ("*",))
    assert content_of(tmp_path / "back") == content_of(folder)
    manifest = read_manifest(store.remote("team/bot"))
    assert manifest is not None
    assert manifest.complete
    assert set(manifest.files) == set(content_of(folder))


def test_a_large_file_goes_up_in_parts(
    store: Server, output: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of 5 MiB, the least that S3 takes, come together to the same file."""
    monkeypatch.setattr(publish, "_PART_BYTES", 5 << 20)
    (folder / "model.onnx.data").write_bytes(os.urandom(12 << 20))
    publish_output(output(store, "team/parts"), folder)
    fetch_objects(store.remote("team/parts"), tmp_path / "back", ("*",))
    assert content_of(tmp_path / "back") == content_of(folder)


def test_an_encrypted_endpoint_of_an_own_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE names the authorities; without it the endpoint's certificate is refused."""
    (tmp_path / "data" / "box").mkdir(parents=True)
    (tmp_path / "data" / "box" / "rows.jsonl").write_bytes(ROWS)
    pair = servers.certificate(tmp_path, "IP:127.0.0.1")
    port = servers.free_port()
    argv = [servers.program("versitygw"), "--port", f"127.0.0.1:{port}", "--quiet", "--cert", str(pair[0])]
    argv += ["--key", str(pair[1]), "posix", str(tmp_path / "data")]
    keys = {"ROOT_ACCESS_KEY": "AKIAEXAMPLE", "ROOT_SECRET_KEY": SECRET}
    values = {"access-key-id": "AKIAEXAMPLE", "secret-access-key": SECRET, "endpoint": f"https://127.0.0.1:{port}"}
    with servers.running(argv, port, tmp_path / "log", **keys):
        server = Server("s3", values, {}, lambda *_: None)
        with pytest.raises(ServiceUnavailableError):
            fetch_objects(server.remote("rows.jsonl"), tmp_path / "back", ("*",))
        monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
        assert fetch_objects(server.remote("rows.jsonl"), tmp_path / "back", ("*",)).read_bytes() == ROWS


@pytest.mark.parametrize("name", ["{outside}/x.json", "../x.json", "a/../../x.json", "a//x.json", ""])
def test_a_manifest_leads_to_no_file_outside_of_the_folder(s3: Server, tmp_path: Path, name: str) -> None:
    """A bucket's owner is not the owner of the node: absolute names and those that climb are refused."""
    outside = tmp_path / "outside"
    named = name.format(outside=outside)
    entry = {"size": len(ROWS), "sha256": hashlib.sha256(ROWS).hexdigest()}
    manifest = {"complete": True, "digest": "x", "files": {named: entry}}
    s3.put(f"climbing/{MANIFEST}", json.dumps(manifest).encode())
    s3.put(f"climbing{outside}/x.json", ROWS)
    with pytest.raises(InputNotFoundError, match=r"tunesmith-manifest.json: the file name .* leaves the folder"):
        fetch_objects(s3.remote("climbing"), tmp_path / "in", ("*.json",))
    assert not outside.exists()


def test_a_file_that_differs_from_the_manifest_is_refused(
    s3: Server, output: Any, folder: Path, tmp_path: Path
) -> None:
    """Somebody overwrote an object: the digest tells."""
    publish_output(output(s3, "team/changed"), folder)
    s3.put("team/changed/a.json", b"0123456789")
    with pytest.raises(InputNotFoundError, match=r"a.json has the SHA-256"):
        fetch_objects(s3.remote("team/changed"), tmp_path / "back", ("*",))


def publish_large(folder: Path, config: Any) -> None:
    """Publish a folder whose large file is the last one."""
    (folder / "z.bin").write_bytes(LARGE)
    (folder / "model.onnx.data").write_bytes(b"small")
    publish_output(config, folder)


def test_two_published_versions_are_not_mixed(
    s3: Server, line: Cutter, output: Any, folder: Path, tmp_path: Path
) -> None:
    """Another upload came between two runs: neither its manifest's files nor surplus ones are of the first upload."""
    publish_large(folder, output(s3, "team/mix"))
    interrupt(line, s3, "team/mix", tmp_path / "in")
    assert (tmp_path / "in" / "a.json").is_file()
    (folder / "a.json").unlink()
    (folder / "model.onnx").write_bytes(b"new")
    publish_output(output(s3, "team/mix"), folder)
    fetch_objects(s3.remote("team/mix"), tmp_path / "in", ("*",))
    assert content_of(tmp_path / "in") == content_of(folder)


def test_a_file_that_was_spoiled_between_two_runs_is_fetched_again(
    s3: Server, line: Cutter, output: Any, folder: Path, tmp_path: Path
) -> None:
    """A file that is there is held against the manifest's digest, as one that is fetched."""
    publish_large(folder, output(s3, "team/spoiled"))
    interrupt(line, s3, "team/spoiled", tmp_path / "in")
    (tmp_path / "in" / "a.json").write_bytes(bytes(10))
    fetch_objects(s3.remote("team/spoiled"), tmp_path / "in", ("*",))
    assert content_of(tmp_path / "in") == content_of(folder)


def test_a_cut_upload_is_invisible_and_goes_on(store: Server, output: Any, folder: Path, tmp_path: Path) -> None:
    """Half of an upload is refused by readers; the next run sends the rest only, and then it is whole."""
    with cutter(store.values["endpoint"]) as line:
        line.up_marks = [1 << 20, (1 << 20) + 1, (1 << 20) + 2, (1 << 20) + 3, (1 << 20) + 4]
        config = output(store, "team/cut", endpoint=store.over(line))
        with pytest.raises(ServiceUnavailableError, match=r"model.onnx.data: .*tried 2 times"):
            publish_output(config, folder)
        with pytest.raises(InputNotFoundError, match="is being uploaded, or its upload was cut off"):
            fetch_objects(store.remote("team/cut"), tmp_path / "half", ("*",))
        line.up_marks, before = [], line.uploaded
        publish_output(config, folder)
        assert line.uploaded - before < 1.2 * sum(map(len, content_of(folder).values()))
    fetch_objects(store.remote("team/cut"), tmp_path / "back", ("*",))
    assert content_of(tmp_path / "back") == content_of(folder)


def test_a_new_version_replaces_the_old_one(store: Server, output: Any, folder: Path, tmp_path: Path) -> None:
    """Files that the new version lacks are removed once it is whole."""
    publish_output(output(store, "team/two"), folder)
    (folder / "a.json").unlink()
    (folder / "model.onnx").write_bytes(b"new")
    publish_output(output(store, "team/two"), folder)

    fetch_objects(store.remote("team/two"), tmp_path / "back", ("*",))
    assert content_of(tmp_path / "back") == content_of(folder)
    assert store.remote("team/two").call("x", lambda: obstore.head(store.remote("x").store, "team/two/a.json")) is None


def test_an_output_that_refuses_ends_with_74(store: Server, output: Any, folder: Path) -> None:
    """A wrong key and a bucket that is not there are the output's fault."""
    with pytest.raises(OutputNotWritableError, match="access is denied"):
        publish_output(output(store, "team/bot", **store.wrong), folder)
    config = output(store, "x")
    missing = {"uri": f"{store.scheme}://absent/x", "secretRef": {"name": "store"}}
    wire = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    wire["spec"]["output"] = missing
    with pytest.raises(OutputNotWritableError, match=r"absent"):
        publish_output(JobConfig.model_validate(wire), folder)


# Through the stage.


def test_model_and_data_come_from_a_store(store: Server, job: Any, run_stage: Any, tmp_path: Path) -> None:
    """The prepare stage, as a process: the model's folder, a folder of rows, and one file of rows by its digest."""
    for file in MODEL.iterdir():
        store.put(f"models/tiny/{file.name}", file.read_bytes())
    store.put("rows/train.jsonl", ROWS)
    digest = hashlib.sha256(ROWS).hexdigest()
    reference = {"secretRef": {"name": "store"}}
    config = job(model={"preset": None, "uri": f"{store.scheme}://box/models/tiny", **reference})
    config["spec"]["dataset"] = {
        "train": {"uri": f"{store.scheme}://box/rows/", **reference},
        "evaluation": {"uri": f"{store.scheme}://box/rows/train.jsonl#sha256={digest}", **reference},
    }
    config["secrets"] = {"store": str(store.write_secret(tmp_path / "secret"))}

    code, termination = run_stage(Stage.PREPARE, config)

    assert code == 0, termination
    assert (termination.dataset.examples, termination.dataset.evaluation_examples) == (8, 8)
    assert (Path(config["workspace"]) / "model" / "model.safetensors").is_file()


def test_the_model_folder_has_the_model_that_was_asked_for(s3: Server, job: Any, tmp_path: Path) -> None:
    """A fetch that ended before its last word goes on with the files that it has; another model has none of them."""
    models = {"one": {"config.json": b"one", "tokenizer.json": b"one"}, "two": {"config.json": b"two"}}
    for model, files in models.items():
        for name, content in files.items():
            s3.put(f"models/{model}/{name}", content)
    config = JobConfig.model_validate(job() | {"secrets": {"store": str(s3.write_secret(tmp_path / "secret"))}})
    workspace = Workspace(tmp_path / "workspace")

    def fetched(model: str) -> dict[str, int]:
        source = Input("spec.model", f"s3://box/models/{model}", SecretReference(name="store"))
        folder = locate_model(config, workspace, source)
        assert {name: (folder / name).read_bytes() for name in models[model]} == models[model]
        return {file.name: file.stat().st_ino for file in folder.iterdir() if not file.name.startswith(".")}

    first = fetched("one")
    (workspace.model / ".tunesmith.json").unlink()
    assert fetched("one") == first
    assert set(fetched("two")) == {"config.json"}


@pytest.mark.parametrize("key", ["access-key-id", "secret-access-key"])
def test_a_missing_key_is_named(s3: Server, job: Any, run_here: Any, tmp_path: Path, key: str) -> None:
    """The message says which key the secret lacks and which keys the scheme reads, for inputs and for the output."""
    secret = s3.write_secret(tmp_path / "secret")
    (secret / key).unlink()
    reference = {"secretRef": {"name": "store"}}
    for changes in (
        {"output": {"uri": "s3://box/x", **reference}},
        {"dataset": {"train": {"uri": "s3://box/x", **reference}}},
    ):
        ended = run_here(Stage.PREPARE, job(**changes) | {"secrets": {"store": str(secret)}})
        assert ended.code == ExitCode.INPUT_NOT_FOUND
        assert f"secret 'store' has no key '{key}'" in ended.message
        assert SECRET not in ended.message


def test_a_shared_access_signature_opens_one_object(az: Server, tmp_path: Path) -> None:
    """A token instead of the account's key: reading works, writing is refused."""
    az.put("signed.jsonl", ROWS)
    store = az.remote("signed.jsonl").store
    token = obstore.sign(store, "GET", "signed.jsonl", timedelta(minutes=5)).partition("?")[2]
    credentials = Credentials("store", {**az.values, "sas-token": token, "account-key": ""})
    remote = open_remote(parse_uri("az://box/signed.jsonl"), credentials, QUICK, field="spec.model.uri")
    assert fetch_objects(remote, tmp_path, ("*",)).read_bytes() == ROWS
    with pytest.raises(InputNotFoundError, match="access is denied"):
        remote.call("other", lambda: obstore.put(remote.store, "other", b"x"))


def public_container(az: Server, tmp_path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Rows in a public container: the place with a secret that has the account's name alone, and the secrets."""
    values = {name: az.values[name] for name in ("account-name", "endpoint")}
    place = AzureStore(
        "open", account_key=AZURE_KEY, account_name="acme", endpoint=values["endpoint"], client_options=HTTP
    )
    obstore.put(place, "rows/train.jsonl", ROWS)
    (tmp_path / "secret").mkdir()
    for key, value in values.items():
        (tmp_path / "secret" / key).write_text(value)
    return {"uri": "az://open/rows", "secretRef": {"name": "account"}}, {"account": str(tmp_path / "secret")}


def test_a_public_container_is_read_with_the_accounts_name_alone(
    az: Server, job: Any, run_here: Any, tmp_path: Path
) -> None:
    """Requests are anonymous then."""
    source, secrets = public_container(az, tmp_path)
    ended = run_here(Stage.PREPARE, job(dataset={"train": source}) | {"secrets": secrets})
    assert ended.code == 0, ended.message


def test_the_accounts_name_alone_opens_no_output(az: Server, job: Any, run_here: Any, tmp_path: Path) -> None:
    """Nobody may write to a container without a key: prepare says so before a training is lost to it."""
    place, secrets = public_container(az, tmp_path)
    ended = run_here(Stage.PREPARE, job(output=place) | {"secrets": secrets})
    assert ended.code == ExitCode.INPUT_NOT_FOUND
    assert "spec.output.secretRef: secret 'account' has no key 'account-key'" in ended.message


def test_nothing_that_a_stage_prints_has_a_secret(s3: Server, job: Any, start_stage: Any, tmp_path: Path) -> None:
    """A wrong key, from the log over the error to the termination message; the command line has none either."""
    wrong = s3.wrong["secret-access-key"]
    config = job(dataset={"train": {"uri": "s3://box/rows/", "secretRef": {"name": "store"}}})
    config["secrets"] = {"store": str(s3.write_secret(tmp_path / "secret", **s3.wrong))}
    with start_stage(Stage.PREPARE, config) as process:
        printed, _ = process.communicate()
    told = (tmp_path / "process" / "termination.json").read_text()
    assert process.returncode == ExitCode.INPUT_NOT_FOUND
    assert "access is denied" in told
    assert wrong not in printed + told + " ".join(process.args)


def test_a_line_of_the_log_is_searched_for_every_secret(job: Any, tmp_path: Path) -> None:
    """Whatever a library prints: values, parts of a docker configuration, a signature, the same quoted for a URL."""
    auths = {"host": {"auth": "dGVhbTpzZWNyZXQ="}}
    values = {
        "token": "hf_a/secret",
        ".dockerconfigjson": json.dumps({"auths": auths}),
        "sas-token": "sp=r&sig=abcdefg",
    }
    for key, value in values.items():
        (tmp_path / key).write_text(f"{value}\n")
    redaction = Redaction()
    redaction.learn(JobConfig.model_validate(job() | {"secrets": {"all": str(tmp_path)}}))
    line = "GET hf_a/secret hf_a%2Fsecret dGVhbTpzZWNyZXQ= sig=abcdefg region us-east-1"
    assert redaction.hide(line) == "GET [hidden] [hidden] [hidden] sig=[hidden] region us-east-1"


def test_errors_of_the_library_do_not_show_a_signature() -> None:
    """A shared access signature is part of the address that the library quotes."""
    token = "sv=2023&sp=r&sig=abc%2Fdef%3D"
    remote = open_remote(
        parse_uri("az://box/x"),
        Credentials("store", {"account-name": "acme", "sas-token": token, "endpoint": "http://127.0.0.1:1/acme"}),
        replace(QUICK, attempts=1),
        field="spec.model.uri",
    )
    with pytest.raises(StageError) as caught:
        read_manifest(remote)
    assert MANIFEST in str(caught.value)
    assert "abc" not in str(caught.value)
