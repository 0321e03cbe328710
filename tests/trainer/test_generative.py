"""Causal models learn every task: each case is tuned with LoRA and must beat its base model."""

from pathlib import Path

import pytest
from generative_data import CASES

from tunesmith_api import Stage
from tunesmith_api.reports import TrainReport

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

ROWS, HELD_OUT = 320, 32
TRAINING = {"maxSteps": 160, "batchSize": 16, "epochs": 100, "learningRate": 0.005, "checkpointEverySteps": 1000}


@pytest.fixture
def tuned_on(job, run_here, write_rows):
    """`tuned_on(case)`: the job's config and train report after tuning on the case's rows."""

    def run(case):
        train, held_out = case.split(ROWS, HELD_OUT)
        data = {
            "train": {"uri": write_rows(train, "train.jsonl")},
            "evaluation": {"uri": write_rows(held_out, "test.jsonl")},
        }
        generation = {"maxNewTokens": 64} | ({"notation": case.notation} if case.notation else {})
        config = job(task=case.task, dataset=data, training=TRAINING, evaluation={"generation": generation})
        for stage in (Stage.PREPARE, Stage.TRAIN):
            ended = run_here(stage, config)
            assert ended.code == 0, ended.message
        report = (Path(config["workspace"]) / "train-report.json").read_text()
        return config, TrainReport.model_validate_json(report)

    return run


@pytest.mark.parametrize("name", CASES)
def test_a_task_is_learnt(name, tuned_on):
    """A few steps are enough to do it on rows that were held out; the base model could not.

    Classes and kinds of entities have scores of their own.
    """
    case = CASES[name]
    config, report = tuned_on(case)
    before, after = (getattr(scores, case.metric) for scores in (report.base, report.tuned))
    assert before <= case.most_before
    assert after >= case.least, report
    assert report.tuned.perplexity < report.base.perplexity
    assert [one.label for one in report.classes] == list(case.classes)
    assert (Path(config["workspace"]) / "plots" / "confusion.png").is_file() == case.confusion
