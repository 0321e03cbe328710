"""The planner's memory estimates against measured peaks, one training process per configuration.

`python bench/planner.py --folder FOLDER` writes random models, runs the stages `prepare` and `train` for every row of
CASES, and takes the train process's peak resident memory from the kernel (`wait4`). Results are kept in the folder, so
that an interrupted run goes on and `--report` prints the table and the plot without measuring anything again. How much
of the libraries' files is resident differs by machine; the report counts as much as where the constants were fitted.
`--gpu` compares the memory of a GPU instead, as torch counts it; each place needs a folder of its own.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner_lessons import Lesson, lesson_of
from planner_models import MODELS, config_of
from planner_report import Point, markdown, plot, refitted, summary
from tunesmith_api.architecture import Architecture
from tunesmith_api.catalog import find_preset
from tunesmith_api.enums import ModelKind, Precision
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner import (
    DEVICE_FRAMEWORK_BYTES,
    ENCODER_EVALUATION_TOKENS,
    EVALUATION_TOKENS,
    FITTED_LIBRARIES_BYTES,
    FRAMEWORK_BYTES,
    MemoryEstimate,
    Workload,
    estimate_memory,
    sharding_of,
)
from tunesmith_api.shapes import architecture_of

ROOT = Path(__file__).parents[1]
STEPS = 3
#: Tokens that every other row is shorter.
PADDED = 2
#: Training processes of a configuration that shares its model.
PROCESSES = 2


@dataclass(frozen=True)
class Case:
    """One configuration.

    Attributes:
        model: its name in MODELS, or tiny-phi3.
        technique: the job's `technique`.
        batch: rows of a forward pass.
        length: tokens of every row.
        precision: FP32 or BF16.
        label: what the table calls the technique.
        accumulation: forward passes of a step.
        zero: DeepSpeed's stage, for two processes that share the model; None without DeepSpeed.
        ddp: whether two processes each hold the model.
    """

    model: str
    label: str
    batch: int
    length: int
    precision: str = "FP32"
    accumulation: int = 1
    zero: int | None = None
    ddp: bool = False

    @property
    def technique(self) -> dict[str, Any]:
        """The job's `technique`."""
        return TECHNIQUES[self.label]

    @property
    def key(self) -> str:
        """A name that says everything."""
        shared = "/ddp" if self.ddp else "" if self.zero is None else f"/zero{self.zero}"
        return f"{self.model}/{self.label}/{self.batch}x{self.length}/{self.precision}/{self.accumulation}{shared}"

    @property
    def lesson(self) -> Lesson:
        """What the model learns."""
        return lesson_of(MODELS.get(self.model, {}).get("model_type", ""))

    @property
    def distribution(self) -> dict[str, Any]:
        """The job's `distribution`."""
        if self.ddp:
            return {"strategy": "DDP", "processesPerWorker": PROCESSES}
        if self.zero is None:
            return {"strategy": "None"}
        return {"strategy": "DeepSpeed", "zeroStage": self.zero, "processesPerWorker": PROCESSES}

    @property
    def processes(self) -> int:
        """Training processes."""
        return PROCESSES if self.ddp or self.zero is not None else 1

    @property
    def manner(self) -> str:
        """Arithmetic, and what else the table should say of it."""
        notes = [self.precision]
        notes += [f"{self.accumulation} passes a step"] if self.accumulation > 1 else []
        notes += [f"ZeRO-{self.zero}, each of {PROCESSES}"] if self.zero is not None else []
        notes += [f"DDP, each of {PROCESSES}"] if self.ddp else []
        return ", ".join(notes)


def _peft(method: str) -> dict[str, Any]:
    return {"type": "PEFT", "peft": {"method": method}}


TECHNIQUES: dict[str, dict[str, Any]] = {
    "LoRA r8": {"type": "LoRA", "lora": {"rank": 8, "alpha": 16}},
    "LoRA r16": {"type": "LoRA", "lora": {"rank": 16, "alpha": 32}},
    "rsLoRA r64": {"type": "LoRA", "lora": {"rank": 64, "alpha": 64, "rankStabilized": True}},
    "DoRA r16": {"type": "DoRA", "lora": {"rank": 16, "alpha": 32}},
    "QLoRA r16": {"type": "QLoRA", "lora": {"rank": 16, "alpha": 32}},
    "IA3": _peft("IA3"),
    "OFT": _peft("OFT"),
    "LoHa": _peft("LoHa"),
    "Full": {"type": "Full"},
}
CASES = (
    Case("tiny-phi3", "LoRA r8", 8, 128),
    Case("tiny-phi3", "Full", 16, 128),
    Case("tiny-phi3", "DoRA r16", 16, 64),
    Case("phi3-7m", "LoRA r8", 1, 64),
    Case("phi3-7m", "LoRA r16", 8, 128),
    Case("phi3-7m", "rsLoRA r64", 16, 128),
    Case("phi3-7m", "Full", 8, 128),
    Case("phi3-7m", "DoRA r16", 8, 256),
    Case("phi3-7m", "IA3", 8, 128),
    Case("phi3-7m", "QLoRA r16", 8, 128),
    Case("phi3-7m", "LoRA r16", 4, 1024),
    Case("phi3-23m", "LoRA r16", 4, 256),
    Case("phi3-23m", "rsLoRA r64", 8, 128),
    Case("phi3-23m", "Full", 4, 128),
    Case("phi3-23m", "DoRA r16", 4, 256),
    Case("phi3-23m", "QLoRA r16", 4, 256),
    Case("phi3-23m", "OFT", 4, 128),
    Case("phi3-23m", "LoRA r8", 2, 512),
    Case("phi3-23m", "LoRA r16", 4, 256, "BF16"),
    Case("phi3-74m", "LoRA r16", 4, 128),
    Case("phi3-74m", "LoRA r16", 4, 128, "BF16"),
    Case("phi3-74m", "QLoRA r16", 4, 128),
    Case("phi3-74m", "QLoRA r16", 4, 128, "BF16"),
    Case("phi3-74m", "Full", 2, 128),
    Case("phi3-74m", "Full", 2, 128, "BF16"),
    Case("phi3-74m", "rsLoRA r64", 2, 256, "BF16"),
    Case("llama-9m", "LoRA r16", 8, 128),
    Case("llama-9m", "Full", 8, 128),
    Case("llama-9m", "IA3", 4, 256),
    Case("llama-9m", "LoHa", 4, 128),
    Case("llama-39m", "LoRA r16", 8, 128),
    Case("llama-39m", "DoRA r16", 4, 128, "BF16"),
    Case("llama-39m", "Full", 4, 128),
    Case("llama-39m", "QLoRA r16", 4, 256),
    Case("llama-39m", "LoRA r8", 4, 256, "BF16"),
    Case("llama-39m", "LoRA r16", 2, 128, accumulation=4),
    Case("llama-39m", "Full", 2, 128, accumulation=2),
    Case("bert-11m", "LoRA r16", 8, 128),
    Case("bert-11m", "Full", 8, 128),
    Case("bert-11m", "QLoRA r16", 16, 128),
    Case("bert-11m", "Full", 8, 512),
    Case("bert-11m", "LoRA r16", 16, 256, "BF16"),
    Case("t5-17m", "LoRA r16", 8, 64),
    Case("t5-17m", "Full", 8, 128),
    Case("t5-17m", "QLoRA r16", 8, 128),
    Case("t5-17m", "IA3", 4, 256),
    Case("phi3-23m", "LoRA r16", 4, 128, zero=2),
    Case("phi3-23m", "Full", 4, 128, zero=1),
    Case("phi3-74m", "Full", 2, 128, zero=1),
    Case("phi3-74m", "Full", 2, 128, zero=2),
    Case("phi3-74m", "Full", 2, 128, zero=3),
    Case("phi3-74m", "LoRA r16", 4, 128, zero=3),
    Case("phi3-23m", "LoRA r16", 4, 128, zero=3),
    Case("phi3-23m", "Full", 4, 128, ddp=True),
    Case("phi3-74m-bf16", "LoRA r16", 4, 128, "BF16"),
    Case("phi3-74m-bf16", "rsLoRA r64", 2, 256, "BF16"),
    Case("phi3-74m-bf16", "LoRA r8", 8, 512, "BF16"),
    Case("llama-39m-bf16", "DoRA r16", 4, 128, "BF16"),
    Case("llama-39m-bf16", "LoRA r8", 4, 256, "BF16"),
)


def architecture(name: str) -> Architecture:
    """The planner's numbers of a model."""
    return architecture_of(config_of(name)) if name in MODELS else find_preset(name).architecture


def estimated(case: Case, *, gpu: bool = False) -> MemoryEstimate:
    """The planner's numbers for a configuration, told what a user would not know: the share of the answers."""
    spec = FineTuneJobSpec.model_validate(spec_of(case, Path("/data")))
    work = Workload(
        batch_size=case.batch,
        sequence_length=case.length,
        labelled_share=case.lesson.answer,
        accumulation=case.accumulation,
        autocast=spec.training.precision is Precision.BF16,
        lossless_half=architecture(case.model).stored_in_bf16,
    )
    return estimate_memory(architecture(case.model), spec.technique, work, sharding_of(spec), device=gpu)


def point(case: Case, result: dict[str, int], *, gpu: bool = False) -> Point:
    """A configuration as the report needs it, its peak as it would be where the planner's constants were fitted.

    What CUDA itself keeps on a GPU is in the estimate and not in what torch counts, so that it is added there.
    """
    added = DEVICE_FRAMEWORK_BYTES if gpu else FITTED_LIBRARIES_BYTES - result["libraries_bytes"]
    measured = result["peak_bytes"] + added
    memory = estimated(case, gpu=gpu)
    framework = DEVICE_FRAMEWORK_BYTES if gpu else FRAMEWORK_BYTES
    states = memory.weights + memory.adapter + memory.optimizer + memory.exchange + memory.framework - framework
    training = memory.transient + memory.allocator >= memory.evaluating
    sizes = (memory.total, measured, memory.transient, states)
    if not training:
        sizes = (memory.total, measured, 0, states + memory.evaluating)
    return Point(case.model, case.label, case.batch, case.length, case.manner, *sizes)


def spec_of(case: Case, folder: Path) -> dict[str, Any]:
    """The job's spec."""
    return {
        "model": {"preset": case.model}
        if case.model not in MODELS
        else {"uri": f"file://{folder}/models/{case.model}"},
        "task": case.lesson.task,
        "dataset": {
            "train": {"uri": f"file://{folder}/train.jsonl"},
            "evaluation": {"uri": f"file://{folder}/evaluation.jsonl"},
            "format": case.lesson.format,
        },
        "technique": case.technique,
        "distribution": case.distribution,
        "training": {
            "maxSteps": STEPS,
            "batchSize": case.batch,
            "gradientAccumulationSteps": case.accumulation,
            "maxSequenceLength": case.length,
            "precision": case.precision,
        },
        "evaluation": {"generation": {"maxSamples": 0}},
        "export": {"precision": "Exact"},
    }


def rows(case: Case, count: int) -> Iterator[str]:
    """Rows of the case's length (the tokenizer adds the end of the text), every other one a bit shorter.

    Users' rows differ, and a batch with padding has a mask, with which attention repeats the keys of grouped queries.
    """
    draw = random.Random(0)
    words = [f"w{number}" for number in range(4, MODELS[case.model]["vocab"])] if case.model in MODELS else TINY_WORDS
    for number in range(count):
        length = case.length - number % 2 * PADDED
        yield json.dumps(case.lesson.row(draw.choices(words, k=length - 1), number))


def _tiny_words() -> list[str]:
    vocabulary = json.loads((ROOT / "examples/models/tiny-phi3/tokenizer.json").read_text())["model"]["vocab"]
    return [word[1:] for word in vocabulary if word.startswith("Ġ") and word[1:].isalpha() and len(word) > 3]


TINY_WORDS = _tiny_words()


def measure(case: Case, folder: Path, *, gpu: bool = False) -> dict[str, Any]:
    """Run a configuration: its peak in bytes, and how long the training process took."""
    place = folder / case.key.replace("/", "_").replace(" ", "_")
    place.mkdir(parents=True, exist_ok=True)
    if case.model in MODELS and not (folder / "models" / case.model).is_dir():
        command = [sys.executable, str(ROOT / "bench/planner_models.py"), str(folder / "models"), case.model]
        subprocess.run(command, check=True)
    (place / "models").unlink(missing_ok=True)
    (place / "models").symlink_to(folder / "models")
    rows_of_step = case.batch * case.accumulation * case.processes
    tokens = ENCODER_EVALUATION_TOKENS if architecture(case.model).kind is ModelKind.ENCODER else EVALUATION_TOKENS
    evaluation = max(1, tokens // case.length)
    (place / "train.jsonl").write_text("\n".join(rows(case, STEPS * rows_of_step)))
    (place / "evaluation.jsonl").write_text("\n".join(rows(case, evaluation)))
    config = {"name": "bench", "workspace": str(place / "workspace"), "spec": spec_of(case, place)}
    (place / "job.json").write_text(json.dumps(config))
    run_stage("prepare", place)
    began = time.monotonic()
    peak = run_stage("train", place)
    seconds = round(time.monotonic() - began, 1)
    report = json.loads((place / "workspace/train-report.json").read_text())
    return {
        "key": case.key,
        "peak_bytes": report["peakMemoryBytes"] if gpu else peak,
        "seconds": seconds,
        "trained": report["trainedParameters"],
        "tokens_per_second": report["tokensPerSecond"],
    }


def run_stage(stage: str, place: Path) -> int:
    """Run a stage as a process; its peak resident memory in bytes, or that of the largest process that it starts."""
    own = {"TUNESMITH_TERMINATION_LOG": str(place / "termination.json"), "TUNESMITH_PROGRESS_PORT": "0"}
    environment = {**os.environ, "TUNESMITH_MODELS": str(ROOT / "examples/models"), **own}
    command = [sys.executable, "-m", "tunesmith_trainer", stage, "--config", str(place / "job.json")]
    with (place / f"{stage}.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{stage} ended with {process.returncode}: {(place / f'{stage}.log').read_text()[-800:]}")
    return usage.ru_maxrss * 1024


def baseline() -> int:
    """Resident memory of a process that has imported the train stage and done nothing else."""
    code = "import resource, tunesmith_trainer.train; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return int(output.split()[-1])


def report(results: dict[str, dict[str, Any]], image: Path | None, *, gpu: bool = False) -> None:
    """Print the table and how good the estimates are; draw the plot where a path is given."""
    points = [point(case, results[case.key], gpu=gpu) for case in CASES if case.key in results]
    print(markdown(points), summary(points, "all"), refitted(points), sep="\n\n")
    if image is not None:
        plot(points, image)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where models, runs and results go")
    parser.add_argument("--only", default="", help="measure configurations whose key contains this")
    parser.add_argument("--report", action="store_true", help="print what was measured, and measure nothing")
    parser.add_argument("--gpu", action="store_true", help="compare the memory of a GPU instead of the process's")
    parser.add_argument("--image", type=Path, help="write the plot to this file")
    options = parser.parse_args()
    results = options.folder / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    found = {line["key"]: line for line in lines}
    libraries = baseline()
    print(f"libraries alone: {libraries / 2**20:.0f} MiB\n")
    for case in CASES if not options.report else ():
        if case.key not in found and options.only in case.key:
            found[case.key] = {**measure(case, options.folder, gpu=options.gpu), "libraries_bytes": libraries}
            keep(found[case.key], results)
    report(found, options.image, gpu=options.gpu)


def keep(result: dict[str, Any], results: Path) -> None:
    """Append a measurement to the results, and tell it."""
    with results.open("a") as file:
        file.write(json.dumps(result) + "\n")
    peak = f"{result['peak_bytes'] / 2**20:.0f} MiB in {result['seconds']} s"
    print(f"{result['key']}: {peak}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
