"""What the training benchmarks share: our loop without the stage around it, the alternation of loops, and the table."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.trainer_callback import PrinterCallback

from tunesmith_api.enums import Precision
from tunesmith_api.finetunejob import GenerationSpec, TechniqueSpec, TrainingSpec
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.launcher import hide_deepspeed
from tunesmith_trainer.precision import probe_device
from tunesmith_trainer.recipe import Recipe, TokenRow

BATCH = 8
LEARNING_RATE = 2e-4
OURS = "tunesmith"


def our_seconds(
    model: Any, rows: Sequence[TokenRow], recipe: Recipe, technique: TechniqueSpec, precision: Precision
) -> float:
    """Seconds of the trainer's loop over the rows, with its callbacks and without checkpoints or evaluations."""
    hide_deepspeed()
    from tunesmith_trainer.halved import halved  # noqa: PLC0415 - memory that other loops do not need
    from tunesmith_trainer.loop import LoopPlan, TuningTrainer  # noqa: PLC0415 - as above
    from tunesmith_trainer.preemption import Preemption  # noqa: PLC0415 - as above
    from tunesmith_trainer.progress import ProgressBoard  # noqa: PLC0415 - as above

    steps = -(-len(rows) // BATCH)
    spec = TrainingSpec(batch_size=BATCH, learning_rate=LEARNING_RATE, checkpoint_every_steps=10**6)
    with tempfile.TemporaryDirectory() as folder:
        plan = LoopPlan(spec, steps, precision, probe_device(), Path(folder), technique)
        trainer = TuningTrainer(model, plan, rows, recipe)
        trainer.args.save_strategy = trainer.args.eval_strategy = "no"
        trainer.args.eval_on_start = False
        trainer.watch(ProgressBoard(Path(folder) / "train-log.jsonl", steps), Preemption())

        def train() -> None:
            with halved(model, precision):
                trainer.train()

        return timed(train)


def stock_arguments(folder: str, rows: int) -> dict[str, Any]:
    """What a run of transformers' or TRL's trainers needs to say: all else is left to their defaults."""
    on_cpu = probe_device().name == "cpu"
    return {
        "output_dir": folder,
        "max_steps": -(-rows // BATCH),
        "per_device_train_batch_size": BATCH,
        "use_cpu": on_cpu,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "dataloader_pin_memory": not on_cpu,
    }


def stock_seconds(trainer: Any) -> float:
    """Seconds of one of the stock trainers, without the lines that it prints."""
    trainer.remove_callback(PrinterCallback)
    return timed(trainer.train)


def blank_evaluator(vocabulary: int) -> Evaluator:
    """An evaluation of no rows, which recipes ask for."""
    return Evaluator([], word_tokenizer(vocabulary), GenerationSpec(), frozenset({2}), 1024)


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: no loop encodes anything, but they ask for one."""
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, vocabulary)}}
    backend = Tokenizer(models.WordLevel(words, unk_token="w3"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")


def timed(loop: Callable[[], object]) -> float:
    """Seconds of a call, with what it left running on a GPU."""
    began = time.perf_counter()
    loop()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def alternated(loops: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each loop in each round; every other round goes backwards, so that drift favours none."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(rounds):
        for name in list(loops)[:: 1 if turn % 2 == 0 else -1]:
            seconds[name].append(loops[name]())
    return seconds


def print_ratios(seconds: Mapping[str, Sequence[float]], tokens: int, aims: Mapping[str, float]) -> None:
    """The median of each loop's tokens per second, and of its ratio to ours within a round, with what it should be."""
    print(f"{'loop':<28}{'tokens/s':>10}{'tunesmith is':>14}{'aim':>8}")
    for name, times in seconds.items():
        ratio = statistics.median(theirs / mine for mine, theirs in zip(seconds[OURS], times, strict=True))
        aim = f"{aims[name]:.2f}x" if name in aims else ""
        print(f"{name:<28}{tokens / statistics.median(times):>10.0f}{ratio:>13.2f}x{aim:>8}")
