"""Tests of matching a graph with its configuration, and of the service made of both."""

import json
from collections.abc import Callable

import pytest

from tunesmith_server.errors import ModelError, SettingsError
from tunesmith_server.folder import read_folder
from tunesmith_server.service import load_service
from tunesmith_server.session import describe, open_session
from tunesmith_server.settings import load_settings


def load(path, *flags: str):
    """Load the service of a folder."""
    return load_service(load_settings([str(path), "--threads", "1", *flags], {}))


def spoil(path, change: Callable[[dict], object]) -> None:
    """Change the genai_config.json of a folder."""
    file = path / "genai_config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def test_a_graph_is_described_by_its_session(long):
    """Names, types and sizes are those of the file."""
    folder = read_folder(long)
    session, status = open_session(folder, ["CPUExecutionProvider"], "Require", 1)
    graph = describe(session, folder)
    assert status.active == ("CPUExecutionProvider",)
    assert (graph.vocabulary, graph.cache.kv_heads, graph.cache.head_dim, graph.rope_switch) == (320, 2, 16, 64)
    assert graph.cache.bytes_per_token == 2 * 2 * 2 * 16 * 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda config: config["search"].update(past_present_share_buffer=False), "past_present_share_buffer"),
        (lambda config: config["model"]["decoder"].update(num_hidden_layers=3), "past_key_values.2.key"),
        (lambda config: config["model"]["decoder"]["inputs"].update(input_ids="ids"), "input_ids"),
        (lambda config: config["model"]["decoder"]["outputs"].update(logits="scores"), "scores"),
        (lambda config: config["model"]["decoder"].pop("head_size"), "head_size"),
    ],
)
def test_a_configuration_that_does_not_fit_the_graph_is_refused(folder_copy, change, named):
    """The error names the input, output or key."""
    spoil(folder_copy, change)
    with pytest.raises(ModelError, match=named):
        load(folder_copy)


def test_an_engine_that_cannot_use_a_provider_says_so(plain):
    """A provider that is active but not the CPU would need buffers elsewhere; it is refused, not run wrongly."""
    with pytest.raises(ModelError, match="cannot use AzureExecutionProvider"):
        load(plain, "--providers", "AzureExecutionProvider,CPUExecutionProvider")


def test_a_broken_graph_is_refused(folder_copy):
    """What ONNX Runtime cannot load stops the server with the file's name."""
    (folder_copy / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load(folder_copy)


def test_a_tokenizer_of_another_model_is_refused(folder_copy):
    """A tokenizer with more tokens than the graph would index beyond its embeddings."""
    file = folder_copy / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"] |= {f"new{at}": 320 + at for at in range(5)}
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="325 tokens, the graph 320"):
        load(folder_copy)


def test_the_context_is_the_models_at_most_4096(plain, long):
    """Without a setting a large context is capped; a setting beyond the model's is refused."""
    for path, context in ((plain, 4096), (long, 512)):
        service = load(path)
        service.engine.close()
        assert service.max_context == context
    with pytest.raises(SettingsError, match="512"):
        load(long, "--max-context", "513")
