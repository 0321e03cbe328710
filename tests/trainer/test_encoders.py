"""Encoders through all stages: each task on each tiny model, tuned in full and by LoRA, beats its untrained head."""

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import encoder_corpus
import onnx
import pytest

from tunesmith_api import ExitCode, Stage
from tunesmith_api.enums import ExportPrecision
from tunesmith_api.reports import ExportReport, TrainReport
from tunesmith_trainer.encoder_export import QUANTIZATIONS
from tunesmith_trainer.parity import KL_BOUNDS, LOGIT_BOUND

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

MODELS = Path(__file__).parents[1] / "models"
LORA = {"type": "LoRA", "lora": {"rank": 8, "alpha": 16}}
FULL = {"type": "Full"}


@dataclass(frozen=True)
class Lesson:
    """A task with rows to learn it from.

    Attributes:
        task: its name in a job.
        rows: makes rows from a seed and a count.
        count: training rows.
        epochs: passes over them.
        metric: what must rise.
        least: what the tuned model must reach.
    """

    task: str
    rows: Any
    count: int
    epochs: int
    metric: str
    least: float


LESSONS = {
    "classes": Lesson("TextClassification", encoder_corpus.labeled_rows, 200, 6, "accuracy", 0.9),
    "several": Lesson(
        "TextClassification",
        lambda seed, count: encoder_corpus.labeled_rows(seed, count, multiple=True),
        300,
        14,
        "macro_f1",
        0.9,
    ),
    "entities": Lesson("TokenClassification", encoder_corpus.tagged_rows, 200, 8, "entity_f1", 0.9),
    "answers": Lesson("QuestionAnswering", encoder_corpus.question_rows, 600, 4, "f1", 0.5),
    "no answers": Lesson(
        "QuestionAnswering",
        lambda seed, count: encoder_corpus.question_rows(seed, count, unanswerable=0.3),
        600,
        8,
        "f1",
        0.5,
    ),
}


def job(folder: Path, lesson: Lesson, model: str, technique: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The job config of a lesson, with its rows written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", lesson.rows(1, lesson.count)), ("test", lesson.rows(2, 100))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "model": {"uri": f"file://{MODELS / model}"},
        "task": lesson.task,
        "dataset": {"train": {"uri": f"file://{folder}/train.jsonl"}},
        "technique": technique,
        "training": {
            "epochs": lesson.epochs,
            "learningRate": 0.001 if technique == FULL else 0.005,
            "batchSize": 16,
            "maxSequenceLength": 64,
        },
        "export": {"precision": "Exact"},
    }
    spec["dataset"]["evaluation"] = {"uri": f"file://{folder}/test.jsonl"}
    return {"name": "lesson", "workspace": str(folder / "workspace"), "spec": spec | more}


@pytest.fixture(scope="module")
def taught(tmp_path_factory, run_here):
    """`taught(lesson, model, technique)`: the job of a lesson that went through all stages, once for the module."""
    known: dict[tuple[str, str, str], dict[str, Any]] = {}

    def teach(lesson: str, model: str, technique: dict[str, Any]) -> dict[str, Any]:
        key = (lesson, model, technique["type"])
        if key not in known:
            config = job(tmp_path_factory.mktemp("taught"), LESSONS[lesson], model, technique)
            for stage in Stage:
                ended = run_here(stage, config)
                assert ended.code == 0, ended.message
            known[key] = config
        return known[key]

    return teach


def train_report(config: dict[str, Any]) -> TrainReport:
    """The train report of a workspace."""
    return TrainReport.model_validate_json((Path(config["workspace"]) / "train-report.json").read_text())


def plots(config: dict[str, Any]) -> set[str]:
    """Names of the PNG files of a workspace."""
    found = (Path(config["workspace"]) / "plots").iterdir()
    return {path.stem for path in found if path.read_bytes().startswith(b"\x89PNG")}


def export_report(config: dict[str, Any]) -> ExportReport:
    """The export report of a workspace."""
    return ExportReport.model_validate_json((Path(config["workspace"]) / "export" / "export-report.json").read_text())


def matrix():
    """Every lesson on every model by both techniques; every pair of two of these stands outside of the long matrix."""
    for lesson, model, technique in itertools.product(LESSONS, ("tiny-bert", "tiny-distilbert"), (FULL, LORA)):
        long = (model == "tiny-bert") is (technique == FULL) or (lesson == "no answers" and technique == FULL)
        name = f"{lesson}, {model}, {technique['type']}"
        yield pytest.param(lesson, model, technique, marks=[pytest.mark.extended] if long else [], id=name)


@pytest.mark.parametrize(("lesson", "model", "technique"), list(matrix()))
def test_every_task_is_learnt_and_exported(taught, lesson, model, technique):
    """The tuned model beats its base, and the exported one says the same to four digits of its logits."""
    config, wanted = taught(lesson, model, technique), LESSONS[lesson]
    report, exported = train_report(config), export_report(config)
    before, after = getattr(report.base, wanted.metric), getattr(report.tuned, wanted.metric)
    assert after >= wanted.least
    assert after > before + 0.2
    assert report.trained_parameters == report.total_parameters or technique == LORA
    assert exported.parity.max_logit_difference <= LOGIT_BOUND
    assert exported.exported == report.tuned


def test_each_class_has_its_scores_and_the_confusion_a_plot(taught):
    """The report has every class with its support, and there is a picture; several classes per row have no matrix."""
    config = taught("classes", "tiny-bert", LORA)
    classes = train_report(config).classes
    assert [one.label for one in classes] == sorted(encoder_corpus.TOPICS)
    assert sum(one.support for one in classes) == 100
    assert plots(config) == {"classes", "confusion", "evaluation", "loss"}
    several = taught("several", "tiny-bert", LORA)
    assert len(train_report(several).classes) == len(encoder_corpus.TOPICS)
    assert plots(several) == {"classes", "evaluation", "loss"}


def test_entities_have_scores_by_kind(taught):
    """A line for each kind, then one for all, which is what the metrics say."""
    report = train_report(taught("entities", "tiny-bert", LORA))
    assert [one.label for one in report.classes] == ["LOC", "ORG", "PER", "all"]
    assert report.classes[-1].f1 == report.tuned.entity_f1


def test_the_folder_says_what_its_outputs_mean(taught):
    """Labels, tokenizer and graph lie together; nothing pretends to be a chat model."""
    folder = Path(taught("entities", "tiny-distilbert", FULL)["workspace"]) / "export"
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json", "export-report.json"}
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"]["0"] == "O"
    assert config["id2label"]["1"] == "B-LOC"
    graph = onnx.load(folder / "model.onnx").graph
    assert [value.name for value in graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in graph.output] == ["logits"]


@pytest.mark.parametrize("precision", [ExportPrecision.QUALITY, ExportPrecision.BALANCED, ExportPrecision.FAST])
def test_quantised_exports_stay_close(taught, run_here, tmp_path, precision):
    """int8 passes the parity bound, is smaller than fp32, and classifies as well."""
    config = taught("classes", "tiny-bert", LORA)
    workspace = tmp_path / "workspace"
    shutil.copytree(config["workspace"], workspace, ignore=shutil.ignore_patterns("export", "exported.json"))
    spec = config["spec"] | {"export": {"precision": precision}}
    ended = run_here(Stage.EXPORT, config | {"workspace": str(workspace), "spec": spec})
    assert ended.code == 0, ended.message
    assert ended.outcome.artifact.parity.kl_divergence <= KL_BOUNDS[precision]
    assert ended.outcome.evaluation.exported.accuracy >= 0.9
    assert ended.outcome.artifact.size_bytes < 0.8 * export_report(config).artifact.size_bytes


def test_every_precision_has_a_meaning_for_encoders():
    """The table covers the enumeration."""
    assert set(QUANTIZATIONS) == set(ExportPrecision)


def test_a_resumed_run_is_exact_and_a_missed_gate_ends_with_71(tmp_path, run_here):
    """Stopped after its first step and resumed, a run ends as an undisturbed one; the gate names metric and bound."""
    reports = []
    for name, stopped in (("whole", False), ("stopped", True)):
        config = job(tmp_path / name, LESSONS["entities"], "tiny-bert", LORA)
        config["spec"]["training"] |= {"maxSteps": 12}
        config["spec"]["evaluation"] = {
            "gates": [{"metric": "entity_f1", "min": 1.5}, {"metric": "entity_recall", "max": 2}],
            "generation": {"maxSamples": 0},  # which an encoder does not heed: it writes no answers
        }
        assert run_here(Stage.PREPARE, config).code == 0
        if stopped:
            assert run_here(Stage.TRAIN, config, preempted=True).code == ExitCode.PREEMPTED
        ended = run_here(Stage.TRAIN, config)
        assert ended.code == ExitCode.GATE_FAILED
        assert ended.message.endswith("misses >= min 1.5")
        assert [gate.passed for gate in ended.outcome.evaluation.gates] == [False, True]
        reports.append(train_report(config))
    whole, resumed = reports
    assert (whole.resumed_from_step, resumed.resumed_from_step) == (None, 1)
    assert (whole.base, whole.tuned, whole.final_loss) == (resumed.base, resumed.tuned, resumed.final_loss)


def test_serving_an_encoder_is_refused_by_name(tmp_path, run_here):
    """Before anything is spent, with the way out."""
    ended = run_here(Stage.PREPARE, job(tmp_path, LESSONS["classes"], "tiny-bert", LORA, serve={}))
    assert ended.code == ExitCode.BAD_CONFIG
    assert ended.message.startswith("spec.serve: the server runs causal models")


def test_a_gate_on_what_an_encoder_does_not_measure_is_refused(tmp_path, run_here):
    """Also when the rows are prepared already, with what it does measure."""
    config = job(tmp_path, LESSONS["classes"], "tiny-bert", LORA)
    assert run_here(Stage.PREPARE, config).code == 0
    config["spec"]["evaluation"] = {"gates": [{"metric": "perplexity", "max": 5}]}
    ended = run_here(Stage.PREPARE, config)
    assert ended.code == ExitCode.BAD_CONFIG
    assert ended.message == (
        "spec.evaluation.gates: perplexity is not measured: task TextClassification of encoder models has accuracy,"
        " macro_f1"
    )


def test_a_task_that_an_encoder_cannot_learn_is_refused(tmp_path, run_here):
    """The message names the tasks of such models."""
    config = job(tmp_path, LESSONS["classes"], "tiny-bert", LORA)
    rows = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}] * 20
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config["spec"] |= {"task": "Chat", "dataset": {"train": {"uri": f"file://{tmp_path}/train.jsonl"}}}
    ended = run_here(Stage.PREPARE, config)
    assert ended.code == ExitCode.BAD_CONFIG
    assert "this encoder model cannot learn Chat" in ended.message
    assert "TextClassification" in ended.message


def test_texts_longer_than_the_limit_are_learnt_from_their_beginning(tmp_path, run_here):
    """Every row is cut, which is a warning and no error: a class can be told from a part."""
    config = job(tmp_path, LESSONS["classes"], "tiny-bert", LORA)
    config["spec"]["training"] |= {"maxSequenceLength": 8}
    ended = run_here(Stage.PREPARE, config)
    assert ended.code == 0, ended.message
    assert "200 rows cut to 8 tokens, what comes after is not read" in ended.outcome.dataset.warnings[0]


@pytest.mark.parametrize("method", ["PrefixTuning", "PromptTuning", "PTuning"])
def test_virtual_tokens_are_refused_before_anything_is_read(run_here, tmp_path, method):
    """By URI the model's kind is known in prepare, which says what an encoder does not take and what to use."""
    technique = {"type": "PEFT", "peft": {"method": method}}
    config = job(tmp_path, LESSONS["classes"], "tiny-bert", technique, export={"format": "Adapter"})
    ended = run_here(Stage.PREPARE, config)
    assert ended.code == ExitCode.BAD_CONFIG
    assert "needs a causal model and this one is encoder; use LoRA" in ended.message
    assert not (Path(config["workspace"]) / "data").exists()
