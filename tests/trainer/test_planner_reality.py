"""The planner's memory against training processes on this machine; `bench/planner.py` has many more configurations."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api import Stage
from tunesmith_api.catalog import find_preset
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner import FITTED_LIBRARIES_BYTES, Workload, estimate_memory

pytestmark = pytest.mark.torch

IMPORTS = "import tunesmith_trainer.train; print(open('/proc/self/status').read())"


@pytest.fixture(scope="module")
def libraries() -> int:
    """Peak resident memory of a process that has imported the train stage and done nothing else, in bytes."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.partition("VmHWM:")[2].split()[0]) * 1024  # getrusage has the parent's peak, too


@pytest.mark.parametrize(
    ("technique", "batch"), [({"type": "LoRA", "lora": {"rank": 16, "alpha": 32}}, 64), ({"type": "Full"}, 8)]
)
def test_the_estimate_is_near_the_measured_peak(
    job: Callable[..., dict[str, Any]],
    run_stage: Callable[..., Any],
    libraries: int,
    technique: dict[str, Any],
    batch: int,
) -> None:
    """At most 5 % below the peak of the process, so that a pod with the planned memory lives, and 15 % above.

    How much of the libraries' files is resident differs by machine, kernel and file system, and is counted as here.
    """
    training = {"batchSize": batch, "maxSteps": 3, "precision": "FP32"}
    config = job(training=training, evaluation={"generation": {"maxSamples": 0}})
    config["spec"]["technique"] = technique
    for stage in (Stage.PREPARE, Stage.TRAIN):
        assert run_stage(stage, config)[0] == 0
    folder = Path(config["workspace"])
    longest = json.loads((folder / "prepare-report.json").read_text())["longestTokens"]
    measured = json.loads((folder / "train-report.json").read_text())["peakMemoryBytes"]
    spec = FineTuneJobSpec.model_validate(config["spec"])
    work = Workload(batch, longest, labelled_share=0.5)
    estimated = estimate_memory(find_preset("tiny-phi3").architecture, spec.technique, work).total
    estimated += libraries - FITTED_LIBRARIES_BYTES
    assert 0.95 * measured <= estimated <= 1.15 * measured
