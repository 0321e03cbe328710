"""The export stage: parity with torch, quality of each precision, the model folder, and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

import servers
from tunesmith_api import ExitCode, Stage, parse_uri
from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import Parity
from tunesmith_api.reports import ExportReport
from tunesmith_trainer.builder import BUILDER_OPTIONS, build_onnx
from tunesmith_trainer.completion import name_rope_type
from tunesmith_trainer.credentials import Credentials
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.errors import GateFailedError
from tunesmith_trainer.model import load_base
from tunesmith_trainer.model_folder import folder_digest
from tunesmith_trainer.object_store import fetch_objects
from tunesmith_trainer.onnx_model import OnnxModel
from tunesmith_trainer.parity import KL_BOUNDS, compare, require_parity, take_reference
from tunesmith_trainer.retry import Retry
from tunesmith_trainer.stores import open_remote
from tunesmith_trainer.torch_model import TorchModel
from tunesmith_trainer.tuned import load_tuned
from tunesmith_trainer.tuned import merged as merge

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
CONTEXT = json.loads((MODEL / "config.json").read_text())["max_position_embeddings"]


@pytest.fixture(scope="module")
def merged(tuned):
    """The tuned torch model, merged."""
    return TorchModel(merge(load_tuned(load_base(MODEL), tuned.workspace / "adapter")))


@pytest.fixture(scope="module")
def rows(tuned):
    """The evaluation rows."""
    return read_encoded(tuned.workspace / "data" / "evaluation.arrow", EncodedRow)


def test_the_exact_export_equals_the_torch_model(tuned):
    """fp32: logits within 1e-4, every greedy token the same, and the same metrics as the tuned torch model."""
    report = ExportReport.model_validate_json((tuned.workspace / "export" / "export-report.json").read_text())
    assert report.parity.max_logit_difference <= 1e-4
    assert report.parity.greedy_agreement == 1
    train = tuned.terminations[Stage.TRAIN].evaluation.tuned
    assert report.exported.exact_match == train.exact_match
    assert report.exported.perplexity == pytest.approx(train.perplexity, rel=1e-4)
    assert [gate.passed for gate in report.gates] == [True]


def test_the_termination_message_carries_the_artifact(tuned):
    """URI, digest and size are those of the folder, and all three scores are there."""
    termination = tuned.terminations[Stage.EXPORT]
    folder = tuned.workspace / "export"
    assert termination.artifact.uri == f"file://{folder}"
    assert termination.artifact.digest == folder_digest(folder)
    scores = termination.evaluation
    assert all(one is not None for one in (scores.base, scores.tuned, scores.exported))


def test_the_folder_is_complete(tuned):
    """Graph, generation config, tokenizer, chat template and description lie together; nothing half-made is left."""
    folder = tuned.workspace / "export"
    names = {path.name for path in folder.iterdir()}
    wanted = {"model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names >= wanted | {"chat_template.jinja", "inference_model.json", "export-report.json"}
    assert not [path for path in tuned.workspace.iterdir() if path.name.endswith(".tmp")]
    described = json.loads((folder / "inference_model.json").read_text())
    assert described["Name"] == "home"
    assert described["PromptTemplate"]["prompt"] == "<|user|>\n{Content}<|end|>\n<|assistant|>\n"
    assert (folder / "tokenizer.json").read_bytes() == (MODEL / "tokenizer.json").read_bytes()


def test_rows_of_a_batch_do_not_touch_each_other(tuned, merged, rows):
    """Right-padded batches decode exactly as torch decodes each prompt alone."""
    prompts = [row.input_ids[: row.prompt_tokens] for row in rows[:12]]
    assert len({len(prompt) for prompt in prompts}) > 3
    alone = [merged.generate([prompt], 24, frozenset({1, 2}))[0] for prompt in prompts]
    assert OnnxModel(tuned.workspace / "export").generate(prompts, 24, frozenset({1, 2})) == alone


@pytest.mark.parametrize(
    ("precision", "least"),
    [(ExportPrecision.QUALITY, 0.9), (ExportPrecision.BALANCED, 0.9), (ExportPrecision.FAST, 0.5)],
)
def test_quantised_exports_stay_close_and_answer_well(tuned, run_here, tmp_path, precision, least):
    """Each passes its parity bound, is smaller and still answers well; the output gets a copy.

    Plain int4 rounds a 1 M-parameter model coarsely, so less is asked of it.
    """
    output = tmp_path / "published"
    spec = tuned.config["spec"] | {"export": {"precision": precision}, "output": {"uri": f"file://{output}"}}
    ended = run_here(Stage.EXPORT, tuned.config | {"spec": spec, "workspace": str(copy_of(tuned, tmp_path))})
    assert ended.code == 0, ended.message
    assert ended.outcome.artifact.parity.kl_divergence <= KL_BOUNDS[precision]
    assert ended.outcome.evaluation.exported.exact_match >= least
    assert ended.outcome.artifact.size_bytes < tuned.terminations[Stage.EXPORT].artifact.size_bytes
    assert folder_digest(output) == ended.outcome.artifact.digest


def long_context_model(folder):
    """A random Phi-3 model with two sets of rotary factors, as Phi-3's 128k models have; the switch is at 32 tokens."""
    config = json.loads((MODEL / "config.json").read_text())
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    config |= {"max_position_embeddings": 256, "original_max_position_embeddings": 32}
    config["rope_parameters"] |= {
        "rope_type": "longrope",
        "short_factor": [1 + 0.02 * place for place in range(half)],
        "long_factor": [2 + 0.2 * place for place in range(half)],
        "original_max_position_embeddings": 32,
    }
    torch.manual_seed(0)
    model = Phi3ForCausalLM(Phi3Config(**config)).eval()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((MODEL / name).read_bytes())
    return model


@pytest.mark.parametrize("length", [24, 96])
def test_both_sides_of_the_long_rotary_switch_are_exported(tmp_path, length):
    """Sequences below and above the context of the first training take their own rotary factors in the graph, too."""
    model = long_context_model(tmp_path / "merged")
    name_rope_type(tmp_path / "merged" / "config.json")
    build_onnx(tmp_path / "merged", tmp_path / "onnx", ExportPrecision.EXACT)
    ids = torch.randint(5, 500, (length,), generator=torch.Generator().manual_seed(length)).tolist()

    difference = np.abs(OnnxModel(tmp_path / "onnx").logits(ids) - TorchModel(model).logits(ids)).max()

    assert difference <= 1e-4


def copy_of(tuned, tmp_path):
    """A workspace with what export reads from the tuned one."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    for name in ("prepared.json", "train-report.json", "adapter", "data", "export", "exported.json"):
        (workspace / name).symlink_to(tuned.workspace / name)
    for name in ("export", "exported.json"):
        (workspace / name).unlink()
    return workspace


def test_every_precision_has_a_way_to_be_built():
    """The table of the builder's options covers the enumeration."""
    assert set(BUILDER_OPTIONS) == set(ExportPrecision)
    assert set(KL_BOUNDS) == set(ExportPrecision) - {ExportPrecision.EXACT}


def test_a_broken_export_is_caught(tuned, merged, rows, tmp_path):
    """A graph with one spoilt weight loads and runs, and the comparison refuses it for every precision."""
    model = onnx.load(tuned.workspace / "export" / "model.onnx")
    spoilt = next(weight for weight in model.graph.initializer if weight.name.endswith("o_proj.MatMul.weight"))
    values = onnx.numpy_helper.to_array(spoilt) + np.float32(1)
    spoilt.CopyFrom(onnx.numpy_helper.from_array(values, spoilt.name))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    (tmp_path / "genai_config.json").write_bytes((tuned.workspace / "export" / "genai_config.json").read_bytes())
    parity = compare(OnnxModel(tmp_path), take_reference(merged, rows, CONTEXT))
    for precision in ExportPrecision:
        with pytest.raises(GateFailedError, match="export parity"):
            require_parity(parity, precision)


@pytest.mark.parametrize("precision", ExportPrecision)
def test_parity_accepts_a_faithful_export(precision):
    """No difference passes every bound."""
    require_parity(Parity(max_logit_difference=0, greedy_agreement=1, kl_divergence=0), precision)


@pytest.mark.timeout(900)  # the first run builds the server
def test_the_stage_publishes_to_an_object_store(tuned, run_here, tmp_path):
    """The termination message names the place, whose folder is the exported one by its digest."""
    with servers.s3(tmp_path / "s3", "AKIAEXAMPLE", "a-very-secret-word") as url:
        secret = {"access-key-id": "AKIAEXAMPLE", "secret-access-key": "a-very-secret-word", "endpoint": url}
        (tmp_path / "secret").mkdir()
        for key, value in secret.items():
            (tmp_path / "secret" / key).write_text(value)
        spec = tuned.config["spec"] | {"output": {"uri": "s3://box/bot", "secretRef": {"name": "store"}}}
        secrets = {"store": str(tmp_path / "secret")}
        ended = run_here(Stage.EXPORT, tuned.config | {"spec": spec, "secrets": secrets})
        assert ended.code == 0, ended.message
        assert ended.outcome.artifact.uri == "s3://box/bot"
        place = open_remote(parse_uri("s3://box/bot"), Credentials("store", secret), Retry(), field="spec.model.uri")
        fetch_objects(place, tmp_path / "back", ("*",))
    assert folder_digest(tmp_path / "back") == ended.outcome.artifact.digest


def test_an_output_that_cannot_be_written_ends_with_74(tuned, run_here, tmp_path):
    """The exported model is kept, and the message names the output."""
    (tmp_path / "file").write_text("")
    spec = tuned.config["spec"] | {"output": {"uri": f"file://{tmp_path}/file/model"}}
    ended = run_here(Stage.EXPORT, tuned.config | {"spec": spec})
    assert ended.code == ExitCode.OUTPUT_NOT_WRITABLE
    assert "spec.output.uri" in ended.message
    assert (tuned.workspace / "export" / "model.onnx").is_file()


def test_an_output_that_is_not_mounted_ends_with_74(tuned, run_here):
    """A claim without a mount cannot be written."""
    spec = tuned.config["spec"] | {"output": {"uri": "pvc://claim/model"}}
    ended = run_here(Stage.EXPORT, tuned.config | {"spec": spec})
    assert ended.code == ExitCode.OUTPUT_NOT_WRITABLE
    assert "pvc://claim/model is not mounted" in ended.message
