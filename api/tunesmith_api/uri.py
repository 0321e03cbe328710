"""One way to say where a thing is: the URIs of models, data sets and outputs."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import StringConstraints

from tunesmith_api.model import Rule


class Scheme(StrEnum):
    """Where a URI points to."""

    HF = "hf"
    S3 = "s3"
    GS = "gs"
    AZ = "az"
    HTTPS = "https"
    OCI = "oci"
    PVC = "pvc"
    CONFIGMAP = "configmap"
    JOB = "job"
    FILE = "file"


#: Schemes that a training stage can read a model or a data set from in this release.
READABLE = frozenset(Scheme)
#: The same for a model, which is a folder.
MODEL_READABLE = READABLE - {Scheme.HTTPS, Scheme.CONFIGMAP}
#: Schemes that the export stage can write to in this release.
WRITABLE = frozenset({Scheme.S3, Scheme.GS, Scheme.AZ, Scheme.OCI, Scheme.PVC, Scheme.FILE})
#: Schemes that an endpoint can serve a model folder from in this release.
SERVABLE = frozenset({Scheme.PVC, Scheme.OCI})

Uri = Annotated[str, StringConstraints(min_length=6, max_length=1024)]

#: A scheme, and what precedes the host.
_LOGIN = re.compile(r"^([^:/]*://)[^/?#]*@")
#: The parts of a URI that are no secret: scheme, place and digest.
_PUBLIC = re.compile(r"([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?([^?#]*)(?:\?[^#]*)?(#sha256=[0-9a-f]*)?.*", re.DOTALL)
_LISTED = ", ".join(f"{scheme}://" for scheme in Scheme)


class UriError(ValueError):
    """Raised when a URI cannot be understood; the message names the URI and the way out."""


@dataclass(frozen=True)
class Location:
    """A parsed URI.

    Attributes:
        scheme: where it points to.
        authority: the host, bucket, claim, ConfigMap, registry or job name; the organisation for `hf://`.
        path: what follows, without a leading slash (with it for `file://`).
        revision: the part behind `@` of an `hf://` or `oci://` URI, or an empty string.
        tag: the part behind `:` of an `oci://` URI, or an empty string.
        digest: the SHA-256 that a fragment `#sha256=` asks for, in hexadecimal, or an empty string.
    """

    scheme: Scheme
    authority: str
    path: str
    revision: str = ""
    tag: str = ""
    digest: str = ""


def parse_uri(uri: str) -> Location:
    """Parse a Tunesmith URI.

    Raises:
        UriError: the scheme is unknown, a part that the scheme needs is missing, or there is a user name or a password.
            The message does not repeat these.
    """
    head, separator, rest = uri.partition("://")
    if not separator or head not in {scheme.value for scheme in Scheme}:
        raise UriError(f"{mask_login(uri)!r} is no URI of a known scheme; use one of {_LISTED}")
    scheme = Scheme(head)
    if scheme is Scheme.FILE:
        if not rest.startswith("/"):
            raise UriError(f"{uri!r}: file:// needs an absolute path, as in file:///data/train.jsonl")
        return Location(scheme, "", rest)
    rest, digest = _split_digest(uri, scheme, rest)
    authority, _, path = rest.partition("/")
    revision, tag = "", ""
    if scheme in {Scheme.HF, Scheme.OCI}:
        path, _, revision = path.partition("@")
    if scheme is Scheme.OCI:
        path, _, tag = path.partition(":")
    _require_parts(uri, scheme, authority, path)
    if _LOGIN.match(uri):
        raise UriError(
            f"{mask_login(uri)!r} holds credentials; leave them out, and name a Secret that has them in secretRef"
        )
    return Location(scheme, authority, path, revision, tag, digest)


# What may be shown of a URI. Each function hides what its readers may not see, and keeps what they need.


def mask_login(uri: str) -> str:
    """A URI with `***` for user name and password: for messages about a mistake, which may be in any other part."""
    return _LOGIN.sub(r"\1***@", uri)


def without_query(uri: str) -> str:
    """What precedes the query, which may hold a signature: for inputs, whose URIs parse_uri has let pass."""
    return uri.partition("?")[0]


def public_parts(text: str) -> str:
    """A URI's scheme, place and digest `#sha256=`, which anyone may see; a text that is no URI as it is."""
    found = _PUBLIC.fullmatch(text)
    return text if found is None else "".join(part or "" for part in found.groups())


def _split_digest(uri: str, scheme: Scheme, rest: str) -> tuple[str, str]:
    """What precedes the fragment, and the SHA-256 that the fragment asks for."""
    if scheme not in _DIGESTED:
        return rest, ""
    rest, separator, fragment = rest.partition("#")
    digest = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
    if separator and digest is None:
        raise UriError(
            f"{mask_login(uri)!r}: a fragment states the file's digest; write #sha256= and 64 hexadecimal digits"
        )
    return rest, digest[1] if digest else ""


def require_output(uri: str) -> None:
    """Refuse a URI that names no place to write to.

    Raises:
        UriError: it cannot be understood, names content by its digest, or a bucket without a folder.
    """
    location = parse_uri(uri)
    if location.revision or location.digest:
        raise UriError(f"{uri!r} names content by its digest and cannot be written; write a tag")
    if location.scheme in {Scheme.S3, Scheme.GS, Scheme.AZ} and not location.path.strip("/"):
        raise UriError(f"{uri!r} is a whole bucket; write {location.scheme}://bucket/folder")


_SHAPES = {
    Scheme.HF: "hf://organisation/repository[@revision] or hf://datasets/organisation/repository[@revision]",
    Scheme.CONFIGMAP: "configmap://name/key",
    Scheme.OCI: "oci://registry/repository[:tag|@digest]",
}
_DIGESTED = frozenset({Scheme.HTTPS, Scheme.S3, Scheme.GS, Scheme.AZ})
_PATHLESS = frozenset({Scheme.JOB, Scheme.PVC, Scheme.HTTPS, Scheme.S3, Scheme.GS, Scheme.AZ})


def _require_parts(uri: str, scheme: Scheme, authority: str, path: str) -> None:
    shape = _SHAPES.get(scheme, f"{scheme}://name/path")
    if not authority or (not path and scheme not in _PATHLESS) or ".." in path.split("/"):
        raise UriError(f"{mask_login(uri)!r} is incomplete or leaves its root; write {shape}")


def uri_rule(field: str = "uri", schemes: tuple[Scheme, ...] = tuple(Scheme)) -> Rule:
    """The rule that an optional URI field starts with one of some schemes."""
    listed = ", ".join(f"'{scheme}://'" for scheme in schemes)
    prefixes = tuple(f"{scheme}://" for scheme in schemes)

    def holds(value: Any) -> bool:
        uri = getattr(value, field)
        return uri is None or str(uri).startswith(prefixes)

    return Rule(
        cel=f"!has(self.{field}) || [{listed}].exists(s, self.{field}.startsWith(s))",
        message=f"{field} must start with one of {', '.join(prefixes)}",
        holds=holds,
        field_path=f".{field}",
    )
