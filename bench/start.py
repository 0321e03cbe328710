"""How long the train stage takes from its process to its first step, as a ratio to importing its libraries.

python bench/start.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from scenarios import REPOSITORY, run_stage, stage_command, stage_environment
from tunesmith_api import FineTuneJob, JobConfig
from tunesmith_cli.folder import RunFolder
from tunesmith_cli.local_job import local_job

IMPORTS = "import torch; from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments"
AIM = 1.3


def prepared(folder: Path) -> JobConfig:
    """The home-assistant example, prepared, with two evaluation rows and none to generate for."""
    origin = REPOSITORY / "examples" / "home-assistant"
    spec = yaml.safe_load((origin / "job.yaml").read_text())["spec"]
    spec |= {"evaluation": {"generation": {"maxSamples": 0}}}
    spec["dataset"] |= {"evaluation": {"fraction": 0.004}}
    spec["training"] |= {"maxSteps": 1}
    spec.pop("serve")
    manifest = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "start"}}
    config = local_job(FineTuneJob.model_validate(manifest | {"spec": spec}), origin, RunFolder(folder), {}).config
    run_stage("prepare", config, folder)
    return config


def seconds_to_first_step(config: JobConfig, folder: Path) -> float:
    """Seconds from the start of the process until its first step is in the log."""
    log = Path(config.workspace) / "train-log.jsonl"
    log.unlink(missing_ok=True)
    (folder / "job.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    began = time.perf_counter()
    with subprocess.Popen(
        stage_command("train", folder), env=stage_environment(folder), stdout=subprocess.DEVNULL
    ) as process:
        while not (log.is_file() and log.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"the stage ended with {process.returncode} before its first step")
            time.sleep(0.01)
        return time.perf_counter() - began


def import_seconds() -> float:
    """Seconds of a Python process that only imports what every such trainer imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], env=os.environ, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Alternate both, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    stage, imports = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            stage.append(seconds_to_first_step(prepared(folder), folder))
        imports.append(import_seconds())
    ratio = statistics.median(mine / theirs for mine, theirs in zip(stage, imports, strict=True))
    print(f"process to first step {statistics.median(stage):.2f} s, imports alone {statistics.median(imports):.2f} s")
    print(f"ratio {ratio:.2f} (aim: at most {AIM})")


if __name__ == "__main__":
    main()
