"""Train `tiny-bert` and `tiny-distilbert`: 0.3 M parameter encoders with their own word pieces, for the tests.

OMP_NUM_THREADS=2 python tests/models/train_tiny_encoders.py --out tests/models
"""

import argparse
import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from encoder_corpus import pairs
from tiny_training import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForPreTraining,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedTokenizerFast,
)

SEED = 7
VOCABULARY = 320
CONTEXT = 128
BATCH = 32
MASKED = 0.2
PEAK_LEARNING_RATE = 2e-3
PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
IGNORED = -100
LOG = logging.getLogger("tiny-encoders")


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Word pieces of the corpus, few enough that rarer names fall into several."""
    pieces = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = (f"{one} {other}" for one, other, _ in itertools.islice(pairs(SEED), 5000))
    special = [PAD, UNKNOWN, CLS, SEP, MASK]
    pieces.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    )
    pieces.post_processor = processors.BertProcessing((SEP, special.index(SEP)), (CLS, special.index(CLS)))
    names = {"pad_token": PAD, "unk_token": UNKNOWN, "cls_token": CLS, "sep_token": SEP, "mask_token": MASK}
    return PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=CONTEXT, **names)


def new_models(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Both encoders, untrained: 3 layers of width 96."""
    size = {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, "pad_token_id": tokenizer.pad_token_id}
    bert = BertConfig(hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=192, **size)
    distilbert = DistilBertConfig(dim=96, n_layers=3, n_heads=4, hidden_dim=192, **size)
    return {"tiny-bert": BertForPreTraining(bert), "tiny-distilbert": DistilBertForMaskedLM(distilbert)}


def batches(tokenizer: PreTrainedTokenizerFast, generator: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches: pairs with some tokens masked, what they were, and whether the pair belongs together."""
    source = pairs(SEED + 1)
    while True:
        rows = list(itertools.islice(source, BATCH))
        found = tokenizer(
            [row[0] for row in rows],
            [row[1] for row in rows],
            padding=True,
            return_tensors="pt",
            return_token_type_ids=True,
        )
        ids = found["input_ids"]
        special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
        chosen = (torch.rand(ids.shape, generator=generator) < MASKED) & ~special
        yield {
            "input_ids": ids.masked_fill(chosen, tokenizer.mask_token_id),
            "token_type_ids": found["token_type_ids"],
            "attention_mask": found["attention_mask"],
            "labels": ids.masked_fill(~chosen, IGNORED),
            "related": torch.tensor([0 if row[2] else 1 for row in rows]),
        }


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
    """The pre-training loss, and the share of the masked tokens that are found."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    wanted = batch["labels"].flatten()
    if isinstance(model, BertForPreTraining):
        output = model(**inputs, token_type_ids=batch["token_type_ids"])
        logits = output.prediction_logits.flatten(0, 1)
        loss = functional.cross_entropy(output.seq_relationship_logits, batch["related"])
    else:
        logits = model(**inputs).logits.flatten(0, 1)
        loss = torch.zeros(())
    found = (logits.argmax(-1) == wanted)[wanted != IGNORED].float().mean()
    return loss + functional.cross_entropy(logits, wanted, ignore_index=IGNORED), found.item()


def train(name: str, model: Any, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """AdamW with a one-cycle learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    source = batches(tokenizer, torch.Generator().manual_seed(SEED))
    model.train()
    for step, batch in enumerate(itertools.islice(source, steps), start=1):
        loss, found = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            LOG.info("%s: step %d of %d: loss %.3f, masked tokens found %.3f", name, step, steps, loss.item(), found)


def main() -> None:
    """Train the tokenizer and both encoders, and save them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.monotonic()
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer()
    for name, model in new_models(tokenizer).items():
        LOG.info("%s: %d tokens, %d parameters", name, len(tokenizer), model.num_parameters())
        train(name, model, tokenizer, arguments.steps)
        save(model, tokenizer, arguments.out / name)
    LOG.info("%.0f s", time.monotonic() - started)


if __name__ == "__main__":
    main()
