"""ConfigMaps without a cluster."""

import base64
from pathlib import Path

import pytest

from tunesmith_cli.configmaps import config_map_file
from tunesmith_cli.errors import CliError

KUSTOMIZATION = """\
resources: [job.yaml]
configMapGenerator:
- name: data
  files: [rows/train.jsonl, renamed.jsonl=rows/test.jsonl, missing.jsonl]
  literals: [note=hello=world]
"""
CONFIG_MAP = f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: inline}}
data: {{train.jsonl: '{{"text": "a"}}'}}
binaryData: {{packed: {base64.b64encode(b"bytes").decode()}, broken: "%%"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a kustomization, its files, and a ConfigMap manifest."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/train.jsonl").write_text("train")
    (tmp_path / "rows/test.jsonl").write_text("test")
    (tmp_path / "kustomization.yaml").write_text(KUSTOMIZATION)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "content"), [("train.jsonl", "train"), ("renamed.jsonl", "test"), ("note", "hello=world")]
)
def test_generated_keys(folder: Path, key: str, content: str) -> None:
    """A file's key is its name or what stands before the equals sign; a literal is its value."""
    assert config_map_file(folder, "data", key, folder / "into").read_text() == content


def test_files_are_used_in_place(folder: Path) -> None:
    """A generator's file is not copied."""
    assert config_map_file(folder, "data", "train.jsonl", folder / "into") == folder / "rows/train.jsonl"
    assert not (folder / "into").exists()


@pytest.mark.parametrize(("key", "content"), [("train.jsonl", b'{"text": "a"}'), ("packed", b"bytes")])
def test_keys_of_a_manifest(tmp_path: Path, key: str, content: bytes) -> None:
    """A ConfigMap manifest beside the job gives its data and its binary data."""
    (tmp_path / "data.yaml").write_text(CONFIG_MAP.replace('broken: "%%"', 'other: ""'))
    assert config_map_file(tmp_path, "inline", key, tmp_path / "into").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("data", "nothing", "it has missing.jsonl, note, renamed.jsonl, train.jsonl"),
        ("nobody", "train.jsonl", "there is none of that name"),
        ("data", "missing.jsonl", "which does not exist"),
    ],
)
def test_what_is_missing_is_told(folder: Path, name: str, key: str, said: str) -> None:
    """The message has the URI, where was looked, and what there is."""
    with pytest.raises(CliError, match=said) as caught:
        config_map_file(folder, name, key, folder / "into")
    assert f"configmap://{name}/{key}" in str(caught.value)
    assert caught.value.exit_code == 66


def test_bad_base64_is_told(tmp_path: Path) -> None:
    """A broken value names its key."""
    (tmp_path / "data.yaml").write_text(CONFIG_MAP)
    with pytest.raises(CliError, match=r"binaryData\.broken is no base64"):
        config_map_file(tmp_path, "inline", "packed", tmp_path / "into")
