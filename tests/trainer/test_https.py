"""Fetching over https: public addresses only, also after a redirect; bounded; whole or not at all."""

import hashlib
import http.server
import itertools
import os
import ssl
import threading
from ipaddress import ip_address

import httpx
import pytest

import servers
from tunesmith_api import ExitCode, Stage
from tunesmith_trainer.addresses import ALLOWED_HOSTS_VARIABLE, is_public, parse_allowed_hosts, resolve_public
from tunesmith_trainer.errors import BadConfigError, BadDataError, InputNotFoundError, ServiceUnavailableError
from tunesmith_trainer.https import FetchPolicy, fetch_https, policy_from
from tunesmith_trainer.retry import Retry

NAME = "data.example"
ROWS = b'{"prompt": "hi", "completion": "hello"}\n' * 4


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `/rows.jsonl`, redirects and errors, and notes what was asked."""

    def do_GET(self):
        """Answer by the path."""
        self.server.seen.append((self.path, self.headers["Host"], self.headers.get("Authorization")))
        if self.server.failures:
            self.send_response(self.server.failures.pop(0))
            self.send_header("Retry-After", "9")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path in self.server.large:
            self.send_large()
            return
        target = self.server.redirects.get(self.path)
        status = 302 if target else int(self.path[1:4]) if self.path[1:4].isdigit() else 200
        self.send_response(status)
        if target:
            self.send_header("Location", target)
        body = ROWS if status == 200 else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_large(self):
        """A file of `server.large`, or the rest of it; the connection is cut after `server.cut` bytes if set.

        A rest comes without Last-Modified, as RFC 9110 has it; a `server.careless` sends it of another file too.
        """
        content, identity = self.server.large[self.path]
        asked = self.headers.get("Range")
        start = 0
        if asked and self.server.ranges and (self.headers.get("If-Range") == identity or self.server.careless):
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + self.server.skipped
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if identity.startswith('"'):
            self.send_header("ETag", identity)
        elif not start:
            self.send_header("Last-Modified", identity)
        if start and not self.server.silent:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = start + self.server.cut if self.server.cut else len(content)
        self.server.sent += len(content[start:end])
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for the name, for localhost and for 127.0.0.1, that signs itself."""
    return servers.certificate(tmp_path_factory.mktemp("tls"), f"DNS:{NAME}", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
def server(certificate, monkeypatch):
    """A local https server whose certificate is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    httpd.seen, httpd.redirects, httpd.failures = [], {}, []
    httpd.large, httpd.cut, httpd.sent = {}, 0, 0
    httpd.ranges, httpd.careless, httpd.skipped, httpd.silent = True, False, 0, False
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def port(server):
    """The server's port."""
    return server.server_address[1]


QUICK = Retry(attempts=3, first_seconds=0.001)
ANYWHERE = FetchPolicy(lambda *_: "127.0.0.1", retry=QUICK)
LARGE = os.urandom(3 << 20)


def test_the_connection_goes_to_the_checked_address_under_the_uris_name(server, port, tmp_path):
    """The address comes from the check alone; TLS and the Host header keep the name, so rebinding finds no gap."""
    asked = []
    policy = FetchPolicy(lambda host, port: asked.append((host, port)) or "127.0.0.1")
    fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows.jsonl", policy, token="secret")
    assert (tmp_path / "rows.jsonl").read_bytes() == ROWS
    assert asked == [(NAME, port)]
    assert server.seen == [("/rows.jsonl", f"{NAME}:{port}", "Bearer secret")]


def test_a_certificate_for_another_name_is_refused(port, tmp_path):
    """Connecting by address does not weaken the check of the certificate."""
    with pytest.raises(InputNotFoundError, match="certificate is not valid"):
        fetch_https(f"https://other.example:{port}/rows.jsonl", tmp_path / "rows", ANYWHERE)


def test_every_hop_of_a_redirect_is_checked(server, port, tmp_path):
    """A redirect from an allowed host to a private address is refused before anything connects to it."""
    server.redirects["/rows.jsonl"] = f"https://localhost:{port}/secret"
    policy = policy_from({ALLOWED_HOSTS_VARIABLE: f"127.0.0.1:{port}"})
    with pytest.raises(
        BadConfigError,
        match=f"https://localhost:{port} is at .* not a public address.* TUNESMITH_ALLOWED_HOSTS .*trainer.env",
    ):
        fetch_https(f"https://127.0.0.1:{port}/rows.jsonl", tmp_path / "rows", policy)
    assert [path for path, _, _ in server.seen] == ["/rows.jsonl"]
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/x", "https://169.254.169.254/latest/meta-data", "file:///etc/passwd"]
)
def test_redirects_to_other_schemes_or_link_local_addresses_are_refused(server, port, tmp_path, target):
    """Neither plain http, nor a file, nor a cloud's metadata service is reached by a redirect."""
    server.redirects["/rows.jsonl"] = target
    policy = policy_from({ALLOWED_HOSTS_VARIABLE: f"127.0.0.1:{port}"})
    with pytest.raises(BadConfigError):
        fetch_https(f"https://127.0.0.1:{port}/rows.jsonl", tmp_path / "rows", policy)


@pytest.mark.parametrize("status", [300, 304])
def test_an_answer_that_leads_nowhere_is_a_refusal(server, port, tmp_path, status):
    """3xx without a Location: the status is told."""
    with pytest.raises(InputNotFoundError, match=f"answers {status}"):
        fetch_https(f"https://{NAME}:{port}/{status}", tmp_path / "rows", ANYWHERE)


@pytest.mark.parametrize("location", ["https://[::1/x?token=secret", "https://host:port/x"])
def test_a_redirect_to_what_is_no_address_is_refused(server, port, tmp_path, location):
    """It is the server's mistake, so it is not tried again."""
    server.redirects["/rows.jsonl"] = location
    with pytest.raises(InputNotFoundError, match=r"/rows.jsonl redirects to what is no address: Invalid port"):
        fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows", ANYWHERE)


def test_a_token_stays_with_its_host(server, port, tmp_path):
    """A redirect to another host is followed without the credentials."""
    server.redirects["/rows.jsonl"] = f"https://localhost:{port}/moved"
    fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows", ANYWHERE, token="secret")
    assert [(path, token) for path, _, token in server.seen] == [("/rows.jsonl", "Bearer secret"), ("/moved", None)]


def test_a_loop_of_redirects_ends(server, port, tmp_path):
    """A handful of hops is enough for any honest server."""
    server.redirects["/rows.jsonl"] = "/rows.jsonl"
    with pytest.raises(InputNotFoundError, match="more than 5 times"):
        fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows", ANYWHERE)


def test_a_file_above_the_limit_is_not_kept(server, port, tmp_path):
    """The download stops at the limit and leaves nothing behind."""
    with pytest.raises(BadDataError, match="larger than 10 bytes"):
        fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows", FetchPolicy(ANYWHERE.resolve, 10, QUICK))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, InputNotFoundError),
        (403, InputNotFoundError),
        (503, ServiceUnavailableError),
        (429, ServiceUnavailableError),
    ],
)
def test_a_refusal_is_told_from_an_outage(server, port, tmp_path, status, error):
    """4xx will not change by itself; 429 and 5xx may."""
    with pytest.raises(error, match=f"answers {status}"):
        fetch_https(f"https://{NAME}:{port}/{status}", tmp_path / "rows", ANYWHERE)


def test_an_outage_that_passes_is_waited_for(server, port, tmp_path):
    """Two failures and then the file: the third attempt is the last one that is allowed; each comes when asked for."""
    server.failures, slept = [503, 429], []
    policy = FetchPolicy(ANYWHERE.resolve, retry=Retry(attempts=3, first_seconds=0.001, sleep=slept.append))
    fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows", policy)
    assert (tmp_path / "rows").read_bytes() == ROWS
    assert slept == [9, 9]


def test_an_outage_that_stays_tells_the_attempts(server, port, tmp_path):
    """The message says how often it was tried."""
    server.failures = [503] * 9
    policy = FetchPolicy(ANYWHERE.resolve, retry=Retry(attempts=3, sleep=lambda _: None))
    with pytest.raises(ServiceUnavailableError, match=r"answers 503 \(tried 3 times\)"):
        fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows", policy)
    assert len(server.failures) == 6


def test_a_refusal_is_not_tried_again(server, port, tmp_path):
    """A 404 stays one."""
    with pytest.raises(InputNotFoundError):
        fetch_https(f"https://{NAME}:{port}/404", tmp_path / "rows", ANYWHERE)
    assert len(server.seen) == 1


LONG_AGO = "Mon, 06 Jul 2026 08:00:00 GMT"


@pytest.mark.parametrize(("ranges", "identity"), [(True, '"one"'), (True, LONG_AGO), (False, '"one"')])
def test_a_cut_download_goes_on_where_it_was(server, port, tmp_path, ranges, identity):
    """Each connection brings a third; a server without ranges is asked from the beginning until attempts run out."""
    server.large["/large"], server.cut, server.ranges = (LARGE, identity), len(LARGE) // 3 + 1, ranges
    policy = FetchPolicy(ANYWHERE.resolve, retry=Retry(attempts=2, first_seconds=0.001))
    if ranges:
        fetch_https(f"https://{NAME}:{port}/large", tmp_path / "large", policy)
        assert (tmp_path / "large").read_bytes() == LARGE
        assert server.sent < 1.01 * len(LARGE)
    else:
        with pytest.raises(ServiceUnavailableError, match=r"tried 2 times"):
            fetch_https(f"https://{NAME}:{port}/large", tmp_path / "large", policy)
        assert not (tmp_path / "large").exists()


@pytest.mark.parametrize(("etag", "begins_anew"), [('"one"', False), ('"two"', True)])
def test_a_second_run_continues_unless_the_file_changed(server, port, tmp_path, etag, begins_anew):
    """What a killed run left is used by the next one if the server's ETag is still the same."""
    server.large["/large"], server.cut = (LARGE, '"one"'), len(LARGE) // 2
    impatient = FetchPolicy(ANYWHERE.resolve, retry=Retry(attempts=1))
    with pytest.raises(ServiceUnavailableError):
        fetch_https(f"https://{NAME}:{port}/large", tmp_path / "large", impatient)
    content = bytes(reversed(LARGE)) if begins_anew else LARGE
    server.large["/large"], server.cut, server.sent = (content, etag), 0, 0
    fetch_https(f"https://{NAME}:{port}/large", tmp_path / "large", impatient)
    assert (tmp_path / "large").read_bytes() == content
    assert (server.sent == len(LARGE)) is begins_anew


def leave_a_part(server, port, folder, identity='"one"'):
    """Two thirds of the large file, as a killed run leaves them; nothing is cut from then on."""
    server.large["/large"], server.cut = (LARGE, identity), 2 << 20
    with pytest.raises(ServiceUnavailableError):
        fetch_https(f"https://{NAME}:{port}/large", folder / "large", FetchPolicy(ANYWHERE.resolve, retry=Retry(1)))
    assert (folder / ".large.part").stat().st_size == 2 << 20
    server.cut = 0


OTHER = bytes(reversed(LARGE))


@pytest.mark.parametrize(
    ("before", "now", "content"),
    [
        ('"one"', '"two"', OTHER),
        (LONG_AGO, LONG_AGO, OTHER + b"more"),
        ('"one"', '"one"', OTHER[:1000]),
    ],
)
def test_two_versions_are_not_mixed(server, port, tmp_path, before, now, content):
    """A server that ignores If-Range sends another file's end: its ETag or its size tells, and all is read anew."""
    leave_a_part(server, port, tmp_path, before)
    server.large["/large"], server.careless = (content, now), True
    fetch_https(f"https://{NAME}:{port}/large", tmp_path / "large", ANYWHERE)
    assert (tmp_path / "large").read_bytes() == content


@pytest.mark.parametrize("silent", [False, True])
def test_a_rest_from_another_position_is_refused(server, port, tmp_path, silent):
    """A gap would be filled with zeros: the file is read anew, also where the server does not say its position."""
    leave_a_part(server, port, tmp_path)
    server.skipped, server.silent = (0, True) if silent else (10, False)
    fetch_https(f"https://{NAME}:{port}/large", tmp_path / "large", ANYWHERE)
    assert (tmp_path / "large").read_bytes() == LARGE


class Restless:
    """The large file, with another ETag at each look."""

    def __init__(self):
        self.looks = itertools.count()

    def __iter__(self):
        return iter((LARGE, f'"{next(self.looks)}"'))


def test_a_file_that_is_always_another_one_ends(server, port, tmp_path):
    """Each answer has an ETag of its own and is cut: beginning anew counts as an attempt, whatever it brought."""
    leave_a_part(server, port, tmp_path)
    server.cut, server.careless = 2 << 20, True
    server.large["/large"] = Restless()
    with pytest.raises(ServiceUnavailableError, match=r"tried 3 times"):
        fetch_https(f"https://{NAME}:{port}/large", tmp_path / "large", ANYWHERE)
    assert len(server.seen) == 4


def test_the_digest_that_a_uri_states_is_checked(server, port, tmp_path):
    """The right one passes; with another one nothing is kept."""
    digest = hashlib.sha256(ROWS).hexdigest()
    fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "rows", ANYWHERE, digest=digest)
    with pytest.raises(InputNotFoundError, match=f"has the SHA-256 {digest}, not 00"):
        fetch_https(f"https://{NAME}:{port}/rows.jsonl", tmp_path / "other", ANYWHERE, digest="0" * 64)
    assert [file.name for file in tmp_path.iterdir()] == ["rows"]


def test_a_signature_in_the_query_is_not_shown(server, port, tmp_path):
    """A signed URL's query stays out of messages."""
    with pytest.raises(InputNotFoundError) as caught:
        fetch_https(f"https://{NAME}:{port}/404?signature=abcdef", tmp_path / "rows", ANYWHERE)
    assert "abcdef" not in str(caught.value)


def test_a_closed_port_is_an_outage(tmp_path):
    """Nothing listens there: trying again can help."""
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        fetch_https(f"https://{NAME}:1/rows", tmp_path / "rows", ANYWHERE)


NOT_PUBLIC = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *(
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
    ),
    *("64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public(address):
    """Private, loopback, link-local, multicast and reserved ones, also inside an IPv6 address."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_that_are_public(address):
    """Ordinary ones."""
    assert is_public(ip_address(address))


def test_a_host_is_allowed_with_its_port_only():
    """Another port of an allowed host is still refused; no port means 443."""
    allowed = parse_allowed_hosts("localhost:8443, mirror.example")
    assert allowed == {("localhost", 8443), ("mirror.example", 443)}
    assert resolve_public("localhost", 8443, allowed) in {"127.0.0.1", "::1"}
    with pytest.raises(BadConfigError, match="not a public address"):
        resolve_public("localhost", 8444, allowed)


def test_prepare_fetches_data_over_https_once(server, port, job, run_here, monkeypatch):
    """The stage reads rows from an https URI, and a second run does not ask again."""
    monkeypatch.setenv(ALLOWED_HOSTS_VARIABLE, f"localhost:{port}")
    config = job()
    config["spec"]["dataset"] = {
        "train": {"uri": f"https://localhost:{port}/rows.jsonl"},
        "evaluation": {"fraction": 0.5},
    }
    ended = [run_here(Stage.PREPARE, config) for _ in range(2)]
    assert [one.code for one in ended] == [0, 0], ended
    assert ended[0].outcome.dataset.examples == 2
    assert len(server.seen) == 1


def test_prepare_refuses_a_private_https_uri(port, job, run_here):
    """The stage ends with 64 and names the address."""
    config = job()
    config["spec"]["dataset"]["train"] = {"uri": f"https://localhost:{port}/rows.jsonl"}
    ended = run_here(Stage.PREPARE, config)
    assert ended.code == ExitCode.BAD_CONFIG
    assert "not a public address" in ended.message


@pytest.mark.parametrize(("scheme", "told_so"), [("https", "secretRef"), ("http", "must start with one of")])
def test_prepare_refuses_a_password_in_a_uri(server, port, job, start_stage, tmp_path, scheme, told_so):
    """The stage ends with 64 before it asks for anything, and prints no password, whatever else is wrong."""
    config = job()
    config["spec"]["dataset"]["train"] = {"uri": f"{scheme}://me:pass-word@localhost:{port}/rows.jsonl"}
    with start_stage(Stage.PREPARE, config) as process:
        printed, _ = process.communicate()
    told = (tmp_path / "process" / "termination.json").read_text()
    assert process.returncode == ExitCode.BAD_CONFIG
    assert "spec.dataset.train" in told
    assert told_so in told
    assert "pass-word" not in printed + told
    assert server.seen == []


def test_url_parsing_agrees_with_the_check():
    """A user name in the URI does not change the host that is checked."""
    assert httpx.URL("https://1.1.1.1@127.0.0.1/x").host == "127.0.0.1"
