"""Training speed: our loop against a hand-written torch loop on the same batches, and against TRL's defaults.

`python bench/trainer.py` builds a random Phi-3, draws rows of log-normal length, and alternates the loops within one
run, so that a busy machine slows all of them alike. The table gives the median of each loop's tokens per second (input
tokens without padding) and of the ratios within a round. `--quick` is a smaller model with fewer steps.
"""

import argparse
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).parents[1] / "trainer-image"))

import datasets
import torch
from tokenizers import Tokenizer, models
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from tunesmith_api.enums import Precision, TechniqueType
from tunesmith_api.finetunejob import GenerationSpec, LoraSpec, TechniqueSpec, TrainingSpec
from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.batches import LengthBucketSampler
from tunesmith_trainer.completion import CompletionRecipe
from tunesmith_trainer.encode import IGNORED, EncodedRow
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.loop import LoopPlan, TuningTrainer
from tunesmith_trainer.loss import collate
from tunesmith_trainer.precision import choose_precision, probe_device

TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
LORA = Adaptation(TechniqueSpec(type=TechniqueType.LORA, lora=LoraSpec(rank=16)), TARGETS)
BATCH = 8
LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class Size:
    """The model and the run."""

    layers: int
    hidden: int
    vocabulary: int
    steps: int
    longest: int


FULL = Size(layers=8, hidden=640, vocabulary=32_064, steps=8, longest=512)
QUICK = Size(layers=4, hidden=512, vocabulary=8_192, steps=6, longest=128)


def make_model(size: Size) -> Phi3ForCausalLM:
    """A random model with the same weights each time."""
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 2,
        num_hidden_layers=size.layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        original_max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Phi3ForCausalLM(config)


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


def ours(size: Size, rows: list[EncodedRow], precision: Precision) -> float:
    """Seconds of the trainer's loop."""
    device = probe_device()
    spec = TrainingSpec(batch_size=BATCH, learning_rate=LEARNING_RATE, checkpoint_every_steps=10**6)
    with tempfile.TemporaryDirectory() as folder:
        plan = LoopPlan(spec, size.steps, precision, device, Path(folder))
        model = adapt(make_model(size).to(device.name), LORA)
        evaluator = Evaluator([], tokenizer_of(size), GenerationSpec(), frozenset({2}), 1024)
        trainer = TuningTrainer(model, plan, rows, CompletionRecipe("bench", Path(folder), evaluator))
        trainer.args.save_strategy = trainer.args.eval_strategy = "no"
        trainer.args.eval_on_start = False
        return timed(trainer.train)


def by_hand(size: Size, rows: list[EncodedRow], precision: Precision) -> float:
    """Seconds of a plain torch loop on the same batches: same loss, optimizer, clipping and autocast."""
    device = probe_device().name
    model = adapt(make_model(size).to(device), LORA).train()
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
    set_seed(42)
    data = datasets.Dataset.from_list(
        [
            {"input_ids": row.input_ids, "completion_mask": [int(label != IGNORED) for label in row.labels]}
            for row in rows
        ]
    )
    on_cpu = probe_device().name == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=size.steps,
            per_device_train_batch_size=BATCH,
            use_cpu=on_cpu,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            dataloader_pin_memory=not on_cpu,
        )
        model = adapt(make_model(size), LORA)
        trainer = SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer_of(size))
        trainer.remove_callback(PrinterCallback)
        return timed(trainer.train)


def tokenizer_of(size: Size) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: no loop encodes anything, but they ask for one."""
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, size.vocabulary)}}
    backend = Tokenizer(models.WordLevel(words, unk_token="w3"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")


def timed(loop: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    loop()
    return time.perf_counter() - began


LOOPS: dict[str, Callable[[Size, list[EncodedRow], Precision], float]] = {
    "tunesmith": ours,
    "hand-written": by_hand,
    "TRL defaults": trl_defaults,
}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller model with fewer steps")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of the loops (default: %(default)s)")
    options = parser.parse_args()
    logging.set_verbosity_error()
    size = QUICK if options.quick else FULL
    rows = make_rows(size)
    tokens = sum(len(row.input_ids) for row in rows)
    precision = choose_precision(Precision.AUTO, probe_device(), size.hidden)
    count = sum(weight.numel() for weight in make_model(size).parameters())
    print(f"{count / 1e6:.0f} M parameters, {len(rows)} rows, {tokens} tokens, batch {BATCH}, {precision},", end=" ")
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds")
    by_hand(size, rows[: 2 * BATCH], precision)  # warm-up: first-touch memory, kernel selection
    seconds: dict[str, list[float]] = {name: [] for name in LOOPS}
    for turn in range(options.rounds):
        names = list(LOOPS) if turn % 2 == 0 else list(reversed(LOOPS))
        for name in names:
            seconds[name].append(LOOPS[name](size, rows, precision))
    print(f"{'loop':<14}{'tokens/s':>10}{'tunesmith is':>14}")
    for name, times in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(seconds["tunesmith"], times, strict=True))
        print(f"{name:<14}{tokens / statistics.median(times):>10.0f}{ratio:>13.2f}x")


if __name__ == "__main__":
    main()
