"""Training speed: our loop against a hand-written torch loop on the same batches, and against TRL's defaults.

`python bench/trainer.py` builds a random Phi-3 of 81 M weights, draws rows of log-normal length, and alternates the
loops within one run, so that a busy machine slows all of them alike. The table gives the median of each loop's tokens
per second (input tokens without padding) and of the ratios within a round. `--quick` is a smaller model with fewer
steps. `--memory` runs our loop and the hand-written one in a process each instead, and compares the most memory that
they held.
"""

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import Phi3Config, Phi3ForCausalLM, set_seed
from transformers.utils import logging

from loops import (
    BATCH,
    LEARNING_RATE,
    OURS,
    alternated,
    blank_evaluator,
    our_seconds,
    print_ratios,
    stock_arguments,
    stock_seconds,
    timed,
    word_tokenizer,
)
from tunesmith_api.enums import Precision, TechniqueType
from tunesmith_api.finetunejob import LoraSpec, TechniqueSpec
from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.batches import LengthBucketSampler
from tunesmith_trainer.encode import IGNORED, EncodedRow
from tunesmith_trainer.environment import peak_resident_bytes
from tunesmith_trainer.loss import collate
from tunesmith_trainer.precision import choose_precision, probe_device

TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
LORA = TechniqueSpec(type=TechniqueType.LORA, lora=LoraSpec(rank=16))
BY_HAND = "hand-written"
TRL = "TRL defaults"
#: Least speed as a ratio to the other loops: on a GPU, where TRL's defaults are what one would write by hand, 1.
AIMS = {BY_HAND: 0.95, TRL: 1.0 if probe_device().name == "cuda" else 5.0}
#: Most memory that our loop may hold, as a ratio to the hand-written one.
MEMORY_AIM = 1.1


@dataclass(frozen=True)
class Size:
    """The model and the run."""

    layers: int
    hidden: int
    wide: int
    vocabulary: int
    steps: int
    longest: int


FULL = Size(layers=8, hidden=640, wide=1760, vocabulary=32_064, steps=12, longest=512)
QUICK = Size(layers=4, hidden=512, wide=1024, vocabulary=8_192, steps=6, longest=128)


def make_model(size: Size) -> Phi3ForCausalLM:
    """A random model with the same weights each time, which bf16 holds as it does those of published checkpoints."""
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.wide,
        num_hidden_layers=size.layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        original_max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Phi3ForCausalLM(config).bfloat16().float()


def make_rows(size: Size) -> list[EncodedRow]:
    """Rows whose lengths are log-normal and whose first 60 % are prompt."""
    draw = random.Random(0)
    rows = []
    for _ in range(size.steps * BATCH):
        length = min(size.longest, max(16, round(draw.lognormvariate(math.log(size.longest / 4), 0.7))))
        ids = [draw.randrange(5, size.vocabulary) for _ in range(length)]
        start = round(0.6 * length)
        rows.append(EncodedRow(ids, [IGNORED] * start + ids[start:], start, ""))
    return rows


def adapted(size: Size) -> torch.nn.Module:
    """The model with LoRA on it, where it is trained."""
    model: torch.nn.Module = adapt(make_model(size).to(probe_device().name), Adaptation(LORA, TARGETS))
    return model


def ours(size: Size, rows: list[EncodedRow], precision: Precision) -> float:
    """Seconds of the trainer's loop."""
    from tunesmith_trainer.completion import CompletionRecipe  # noqa: PLC0415 - memory that other loops do not need

    recipe = CompletionRecipe("bench", Path(), blank_evaluator(size.vocabulary))
    return our_seconds(adapted(size), rows, recipe, LORA, precision)


def by_hand(size: Size, rows: list[EncodedRow], precision: Precision) -> float:
    """Seconds of a plain torch loop on the same batches: same loss, optimizer, clipping and autocast."""
    device = probe_device().name
    model = adapted(size).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0)
    order = list(LengthBucketSampler([len(row.input_ids) for row in rows], BATCH, 42))
    batches = [
        collate([rows[place] for place in order[start : start + BATCH]]) for start in range(0, len(order), BATCH)
    ]

    def loop() -> None:
        for batch in batches:
            ids, mask, labels = (batch[name].to(device) for name in ("input_ids", "attention_mask", "labels"))
            targets = labels[:, 1:]
            keep = (targets != IGNORED).any(0).nonzero().squeeze(1)
            with torch.autocast(device, torch.bfloat16, enabled=precision is Precision.BF16):
                logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets[:, keep].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

    return timed(loop)


def trl_defaults(size: Size, rows: list[EncodedRow], _precision: Precision) -> float:
    """Seconds of TRL's SFTTrainer by its defaults on the same rows: random batches, gradient checkpointing."""
    import datasets  # noqa: PLC0415 - memory that other loops do not need
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415 - as above

    set_seed(42)
    data = datasets.Dataset.from_list(
        [
            {"input_ids": row.input_ids, "completion_mask": [int(label != IGNORED) for label in row.labels]}
            for row in rows
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(**stock_arguments(folder, len(rows)))
        tokenizer = word_tokenizer(size.vocabulary)
        model = adapted(size)
        return stock_seconds(SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer))


LOOPS: dict[str, Callable[[Size, list[EncodedRow], Precision], float]] = {
    OURS: ours,
    BY_HAND: by_hand,
    TRL: trl_defaults,
}


def peak_of(name: str, *, quick: bool) -> int:
    """The most bytes that a loop held in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", name, *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def compare_memory(*, quick: bool, rounds: int) -> None:
    """Print the peaks of our loop and the hand-written one, and their ratio."""
    pairs = [(peak_of(OURS, quick=quick), peak_of(BY_HAND, quick=quick)) for _ in range(rounds)]
    for name, peaks in zip((OURS, BY_HAND), zip(*pairs, strict=True), strict=True):
        print(f"{name:<28}{statistics.median(peaks) / 2**20:>10.0f} MiB at most")
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    print(f"ratio {ratio:.2f} (aim: at most {MEMORY_AIM})")


def compare_speed(size: Size, rounds: int) -> None:
    """Alternate the loops and print the table."""
    rows = make_rows(size)
    tokens = sum(len(row.input_ids) for row in rows)
    precision = choose_precision(Precision.AUTO, probe_device(), size.hidden)
    count = sum(weight.numel() for weight in make_model(size).parameters())
    print(f"{count / 1e6:.0f} M parameters, {len(rows)} rows, {tokens} tokens, batch {BATCH}, {precision},", end=" ")
    print(f"{torch.get_num_threads()} threads, {rounds} rounds")
    by_hand(size, rows[: 2 * BATCH], precision)  # warm-up: first-touch memory, kernel selection
    loops = {name: partial(loop, size, rows, precision) for name, loop in LOOPS.items()}
    print_ratios(alternated(loops, rounds), tokens, AIMS)


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller model with fewer steps")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of the loops (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help="compare memory instead of speed")
    parser.add_argument("--peak-of", choices=(OURS, BY_HAND), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.set_verbosity_error()
    size = QUICK if options.quick else FULL
    if options.peak_of:
        LOOPS[options.peak_of](size, make_rows(size), choose_precision(Precision.AUTO, probe_device(), size.hidden))
        print(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_resident_bytes())
    elif options.memory:
        compare_memory(quick=options.quick, rounds=options.rounds)
    else:
        compare_speed(size, options.rounds)


if __name__ == "__main__":
    main()
