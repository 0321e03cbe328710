"""Reading YAML as kubectl reads it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith_cli.errors import CliError
from tunesmith_cli.manifest import is_ours, parse_documents, read_documents, read_job

JOB = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tickets}
spec:
  model: {preset: tiny-phi3}
  dataset: {train: {uri: "configmap://data/train.jsonl"}}
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 0.0002),
        ("1E5", 100000.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("-3", -3),
        ("7", 7),
        ("1.2.3", "1.2.3"),
        ("2026-01-01", "2026-01-01"),
        ("'2e-4'", "2e-4"),
        ("true", True),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(text: str, value: Any) -> None:
    """A number in scientific notation is a number, a date is text, a quoted number is text."""
    (found,) = parse_documents(f"value: {text}")
    assert found == {"value": value}
    assert type(found["value"]) is type(value)


def test_a_repeated_key_is_an_error() -> None:
    """The second of two equal keys would silently win."""
    with pytest.raises(yaml.YAMLError, match="key 'rank' is repeated"):
        parse_documents("rank: 1\nrank: 2")


def test_the_loader_leaves_other_loaders_alone() -> None:
    """The numbers of YAML 1.2 are this loader's only."""
    assert yaml.safe_load("2e-4") == "2e-4"


def test_empty_documents_are_left_out() -> None:
    """A file may start or end with a separator."""
    assert parse_documents("---\na: 1\n---\n---\nb: 2\n---\n") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("content", "said", "code"),
    [
        (None, "No such file", 66),
        (b"\xff\xfe\x00", "is not UTF-8 text", 64),
        (b"a: [1", "while parsing", 64),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, said: str, code: int) -> None:
    """The message has the path and the reason, the exit code its kind."""
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CliError, match=said) as caught:
        read_documents(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == code


@pytest.mark.parametrize(
    ("document", "ours"),
    [
        ({"apiVersion": "tunesmith.dev/v1", "kind": "FineTuneJob"}, True),
        ({"kind": "FineTuneJob"}, True),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, False),
        (["a list"], True),
    ],
)
def test_only_other_groups_are_not_ours(document: object, *, ours: bool) -> None:
    """A wrong version or a missing one is a mistake to tell, not a document to skip."""
    assert is_ours(document) == ours


def test_a_job_is_found_beside_other_resources(tmp_path: Path) -> None:
    """A file may carry the job's ConfigMap."""
    path = tmp_path / "all.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: data}\n---\n" + JOB)
    assert read_job(path).metadata.name == "tickets"


@pytest.mark.parametrize("count", [0, 2])
def test_a_run_needs_exactly_one_job(tmp_path: Path, count: int) -> None:
    """None or several: the message says how many."""
    path = tmp_path / "jobs.yaml"
    path.write_text("---\n".join([JOB] * count))
    with pytest.raises(CliError, match=f"has {count} FineTuneJobs"):
        read_job(path)


def test_every_problem_of_a_job_carries_the_file(tmp_path: Path) -> None:
    """Each line says the file, the field and the way out."""
    path = tmp_path / "job.yaml"
    path.write_text(JOB + "  tsk: Chat\n  training: {seed: -1}\n")
    with pytest.raises(CliError) as caught:
        read_job(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}: spec.") for line in lines)
