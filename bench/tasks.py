"""Training speed of the tasks that have models of their own kind: our loop against transformers' Trainer.

`python bench/tasks.py` tunes all weights of a random BERT that classifies, and of a random T5 that translates, on rows
of log-normal length: by our loop, and by `Trainer` or `Seq2SeqTrainer` with their defaults and the collator that their
documentation takes for the task. Model, rows, batch size, number of steps and precision are the same (both loops choose
fp32 at these widths); what differs is what each does by itself: the order of the rows, the padding and the loss. The
loops take turns within one run. The table has medians of tokens per second (input tokens without padding) and of the
ratios within a round; our loop should be at least as fast.
"""

import argparse
import math
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from loops import (
    BATCH,
    OURS,
    alternated,
    blank_evaluator,
    our_seconds,
    print_ratios,
    stock_arguments,
    stock_seconds,
    word_tokenizer,
)
from tunesmith_api.enums import Precision, Task, TechniqueType
from tunesmith_api.finetunejob import TechniqueSpec
from tunesmith_trainer.classification import Classification
from tunesmith_trainer.classification_rows import LabeledRow
from tunesmith_trainer.encode_seq2seq import Seq2SeqRow
from tunesmith_trainer.encoder_model import Reading
from tunesmith_trainer.encoder_recipe import EncoderRecipe
from tunesmith_trainer.instructions import Instruction
from tunesmith_trainer.precision import choose_precision, probe_device
from tunesmith_trainer.recipe import Recipe, TokenRow
from tunesmith_trainer.seq2seq import Seq2SeqRecipe

VOCABULARY, WIDTH, LONGEST = 16_384, 384, 256
CLASSES = tuple(f"class-{number}" for number in range(8))
FULL = TechniqueSpec(type=TechniqueType.FULL)
STOCK = "transformers' defaults"


@dataclass(frozen=True)
class TaskBench:
    """One task.

    Attributes:
        model: makes a random model, the same each time.
        rows: makes so many rows.
        recipe: how our loop learns it.
        stock: makes transformers' trainer for a model and rows that writes into a folder.
    """

    model: Callable[[], Any]
    rows: Callable[[int], Sequence[TokenRow]]
    recipe: Callable[[], Recipe]
    stock: Callable[[Any, Sequence[Any], str], Trainer]


def make_bert() -> BertForSequenceClassification:
    """A random BERT of MiniLM's shape."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=4 * WIDTH,
        num_labels=len(CLASSES),
    )
    return BertForSequenceClassification(config)


def make_t5() -> T5ForConditionalGeneration:
    """A random T5 with gated feed-forward layers, as its newer versions have them."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        d_kv=64,
        d_ff=2 * WIDTH,
        num_layers=4,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def _ids(draw: random.Random) -> list[int]:
    length = min(LONGEST, max(8, round(draw.lognormvariate(math.log(LONGEST / 4), 0.7))))
    return [draw.randrange(5, VOCABULARY) for _ in range(length)]


def labeled_rows(count: int) -> list[LabeledRow]:
    """Texts with a class each."""
    draw = random.Random(0)
    return [LabeledRow(_ids(draw), [draw.randrange(len(CLASSES))]) for _ in range(count)]


def parallel_rows(count: int) -> list[Seq2SeqRow]:
    """Sources, and targets of nearly their lengths."""
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        source = _ids(draw)
        target = [draw.randrange(5, VOCABULARY) for _ in range(round(len(source) * draw.uniform(0.8, 1.2)))]
        rows.append(Seq2SeqRow(source, [*target, 1], ""))
    return rows


def classifying() -> EncoderRecipe:
    """Our way to classify."""
    return EncoderRecipe(Path(), 0, [], Classification(CLASSES, multiple=False), Reading(0, segments=True))


def translating() -> Seq2SeqRecipe:
    """Our way to translate."""
    instruction = Instruction(task=Task.TRANSLATION, template="{text}", answer="")
    return Seq2SeqRecipe(Path(), blank_evaluator(VOCABULARY), instruction, 0)


def stock_classifier(model: Any, rows: Sequence[LabeledRow], folder: str) -> Trainer:
    """As the documentation of transformers classifies texts."""
    data = [
        {"input_ids": row.input_ids, "attention_mask": [1] * len(row.input_ids), "label": row.classes[0]}
        for row in rows
    ]
    arguments = TrainingArguments(**stock_arguments(folder, len(rows)))
    collator = DataCollatorWithPadding(word_tokenizer(VOCABULARY))
    return Trainer(model, args=arguments, train_dataset=data, data_collator=collator)


def stock_translator(model: Any, rows: Sequence[Seq2SeqRow], folder: str) -> Trainer:
    """As the documentation of transformers translates."""
    data = [
        {"input_ids": row.input_ids, "attention_mask": [1] * len(row.input_ids), "labels": row.labels} for row in rows
    ]
    arguments = Seq2SeqTrainingArguments(**stock_arguments(folder, len(rows)))
    collator = DataCollatorForSeq2Seq(word_tokenizer(VOCABULARY), model=model)
    return Seq2SeqTrainer(model, args=arguments, train_dataset=data, data_collator=collator)


TASKS = {
    Task.TEXT_CLASSIFICATION: TaskBench(make_bert, labeled_rows, classifying, stock_classifier),
    Task.TRANSLATION: TaskBench(make_t5, parallel_rows, translating, stock_translator),
}


def ours(bench: TaskBench, rows: Sequence[TokenRow], precision: Precision) -> float:
    """Seconds of the trainer's loop."""
    set_seed(42)
    return our_seconds(bench.model(), rows, bench.recipe(), FULL, precision)


def stock(bench: TaskBench, rows: Sequence[TokenRow]) -> float:
    """Seconds of transformers' trainer."""
    set_seed(42)
    with tempfile.TemporaryDirectory() as folder:
        return stock_seconds(bench.stock(bench.model(), rows, folder))


def compare(task: Task, bench: TaskBench, count: int, rounds: int) -> None:
    """Alternate the loops on so many rows, and print the table."""
    precision = choose_precision(Precision.AUTO, probe_device(), WIDTH)
    rows = bench.rows(count)
    lengths = [len(row.input_ids) for row in rows]
    weights = sum(weight.numel() for weight in bench.model().parameters())
    print(f"{task}: {weights / 1e6:.0f} M parameters, {count} rows of {statistics.median(lengths):.0f} tokens", end=" ")
    print(f"(median), batch {BATCH}, {precision}, {torch.get_num_threads()} threads, {rounds} rounds")
    ours(bench, rows[: 2 * BATCH], precision)  # warm-up: first-touch memory, kernel selection
    loops = {OURS: partial(ours, bench, rows, precision), STOCK: partial(stock, bench, rows)}
    print_ratios(alternated(loops, rounds), sum(lengths), {STOCK: 1.0})


def main() -> None:
    """Run each task's rounds and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of the loops (default: %(default)s)")
    options = parser.parse_args()
    logging.set_verbosity_error()
    for task, bench in TASKS.items():
        compare(task, bench, BATCH * (6 if options.quick else 24), options.rounds)


if __name__ == "__main__":
    main()
