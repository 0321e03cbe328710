"""Measure the scenario matrix: every approach on every example against its base model, and the goals as ratios.

python bench/scenarios.py                     # prints the cells as they come
python bench/scenarios.py --write             # and writes what Auto reads, and docs/scenarios.md
python bench/scenarios.py --example translation --approach LoRA
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from planner import baseline
from tunesmith_api import FineTuneJob, JobConfig
from tunesmith_api.enums import Metric
from tunesmith_api.finetunejob import Scores
from tunesmith_api.reports import TRAIN_REPORT, TrainReport
from tunesmith_api.scenario_page import scenario_page
from tunesmith_api.scenario_results import Amount, Cell, ScenarioResults
from tunesmith_api.scenarios import SCENARIOS, Approach, Measure, Proof, adapted
from tunesmith_cli.folder import RunFolder
from tunesmith_cli.local_job import local_job

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "api" / "tunesmith_api" / "scenarios.json"
PAGE = REPOSITORY / "docs" / "scenarios.md"
FULL = {"technique": {"type": "Full"}}
#: The model that the goals are measured on, and the run: few rows a step, so that weights and not activations fill the
#: memory, which is counted without the libraries.
LAYERS, WIDTH, STEPS, BATCH = 8, 768, 16, 4


def proofs() -> dict[str, Proof]:
    """The jobs that prove the matrix's tasks, by example."""
    return {proof.example: proof for scenario in SCENARIOS for proof in scenario.proofs}


def train(spec: dict[str, Any], origin: Path, folder: Path) -> TrainReport:
    """Prepare and train a job on this machine; the report of the training."""
    manifest = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "cell"}}
    run = RunFolder(folder)
    config = local_job(FineTuneJob.model_validate(manifest | {"spec": spec}), origin, run, {}).config
    for stage in ("prepare", "train"):
        run_stage(stage, config, folder)
    return TrainReport.model_validate_json((Path(config.workspace) / TRAIN_REPORT).read_text())


def run_stage(stage: str, config: JobConfig, folder: Path) -> None:
    """Run a stage as a process; its output is shown when it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    command, environment = stage_command(stage, folder), stage_environment(folder)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{stage} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def stage_command(stage: str, folder: Path) -> list[str]:
    """The command of a stage whose job config lies in a folder."""
    return [sys.executable, "-m", "tunesmith_trainer", stage, "--config", str(folder / "job.json")]


def stage_environment(folder: Path) -> dict[str, str]:
    """The environment of a stage on this machine."""
    return os.environ | {
        "TUNESMITH_MODELS": str(REPOSITORY / "examples" / "models"),
        "TUNESMITH_TERMINATION_LOG": str(folder / "termination.json"),
        "TUNESMITH_PROGRESS_PORT": "0",
    }


def task_cell(proof: Proof, approach: Approach) -> Cell:
    """The metric of an example's job by one approach, before and after."""
    origin = REPOSITORY / "examples" / proof.example
    spec = yaml.safe_load((origin / "job.yaml").read_text())["spec"]
    spec["evaluation"].pop("gates", None)
    spec.pop("serve", None)
    with tempfile.TemporaryDirectory() as folder:
        report = train(adapted(spec, approach), origin, Path(folder))
    return Cell(base=value(report.base, proof.metric), tuned=value(report.tuned, proof.metric))


def value(scores: Scores, metric: Metric) -> float:
    """One metric of some scores."""
    found = getattr(scores, metric)
    if found is None:
        raise SystemExit(f"{metric} was not measured: {scores}")
    return float(found)


def make_model(folder: Path) -> int:
    """A random Phi-3 in bf16 with the tiny one's tokenizer; the number of its parameters."""
    import torch  # noqa: PLC0415 - seconds that the tasks alone do not need
    from transformers import Phi3Config, Phi3ForCausalLM  # noqa: PLC0415 - as above

    tiny = REPOSITORY / "examples" / "models" / "tiny-phi3"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = json.loads((tiny / "config.json").read_text())
    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS}
    torch.manual_seed(0)
    model = Phi3ForCausalLM(Phi3Config(**config | shape | {"num_attention_heads": 8, "num_key_value_heads": 8}))
    model.bfloat16().save_pretrained(folder)
    return int(model.num_parameters())


def goal_report(model: Path, changes: dict[str, Any], processes: int, folder: Path) -> TrainReport:
    """A few steps of the home-assistant example on the larger model."""
    origin = REPOSITORY / "examples" / "home-assistant"
    spec = yaml.safe_load((origin / "job.yaml").read_text())["spec"]
    spec |= {"model": {"uri": f"file://{model}"}, "evaluation": {"generation": {"maxSamples": 0}}}
    spec["training"] |= {"maxSteps": STEPS}
    spec.pop("serve", None)
    spec |= changes
    strategy = spec.get("distribution", {}).get("strategy") or ("DDP" if processes > 1 else "None")
    spec["distribution"] = spec.get("distribution", {}) | {"strategy": strategy, "processesPerWorker": processes}
    spec["training"]["batchSize"] = BATCH  # of each process: half a batch would look like shared memory
    return train(spec, origin, folder)


def goals() -> tuple[int, dict[Measure, dict[Approach, Amount]]]:
    """The number of parameters, and what each measure came to by approach."""
    found: dict[Measure, dict[Approach, Amount]] = {measure: {} for measure in Measure}
    libraries = baseline()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        parameters = make_model(root / "model")
        full = goal_report(root / "model", FULL, 1, root / "full")
        for approach in Approach:
            changes = {field: part for field, part in adapted({}, approach).items() if field != "training"}
            alone = goal_report(root / "model", changes, 1, root / f"{approach}-1")
            pair = goal_report(root / "model", changes, 2, root / f"{approach}-2")
            usual = pair if "distribution" in changes else alone
            for measure, one, other in (
                (Measure.COST, usual, full),
                (Measure.MEMORY, usual, full),
                (Measure.PARAMETERS, usual, full),
                (Measure.POOLED_MEMORY, pair, alone),
            ):
                amounts = (amount(measure, report, libraries) for report in (one, other))
                found[measure][approach] = Amount.model_validate(dict(zip(("found", "of"), amounts, strict=True)))
    return parameters, found


def amount(measure: Measure, report: TrainReport, libraries: int) -> float:
    """What a training took by a measure: seconds for a thousand tokens, weights, or bytes beside the libraries'."""
    if measure is Measure.COST:
        return 1000 / report.tokens_per_second
    if measure is Measure.PARAMETERS:
        return report.trained_parameters
    return report.peak_memory_bytes - libraries


def cells(only: list[str], approaches: list[Approach]) -> Iterator[tuple[Proof, Approach]]:
    """The cells to measure."""
    for proof in proofs().values():
        for approach in approaches:
            if not only or proof.example in only:
                yield proof, approach


def keep(results: dict[str, Any], *, write: bool) -> None:
    """Writes the measurements and their page, when asked: after each cell, so that an interrupted run loses none."""
    if write:
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(scenario_page(ScenarioResults.model_validate(results)))


def main() -> None:
    """Measure, print, and write the page when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--example", action="append", default=[], choices=proofs())
    parser.add_argument("--approach", action="append", default=[], type=Approach, choices=list(Approach))
    parser.add_argument("--no-goals", action="store_true", help="measure the tasks only")
    parser.add_argument("--only-goals", action="store_true", help="measure the goals only")
    arguments = parser.parse_args()
    console = Console()
    results = json.loads(RESULTS.read_text())
    missed = []
    tasks = [] if arguments.only_goals else cells(arguments.example, arguments.approach or list(Approach))
    for proof, approach in tasks:
        cell = task_cell(proof, approach)
        results["tasks"].setdefault(proof.example, {})[approach] = cell.model_dump()
        verdict = "better" if cell.better(proof.metric) else "NOT BETTER"
        missed += [f"{proof.example} by {approach}"] if verdict != "better" else []
        console.print(f"{proof.example} by {approach}: {proof.metric} {cell.base:.4g} -> {cell.tuned:.4g} ({verdict})")
        keep(results, write=arguments.write)
    if not (arguments.no_goals or arguments.example or arguments.approach):
        results["parameters"], found = goals()
        results["goals"] = {
            measure: {approach: one.model_dump() for approach, one in by_approach.items()}
            for measure, by_approach in found.items()
        }
        console.print_json(data=results["goals"])
        keep(results, write=arguments.write)
    if missed:
        raise SystemExit(f"not better than the base model: {', '.join(missed)}")


if __name__ == "__main__":
    main()
