"""A Llama as Llama 3.2 has it learns a dialect with LoRA and says the same in ONNX.

It has what the example's Phi-3 has not: grouped heads, tied embeddings, scaled rotary embeddings, a beginning token.
"""

from itertools import islice
from pathlib import Path

import pytest
from seq2seq_corpus import pairs

from tunesmith_api import Stage
from tunesmith_api.reports import ExportReport, TrainReport

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

MODEL = Path(__file__).parents[1] / "models" / "tiny-llama"
TRAINING = {
    "maxSteps": 120,
    "epochs": 100,
    "batchSize": 16,
    "learningRate": 0.01,
    "checkpointEverySteps": 1000,
    "maxSequenceLength": 64,
}


@pytest.fixture
def dialect(job, write_rows):
    """The config of a job that learns to answer in the dialect."""
    rows = dict.fromkeys(islice(pairs(5, dialect=True), 400))
    asked = [{"prompt": source, "completion": target} for source, target in rows]
    data = {
        "train": {"uri": write_rows(asked[:320], "train.jsonl")},
        "evaluation": {"uri": write_rows(asked[320:352], "test.jsonl")},
    }
    config = job(dataset=data, training=TRAINING)
    config["spec"]["model"] = {"uri": f"file://{MODEL}"}
    return config


def test_a_llama_is_tuned_and_exported(dialect, run_here):
    """A few steps bring half of the dialect; in ONNX logits agree within 1e-4 and greedy answers to the token."""
    for stage in Stage:
        ended = run_here(stage, dialect)
        assert ended.code == 0, ended.message
    report = TrainReport.model_validate_json((Path(dialect["workspace"]) / "train-report.json").read_text())
    assert report.base.token_accuracy < 0.3
    assert report.tuned.token_accuracy > 0.5, report
    assert report.tuned.perplexity < 10
    folder = Path(dialect["workspace"]) / "export"
    exported = ExportReport.model_validate_json((folder / "export-report.json").read_text())
    assert exported.parity.max_logit_difference < 1e-4
    assert exported.parity.greedy_agreement == 1
    assert exported.exported.rouge_l == pytest.approx(report.tuned.rouge_l)
