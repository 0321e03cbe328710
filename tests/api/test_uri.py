"""Tests of the URIs."""

import pytest

from tunesmith_api.uri import Location, Scheme, UriError, parse_uri


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
