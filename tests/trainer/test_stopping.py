"""Early stopping: what counts as progress, when a training ends, and that the best weights are the result."""

import shutil
from itertools import accumulate
from pathlib import Path

import contrary_data
import pytest
from safetensors.torch import load_file

from tunesmith_api import ExitCode, Stage
from tunesmith_api.finetunejob import EarlyStopping
from tunesmith_api.reports import TrainReport
from tunesmith_trainer.checkpoints import folder_of, is_whole
from tunesmith_trainer.stopping import Course, read_course

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

MODELS = Path(__file__).parents[2] / "examples" / "models"
EVERY = 4
SPEC = {
    "technique": {"lora": {"rank": 8, "alpha": 16, "dropout": 0.1}},
    "training": {
        "maxSteps": 60,
        "epochs": 100,
        "batchSize": 8,
        "checkpointEverySteps": EVERY,
        "earlyStopping": {"patience": 2},
    },
    "evaluation": {"generation": {"maxSamples": 2, "maxNewTokens": 4}},
}


def course_of(losses, **asked):
    """The courses after each of some losses, one every ten steps."""
    spec = EarlyStopping.model_validate(asked)
    steps = enumerate(losses, 1)
    return list(accumulate(steps, lambda course, one: course.after(10 * one[0], one[1], spec), initial=Course()))


@pytest.mark.parametrize(
    ("losses", "asked", "over_after", "best_step"),
    [
        ([3, 2, 2.5, 2.4, 2.3], {"patience": 3}, 5, 20),
        ([3, 2, 2, 2], {"patience": 2}, 4, 20),
        ([3, 2, 2.5, 1.9, 2.5], {"patience": 2}, None, 40),
        ([3, 2.5, 2.25, 1.75, 1.5], {"patience": 2, "minDelta": 0.5}, None, 50),
        ([3, 2.75, 2.625], {"patience": 2, "minDelta": 0.5}, 3, 30),
    ],
)
def test_progress_is_a_loss_far_enough_below_the_last_that_was_progress(losses, asked, over_after, best_step):
    """An equal loss is none; small falls are one together; the least loss leads, whether it was progress or not."""
    courses = course_of(losses, **asked)
    spec = EarlyStopping.model_validate(asked)
    assert next((place for place, course in enumerate(courses) if course.is_over(spec)), None) == over_after
    assert (courses[-1].best_step, courses[-1].best_loss) == (best_step, min(losses))


@pytest.fixture(scope="module")
def undisturbed(make_job, run_here, tmp_path_factory):
    """A training whose evaluation loss rises, run without interruption: its job and its report."""
    folder = tmp_path_factory.mktemp("stopping")
    config = make_job(folder / "workspace", dataset=contrary_data.write(folder), **SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_MODELS", str(MODELS))
        patch.setenv("TUNESMITH_PROGRESS_PORT", "0")
        for stage in (Stage.PREPARE, Stage.TRAIN):
            ended = run_here(stage, config)
            assert ended.code == 0, ended.message
    assert ended.outcome.progress.best_step == report_of(config).early_stopping.best_step
    return config


def report_of(config):
    """The train report of a workspace."""
    return TrainReport.model_validate_json((Path(config["workspace"]) / "train-report.json").read_text())


def result_of(config):
    """What must not depend on interruptions: the report without times and memory, and the adapter."""
    report = report_of(config)
    adapter = (Path(config["workspace"]) / "adapter" / "adapter_model.safetensors").read_bytes()
    return report.tuned, report.base, report.final_loss, report.steps, report.early_stopping, adapter


def checkpoints_of(config):
    """The checkpoints of a workspace's only run, by their steps."""
    found = (Path(config["workspace"]) / "checkpoints").glob("*/checkpoint-*")
    return {int(path.name.rpartition("-")[2]): path for path in found}


@pytest.fixture
def copied(undisturbed, tmp_path):
    """The same job in a copy of its workspace, before it was said to be complete."""
    workspace = tmp_path / "copied"
    shutil.copytree(undisturbed["workspace"], workspace)
    (workspace / "train-report.json").unlink()
    shutil.rmtree(workspace / "adapter")
    return undisturbed | {"workspace": str(workspace)}


@pytest.mark.torch
def test_a_training_ends_when_it_makes_no_more_progress(undisturbed):
    """Two evaluations after the best one; of the steps that were planned, the rest is not made."""
    report = report_of(undisturbed)
    stopping = report.early_stopping
    assert report.steps == stopping.best_step + 2 * EVERY < stopping.planned_steps == 60
    assert sorted(checkpoints_of(undisturbed)) == [stopping.best_step + EVERY * n for n in range(3)]


@pytest.mark.torch
def test_the_result_has_the_weights_of_the_best_step(undisturbed):
    """The adapter is that of the best checkpoint and of no other, and so are the metrics."""
    best = report_of(undisturbed).early_stopping.best_step
    adapter = load_file(Path(undisturbed["workspace"]) / "adapter" / "adapter_model.safetensors")
    for step, checkpoint in checkpoints_of(undisturbed).items():
        trained = load_file(checkpoint / "trained.safetensors")
        same = all((trained[name.replace(".weight", ".default.weight")] == adapter[name]).all() for name in adapter)
        assert same == (step == best)


@pytest.mark.torch
def test_a_killed_training_ends_at_the_same_step_with_the_same_weights(undisturbed, copied, run_here):
    """Killed after one evaluation without progress, it has one left; what it knew lies in the checkpoint."""
    last = max(checkpoints_of(copied))
    shutil.rmtree(checkpoints_of(copied)[last])
    assert read_course(checkpoints_of(copied)[last - EVERY]).idle == 1
    ended = run_here(Stage.TRAIN, copied)
    assert ended.code == 0, ended.message
    assert report_of(copied).resumed_from_step == last - EVERY
    assert result_of(copied) == result_of(undisturbed)


@pytest.mark.torch
def test_a_training_that_has_ended_is_not_gone_on_with(undisturbed, copied, run_here):
    """Killed between its last step and its report, it only takes up the best weights."""
    ended = run_here(Stage.TRAIN, copied)
    assert ended.code == 0, ended.message
    assert report_of(copied).resumed_from_step == report_of(undisturbed).steps
    assert result_of(copied) == result_of(undisturbed)


@pytest.mark.torch
def test_sigterm_between_two_evaluations_costs_no_patience(undisturbed, tmp_path, run_here):
    """A run that is stopped after its first step, which measures once more when it goes on, ends as the other does."""
    config = undisturbed | {"workspace": str(tmp_path / "stopped")}
    assert run_here(Stage.PREPARE, config).code == 0
    assert run_here(Stage.TRAIN, config, preempted=True).code == ExitCode.PREEMPTED
    assert list(checkpoints_of(config)) == [1]
    assert run_here(Stage.TRAIN, config).code == 0
    assert report_of(config).resumed_from_step == 1
    assert result_of(config) == result_of(undisturbed)


@pytest.mark.torch
def test_every_checkpoint_that_is_kept_is_whole(undisturbed):
    """The best one is among them, with what was known when it was written."""
    found = checkpoints_of(undisturbed)
    assert all(is_whole(path) for path in found.values())
    best = report_of(undisturbed).early_stopping.best_step
    assert read_course(folder_of(found[best].parent, best)).best_step == best
