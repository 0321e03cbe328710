"""Tests of the URIs."""

import pytest

from tunesmith_api.uri import Location, Scheme, UriError, mask_login, parse_uri, public_parts, without_query


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("hf://microsoft/phi@v1", Location(Scheme.HF, "microsoft", "phi", "v1")),
        ("hf://datasets/org/name", Location(Scheme.HF, "datasets", "org/name")),
        ("configmap://data/train.jsonl", Location(Scheme.CONFIGMAP, "data", "train.jsonl")),
        ("pvc://claim/folder/file.csv", Location(Scheme.PVC, "claim", "folder/file.csv")),
        ("file:///tmp/x.jsonl", Location(Scheme.FILE, "", "/tmp/x.jsonl")),
        ("oci://registry:5000/team/bot:v3", Location(Scheme.OCI, "registry:5000", "team/bot", tag="v3")),
        ("oci://registry/bot@sha256:ab", Location(Scheme.OCI, "registry", "bot", "sha256:ab")),
        ("https://host?mail=a@b", Location(Scheme.HTTPS, "host?mail=a@b", "")),
        ("s3://box/a@b.csv", Location(Scheme.S3, "box", "a@b.csv")),
        (f"https://host/a.csv?b#sha256={'0a' * 32}", Location(Scheme.HTTPS, "host", "a.csv?b", digest="0a" * 32)),
        ("job://first", Location(Scheme.JOB, "first", "")),
    ],
)
def test_a_uri_has_a_scheme_an_authority_and_a_path(uri: str, location: Location) -> None:
    """Every scheme splits into the parts that its reader needs."""
    assert parse_uri(uri) == location


@pytest.mark.parametrize(
    "uri", ["train.jsonl", "ftp://host/x", "file://relative", "configmap://data", "pvc://c/../etc"]
)
def test_a_wrong_uri_names_itself_and_the_way_out(uri: str) -> None:
    """A URI that cannot be understood is named, with the form that works."""
    with pytest.raises(UriError, match=r"use one of|needs an absolute path|write "):
        parse_uri(uri)


@pytest.mark.parametrize("scheme", [scheme for scheme in Scheme if scheme is not Scheme.FILE])
@pytest.mark.parametrize("login", ["token-abc@", "me:token-abc@", "me@acme.example:token-abc@"])
def test_credentials_are_refused_and_not_repeated(scheme: Scheme, login: str) -> None:
    """A URI lands in logs and in the status: a login belongs into a Secret, whatever the scheme."""
    with pytest.raises(UriError, match=r"\*\*\*@host/team/x.* holds credentials; .* secretRef") as caught:
        parse_uri(f"{scheme}://{login}host/team/x")
    assert "abc" not in str(caught.value)


DIGEST = f"#sha256={'0a' * 32}"


@pytest.mark.parametrize(
    ("uri", "masked", "queryless", "public"),
    [
        (
            f"https://me:abc@host/a?sig=b{DIGEST}",
            f"https://***@host/a?sig=b{DIGEST}",
            "https://me:abc@host/a",
            f"https://host/a{DIGEST}",
        ),
        (f"s3://box/a{DIGEST}", f"s3://box/a{DIGEST}", f"s3://box/a{DIGEST}", f"s3://box/a{DIGEST}"),
        ("https://host/a#b", "https://host/a#b", "https://host/a#b", "https://host/a"),
        ("hf://team/bot@main", "hf://team/bot@main", "hf://team/bot@main", "hf://team/bot@main"),
        ("me@home? Say #1.", "me@home? Say #1.", "me@home", "me@home? Say #1."),
    ],
)
def test_each_way_of_showing_a_uri_keeps_its_own_parts(uri: str, masked: str, queryless: str, public: str) -> None:
    """All but the login; what precedes the query; scheme, place and digest."""
    assert (mask_login(uri), without_query(uri), public_parts(uri)) == (masked, queryless, public)


@pytest.mark.parametrize("uri", ["http://me:abc@host/x", "oci://me:abc@host", "https://me:abc@host/x#sha256=1"])
def test_other_mistakes_do_not_repeat_credentials_either(uri: str) -> None:
    """Whatever else is wrong with a URI, its message has no password."""
    with pytest.raises(UriError) as caught:
        parse_uri(uri)
    assert "abc" not in str(caught.value)
