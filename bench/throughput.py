"""The planner's tokens per second against measured ones, and the share of the arithmetic that a training reaches.

`python bench/throughput.py` multiplies matrices to learn this machine's arithmetic, runs our loop for a few techniques
on a random Phi-3, and multiplies again: a busy machine slows both alike. The table gives, for each, the tokens per
second (without padding) that the planner would say of a pool with these teraflops, those that were measured, and the
share of the arithmetic that would have made both equal (`UTILISATION` in `tunesmith_api.planner.throughput`).
"""

import argparse
import statistics
from pathlib import Path

import torch
from transformers.utils import logging

from loops import BATCH, blank_evaluator, our_seconds, timed
from trainer import FULL, QUICK, TARGETS, Size, make_model, make_rows
from tunesmith_api.enums import PoolClass, Precision
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_api.planner import Workload
from tunesmith_api.planner.throughput import UTILISATION, spending
from tunesmith_api.shapes import architecture_of
from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.completion import CompletionRecipe
from tunesmith_trainer.precision import choose_precision, probe_device

#: Width of the matrices, as wide as those of the models that people tune; and products per measurement.
_WIDTH, _PRODUCTS = 2048, 4
TECHNIQUES = ("LoRA", "DoRA", "Full")


def teraflops(precision: Precision) -> float:
    """What products of square matrices reach: 2 x width cubed operations each."""
    kind = torch.bfloat16 if precision is Precision.BF16 else torch.float32
    square = torch.ones(_WIDTH, _WIDTH, dtype=kind, device=probe_device().name)
    square @ square  # first touch

    def multiply() -> None:
        for _ in range(_PRODUCTS):
            square @ square

    return 2 * _WIDTH**3 * _PRODUCTS / timed(multiply) / 1e12


def measured(size: Size, technique: TechniqueSpec, precision: Precision) -> float:
    """Tokens per second of the trainer's loop."""
    rows = make_rows(size)
    base = make_model(size).to(probe_device().name)
    model = adapt(base, Adaptation(technique, TARGETS))
    recipe = CompletionRecipe("bench", Path(), blank_evaluator(size.vocabulary))
    seconds = our_seconds(model, rows, recipe, technique, precision)
    return sum(len(row.input_ids) for row in rows) / seconds


def planned(size: Size, technique: TechniqueSpec, precision: Precision, arithmetic: float) -> float:
    """Tokens per second that the planner says of a pool with this arithmetic."""
    mean = statistics.fmean(len(row.input_ids) for row in make_rows(size))
    work = Workload(BATCH, round(mean), labelled_share=0.75, autocast=precision is Precision.BF16)
    model = architecture_of(make_model(size).config.to_dict())
    found = spending(
        model, technique, work, tokens=None, teraflops=arithmetic, device_class=pool_class(), price_per_hour=None
    )
    return found.tokens_per_second or 0.0


def pool_class() -> PoolClass:
    """What a pool of machines as this one is."""
    return PoolClass.GPU if probe_device().name == "cuda" else PoolClass.CPU


def main() -> None:
    """Measure each technique between two measurements of the arithmetic, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller model with fewer steps")
    options = parser.parse_args()
    logging.set_verbosity_error()
    size = QUICK if options.quick else FULL
    precision = choose_precision(Precision.AUTO, probe_device(), size.hidden)
    share = UTILISATION[pool_class()]
    print(f"{precision}, {torch.get_num_threads()} threads; the planner takes {share} of the arithmetic")
    print(f"{'technique':<12}{'teraflops':>10}{'planned':>10}{'measured':>10}{'planned is':>12}{'share':>8}")
    for name in TECHNIQUES:
        technique = TechniqueSpec.model_validate({"type": name})
        before = teraflops(precision)
        found = measured(size, technique, precision)
        arithmetic = statistics.fmean([before, teraflops(precision)])
        expected = planned(size, technique, precision, arithmetic)
        ratio = expected / found
        print(f"{name:<12}{arithmetic:>10.3f}{expected:>10.0f}{found:>10.0f}{ratio:>11.2f}x{share / ratio:>8.2f}")


if __name__ == "__main__":
    main()
