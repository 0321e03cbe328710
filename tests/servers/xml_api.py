"""Google Cloud Storage's login and the writing half of its XML API, before fake-gcs-server, which has neither.

The client writes by the XML API (https://cloud.google.com/storage/docs/xml-api/overview): an object whole, or in parts
that are held here until the upload is completed. fake-gcs-server gets the object by the JSON API; reading, listing and
deleting are passed on as they are.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import subprocess
import sys
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

#: The least that a part may have, except the last one (https://cloud.google.com/storage/quotas#requests).
_LEAST_PART_BYTES = 5 << 20
#: What belongs to one connection and not to the answer that comes over it, and what this server sets itself.
_OF_THE_CONNECTION = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})


def service_account(key: Path) -> str:
    """A service account as Google hands it out, in JSON, with a new private key that is written to a file as well."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", key], check=True, capture_output=True)
    names = {"type": "service_account", "client_email": "bot@acme.example", "private_key_id": key.name}
    return json.dumps({**names, "private_key": key.read_text()})


class Refused(Exception):  # noqa: N818 - an answer, not a mistake of ours
    """Raised where the API answers with an error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.answer = httpx.Response(status, text=f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>")


class XmlApi(http.server.ThreadingHTTPServer):
    """Passes requests on if their token is signed with the service account's key."""

    def __init__(self, target: httpx.Client, key: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.client = target
        self.uploads: dict[str, dict[int, bytes]] = {}
        self._key = key
        self._known: dict[str, bool] = {}

    def admits(self, authorization: str | None) -> bool:
        """Whether the header has a token that is signed with the key (https://google.aip.dev/auth/4111)."""
        token = (authorization or "").removeprefix("Bearer ")
        if token not in self._known:
            self._known[token] = self._is_signed(token)
        return self._known[token]

    def _is_signed(self, token: str) -> bool:
        message, _, signature = token.rpartition(".")
        with tempfile.NamedTemporaryFile() as file:
            file.write(base64.urlsafe_b64decode(f"{signature}=="))
            file.flush()
            command = ["openssl", "dgst", "-sha256", "-prverify", self._key, "-signature", file.name]
            return subprocess.run(command, input=message.encode(), check=False, capture_output=True).returncode == 0

    def put(self, key: str, content: bytes) -> httpx.Response:
        """Store an object by the JSON API."""
        bucket, _, name = key.partition("/")
        query = {"uploadType": "media", "name": name}
        answer = self.client.post(f"/upload/storage/v1/b/{bucket}/o", params=query, content=content)
        if answer.status_code != 200:
            raise Refused(answer.status_code, "NoSuchBucket" if answer.status_code == 404 else "InternalError")
        stored = answer.json()
        return httpx.Response(200, headers={"ETag": f'"{stored["etag"]}"', "x-goog-generation": stored["generation"]})

    def initiate(self) -> httpx.Response:
        """Begin an upload in parts."""
        upload = uuid.uuid4().hex
        self.uploads[upload] = {}
        result = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        return httpx.Response(200, text=result)

    def put_part(self, upload: str, number: int, content: bytes) -> httpx.Response:
        """Hold a part."""
        self._parts(upload)[number] = content
        return httpx.Response(200, headers={"ETag": _etag(content)})

    def complete(self, key: str, upload: str, body: bytes) -> httpx.Response:
        """Store the object that the listed parts make."""
        parts = self._parts(upload)
        listed = [(int(one.findtext("PartNumber", "")), one.findtext("ETag", "")) for one in ET.fromstring(body)]
        if any(one >= other for (one, _), (other, _) in pairwise(listed)):
            raise Refused(400, "InvalidPartOrder")
        if not listed or any(number not in parts or etag != _etag(parts[number]) for number, etag in listed):
            raise Refused(400, "InvalidPart")
        contents = [parts[number] for number, _ in listed]
        if any(len(content) < _LEAST_PART_BYTES for content in contents[:-1]):
            raise Refused(400, "EntityTooSmall")
        stored = self.put(key, b"".join(contents))
        del self.uploads[upload]
        etag = stored.headers["ETag"]
        result = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        return httpx.Response(200, text=result, headers=stored.headers)

    def abort(self, upload: str) -> httpx.Response:
        """Forget an upload."""
        self._parts(upload)
        del self.uploads[upload]
        return httpx.Response(204)

    def _parts(self, upload: str) -> dict[int, bytes]:
        if upload not in self.uploads:
            raise Refused(404, "NoSuchUpload")
        return self.uploads[upload]

    def relay(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        """The answer of the server behind; If-Match is held against it here, as that server does not look at it."""
        answer = self.client.request(method, path, headers={"Accept-Encoding": "identity", **headers})
        if answer.is_success and headers.get("If-Match", answer.headers.get("ETag")) != answer.headers.get("ETag"):
            raise Refused(412, "PreconditionFailed")
        return answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of a failure, except of a line that was cut: that is the tests' own doing."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


class _Handler(http.server.BaseHTTPRequestHandler):
    server: XmlApi

    def _respond(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        if len(body) < size:
            return  # the line was cut, and nothing of the request counts
        try:
            answer = self._answer(body)
        except Refused as refused:
            answer = refused.answer
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name not in _OF_THE_CONNECTION:
                self.send_header(name, value)
        length = answer.headers["Content-Length"] if self.command == "HEAD" else len(answer.content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _respond  # noqa: N815 - http.server's names

    def _answer(self, body: bytes) -> httpx.Response:
        if not self.server.admits(self.headers["Authorization"]):
            raise Refused(401, "AuthenticationRequired")
        url = urlsplit(self.path)
        key = unquote(url.path.removeprefix("/"))
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        match self.command, sorted(query):
            case "PUT", []:
                return self.server.put(key, body)
            case "POST", ["uploads"]:
                return self.server.initiate()
            case "PUT", ["partNumber", "uploadId"]:
                return self.server.put_part(query["uploadId"], int(query["partNumber"]), body)
            case "POST", ["uploadId"]:
                return self.server.complete(key, query["uploadId"], body)
            case "DELETE", ["uploadId"]:
                return self.server.abort(query["uploadId"])
            case "GET" | "HEAD" | "DELETE", _:
                asked = {name: self.headers[name] for name in ("Range", "If-Match") if name in self.headers}
                return self.server.relay(self.command, self.path, asked)
        raise Refused(405, "MethodNotAllowed")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def xml_api(target: str, key: Path) -> Iterator[str]:
    """The API before a server such as http://127.0.0.1:4443, opened by a service account's key; yields its address."""
    with httpx.Client(base_url=target, timeout=60) as client, XmlApi(client, key) as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
