"""A technique that does not merge, through the three stages: an adapter is published."""

import json
from pathlib import Path

import pytest
from peft import AutoPeftModelForCausalLM
from safetensors.numpy import load_file

from tunesmith_api import Stage
from tunesmith_api.catalog import find_preset
from tunesmith_api.enums import ExportPrecision
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.planner import trained_parameters
from tunesmith_api.reports import ExportReport, TrainReport
from tunesmith_trainer.parity import LOGIT_BOUND

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"


def test_only_the_named_modules_are_adapted(job, run_here):
    """LoRA on `o_proj` alone: the adapter has weights there and nowhere else, and as many as the planner says."""
    lora = {"rank": 4, "alpha": 8, "targetModules": ["o_proj"]}
    config = job(technique={"lora": lora}, training={"maxSteps": 2}, evaluation={"generation": {"maxSamples": 0}})
    for stage in (Stage.PREPARE, Stage.TRAIN):
        ended = run_here(stage, config)
        assert ended.code == 0, ended.message
    folder = Path(config["workspace"])
    names = set(load_file(folder / "adapter" / "adapter_model.safetensors"))
    assert names
    assert all(".o_proj.lora_" in name for name in names)
    report = TrainReport.model_validate_json((folder / "train-report.json").read_text())
    asked = TechniqueSpec.model_validate({"type": "LoRA", "lora": lora})
    assert report.trained_parameters == trained_parameters(find_preset("tiny-phi3").architecture, asked)


def run_all(run_here, config):
    """The export report after all stages."""
    for stage in Stage:
        ended = run_here(stage, config)
        assert ended.code == 0, ended.message
    folder = Path(config["workspace"])
    return ExportReport.model_validate_json((folder / "export" / "export-report.json").read_text())


def test_an_adapter_is_published_in_the_library_s_layout(job, run_here):
    """Prompt tuning gives a folder that PEFT loads by itself, with the tokenizer, and no ONNX file."""
    config = job(
        training={"maxSteps": 4, "learningRate": 0.01, "batchSize": 8},
        evaluation={"generation": {"maxSamples": 8, "maxNewTokens": 8}},
    )
    config["spec"] |= {
        "technique": {"type": "PEFT", "peft": {"method": "PromptTuning"}},
        "export": {"format": "Adapter"},
    }
    export = run_all(run_here, config)
    folder = Path(config["workspace"]) / "export"
    assert (export.parity, export.exported, export.artifact.precision) == (None, None, None)
    assert not list(folder.glob("*.onnx"))
    assert (folder / "tokenizer.json").read_bytes() == (MODEL / "tokenizer.json").read_bytes()
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["peft_type"] == "PROMPT_TUNING"
    settings["base_model_name_or_path"] = str(MODEL)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    assert AutoPeftModelForCausalLM.from_pretrained(folder).active_peft_config.num_virtual_tokens == 20


def test_merged_weights_are_tuned_further_by_another_job(job, run_here, tmp_path):
    """The folder is a model that says what the tuned one said: a second job begins where the first ended."""
    short = {
        "training": {"maxSteps": 40, "learningRate": 0.01, "batchSize": 16},
        "evaluation": {"generation": {"maxSamples": 8, "maxNewTokens": 8}},
    }
    config = job(**short)
    config["spec"]["export"] = {"format": "Safetensors"}
    export = run_all(run_here, config)
    folder = Path(config["workspace"]) / "export"
    assert (export.format, export.parity, export.artifact.precision) == ("Safetensors", None, None)
    assert not list(folder.glob("*.onnx"))
    first = json.loads((folder.parent / "train-report.json").read_text())
    second = job(**short, model={"preset": None, "uri": "job://home"})
    second |= {"workspace": str(tmp_path / "second"), "inputs": {**config["inputs"], "job://home": str(folder)}}
    for stage in (Stage.PREPARE, Stage.TRAIN):
        ended = run_here(stage, second)
        assert ended.code == 0, ended.message
    base = json.loads((tmp_path / "second/train-report.json").read_text())["base"]
    assert base["perplexity"] == pytest.approx(first["tuned"]["perplexity"], rel=1e-3)


def test_an_onnx_model_is_not_tuned_further(job, run_here, tmp_path):
    """The message says which export can be."""
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "config.json").write_bytes((MODEL / "config.json").read_bytes())
    (exported / "export-report.json").write_text("{}")
    config = job(model={"preset": None, "uri": "job://home"})
    config["inputs"]["job://home"] = str(exported)
    ended = run_here(Stage.PREPARE, config)
    assert ended.code == 64
    assert "set that job's export.format to Safetensors" in ended.message


def test_what_is_learnt_on_quantised_weights_is_exported_exactly(job, run_here):
    """QLoRA trains on 4-bit weights and is merged into the full-precision ones, which the ONNX model equals."""
    config = job(
        technique={"type": "QLoRA"},
        training={"maxSteps": 4},
        evaluation={"generation": {"maxSamples": 8, "maxNewTokens": 8}},
    )
    export = run_all(run_here, config)
    assert export.artifact.precision is ExportPrecision.EXACT
    assert export.parity.max_logit_difference <= LOGIT_BOUND
    assert export.parity.greedy_agreement == 1
