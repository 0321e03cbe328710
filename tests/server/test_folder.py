"""Tests of reading a model folder."""

import json

import pytest

from tunesmith_server.errors import ModelError
from tunesmith_server.folder import read_folder


def change(path, **changes):
    """Write a JSON file with some keys changed; None removes one."""
    content = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_an_export_is_read(plain):
    """The builder's folder gives context, layers, end tokens, template and special tokens."""
    folder = read_folder(plain)
    assert (folder.name, folder.context_length, folder.layers, folder.head_size) == ("onnx", 8192, 2, 16)
    assert folder.end_tokens == {3}
    assert folder.special_tokens["eos_token"] == "<|endoftext|>"
    assert "add_generation_prompt" in folder.chat_template


def test_foundry_locals_file_names_the_model_and_its_defaults(folder_copy):
    """`inference_model.json` gives the served name and the sampling defaults."""
    enabled = [{"name": "temperature", "default": 0}, {"name": "top_k", "default": "5"}, {"name": "max_tokens"}]
    change(folder_copy / "inference_model.json", Name="team-bot", ParameterSchema={"enabled": enabled})
    folder = read_folder(folder_copy)
    assert folder.name == "team-bot"
    assert folder.defaults == {"temperature": 0.0, "top_k": 5}


def test_the_export_report_names_the_artifact(folder_copy):
    """Digest and precision come from the report, when there is one."""
    assert read_folder(folder_copy).artifact == {}
    change(folder_copy / "export-report.json", artifact={"digest": "sha256:1", "precision": "Exact"})
    assert read_folder(folder_copy).artifact["precision"] == "Exact"


def test_end_tokens_come_from_both_configs(folder_copy):
    """Lists and single numbers of both files are all end tokens."""
    change(folder_copy / "generation_config.json", eos_token_id=[7, 3])
    assert read_folder(folder_copy).end_tokens == {3, 7}


@pytest.mark.parametrize("named", [False, True])
def test_a_template_may_live_in_the_tokenizers_config(folder_copy, named):
    """Older exports keep the template, or several with names, in tokenizer_config.json."""
    (folder_copy / "chat_template.jinja").unlink()
    templates = [{"name": "rag", "template": "R"}, {"name": "default", "template": "T"}] if named else "T"
    change(folder_copy / "tokenizer_config.json", chat_template=templates)
    assert read_folder(folder_copy).chat_template == "T"


def test_special_tokens_may_be_objects(folder_copy):
    """Old tokenizer configs write a token as an object with its content."""
    change(folder_copy / "tokenizer_config.json", bos_token={"content": "<b>", "lstrip": False})
    assert read_folder(folder_copy).special_tokens["bos_token"] == "<b>"


BAD_DEFAULT = {"enabled": [{"name": "top_k", "default": "x"}]}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: (path / "genai_config.json").unlink(), r"genai_config\.json: not found"),
        (lambda path: (path / "genai_config.json").write_text("{"), r"genai_config\.json: not JSON"),
        (lambda path: (path / "genai_config.json").write_text("[]"), "must be a JSON object"),
        (lambda path: (path / "genai_config.json").write_text('{"model": {}}'), "no decoder"),
        (lambda path: (path / "model.onnx").unlink(), r"model\.onnx: not found"),
        (
            lambda path: change(path / "inference_model.json", ParameterSchema=BAD_DEFAULT),
            "ParameterSchema",
        ),
    ],
)
def test_a_spoilt_folder_is_refused(folder_copy, spoil, named):
    """The error names the file and what is wrong with it."""
    spoil(folder_copy)
    with pytest.raises(ModelError, match=named):
        read_folder(folder_copy)
