"""Encoder-decoder models: T5 and Marian learn a dialect, in full, with LoRA and QLoRA, and say the same in ONNX."""

import json
from itertools import islice
from pathlib import Path

import pytest
from seq2seq_corpus import pairs
from tokenizers import Tokenizer
from transformers import MarianMTModel, MarianTokenizer

from tunesmith_api import ExitCode, Stage
from tunesmith_api.reports import ExportReport, TrainReport
from tunesmith_trainer.seq2seq_model import Seq2SeqView
from tunesmith_trainer.seq2seq_onnx import OnnxSteps

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

OPUS = "tiny-opus-mt"
MODELS = Path(__file__).parents[1] / "models"
LORA = {"type": "LoRA", "lora": {"rank": 16, "alpha": 32}}
QLORA = {**LORA, "type": "QLoRA"}
FULL = {"type": "Full", "lora": None}
#: A sentence of the dialect, and how it is said there.
SOURCE, TARGET = ">>art<< the red cat sees a dog", "rozi kato la trovas hunda un"
TRAINING = {"maxSteps": 120, "batchSize": 16, "epochs": 100, "checkpointEverySteps": 1000, "maxSequenceLength": 64}


def unique(seed):
    """Pairs of the dialect, each once, so that no row is trained and measured on."""
    yield from dict.fromkeys(islice(pairs(seed, dialect=True), 2000))


@pytest.fixture
def translation(job, write_rows):
    """`translation(model, technique, **changes)`: a job that learns the dialect."""

    def make(model, technique, rate=0.01, **changes):
        language = ">>art<< " if model == OPUS else ""
        rows = [{"source": language + source, "target": target} for source, target in islice(unique(5), 440)]
        data = {
            "train": {"uri": write_rows(rows[:400], "train.jsonl")},
            "evaluation": {"uri": write_rows(rows[400:], "test.jsonl")},
        }
        config = job(task="Translation", dataset=data, training={**TRAINING, "learningRate": rate}, **changes)
        config["spec"] |= {"model": {"uri": f"file://{MODELS / model}"}, "technique": technique}
        return config

    return make


@pytest.mark.parametrize("technique", [LORA, QLORA, FULL], ids=["LoRA", "QLoRA", "Full"])
@pytest.mark.parametrize("model", ["tiny-t5", "tiny-marian"])
def test_a_dialect_is_learnt_and_exported(model, technique, translation, run_here):
    """BLEU rises far above the base model's; in ONNX logits agree within 1e-4 and greedy targets to the token."""
    config = translation(model, technique, rate=0.003 if technique is FULL else 0.01)
    for stage in (Stage.PREPARE, Stage.TRAIN):
        ended = run_here(stage, config)
        assert ended.code == 0, ended.message
    report = TrainReport.model_validate_json((Path(config["workspace"]) / "train-report.json").read_text())
    assert report.base.bleu < 30
    assert report.tuned.bleu > 60, report
    assert report.tuned.chrf > report.base.chrf
    if technique is not LORA:
        return
    assert run_here(Stage.EXPORT, config).code == 0
    folder = Path(config["workspace"]) / "export"
    exported = ExportReport.model_validate_json((folder / "export-report.json").read_text())
    assert exported.parity.max_logit_difference < 1e-4
    assert exported.parity.greedy_agreement == 1
    assert exported.exported.bleu == pytest.approx(report.tuned.bleu)
    assert {"encoder_model.onnx", "decoder_model.onnx", "task.json", "tokenizer.json"} <= {
        p.name for p in folder.iterdir()
    }


def test_int8_says_nearly_the_same(translation, run_here):
    """Any precision but Exact is int8: a quarter of the size, BLEU within five points."""
    config = translation("tiny-marian", FULL, rate=0.003, export={"precision": "Balanced"})
    for stage in Stage:
        ended = run_here(stage, config)
        assert ended.code == 0, ended.message
    evaluation = ended.outcome.evaluation
    assert evaluation.exported.bleu > evaluation.tuned.bleu - 5
    assert 0 < ended.outcome.artifact.parity.max_logit_difference < 2


def test_an_opus_model_is_tuned_and_exported(translation, run_here):
    """With its own SentencePiece files: prepare to ONNX, whose folder has the one tokenizer that a client needs."""
    config = translation(OPUS, LORA)
    for stage in Stage:
        ended = run_here(stage, config)
        assert ended.code == 0, ended.message
    scores = ended.outcome.evaluation
    assert scores.base.bleu < 30
    assert scores.tuned.bleu > 60
    assert scores.exported.bleu == pytest.approx(scores.tuned.bleu)
    parity = ended.outcome.artifact.parity
    assert (parity.max_logit_difference < 1e-4, parity.greedy_agreement) == (True, 1)
    folder = Path(config["workspace"]) / "export"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    (answer,) = Seq2SeqView(OnnxSteps(folder)).generate([tokenizer.encode(SOURCE).ids], 32, frozenset({0}))
    assert tokenizer.decode(answer) == TARGET
    padding = tokenizer.token_to_id("<pad>")
    assert json.loads((folder / "seq2seq_config.json").read_text())["never"] == [padding]


def test_merged_opus_weights_are_what_transformers_loads(translation, run_here):
    """In its library's layout: with the tokenizer's own files, and the same translation by transformers' own loop."""
    config = translation(OPUS, FULL, rate=0.003)
    config["spec"]["export"] = {"format": "Safetensors"}
    for stage in Stage:
        ended = run_here(stage, config)
        assert ended.code == 0, ended.message
    folder = Path(config["workspace"]) / "export"
    with pytest.warns(UserWarning, match="sacremoses"):
        tokenizer = MarianTokenizer.from_pretrained(folder)
    model = MarianMTModel.from_pretrained(folder)
    (answer,) = model.generate(**tokenizer(SOURCE, return_tensors="pt"), num_beams=1, max_new_tokens=32)
    assert tokenizer.decode(answer, skip_special_tokens=True) == TARGET


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serve": {}}, "spec.serve: the server runs causal models"),
        ({"task": "Chat", "dataset": {"format": "Auto"}}, "this seq2seq model cannot learn Chat"),
    ],
)
def test_what_is_not_built_is_refused(changes, message, translation, run_here, write_rows):
    """Before anything is trained, by the field's name."""
    config = translation("tiny-t5", LORA)
    if "task" in changes:
        rows = [{"prompt": "a", "completion": "b"}] * 20
        config["spec"]["dataset"]["train"]["uri"] = write_rows(rows, "chat.jsonl")
        config["spec"]["dataset"]["evaluation"] = {"fraction": 0.5}
        changes = {"task": "Chat"}
    config["spec"] |= changes
    ended = run_here(Stage.PREPARE, config)
    assert ended.code == ExitCode.BAD_CONFIG
    assert message in ended.message
