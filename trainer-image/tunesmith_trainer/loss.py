"""The completion-only loss: logits are computed where a label is, which makes a CPU step up to twice as fast."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from tunesmith_trainer.adapters import virtual_tokens
from tunesmith_trainer.encode import IGNORED, EncodedRow

Batch = dict[str, torch.Tensor]


def collate(rows: Sequence[EncodedRow]) -> Batch:
    """A right-padded batch: `input_ids`, `attention_mask` and `labels`, each of shape (rows, longest row)."""
    longest = max(len(row.input_ids) for row in rows)
    shape = (len(rows), longest)
    ids = torch.zeros(shape, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    for place, row in enumerate(rows):
        length = len(row.input_ids)
        ids[place, :length] = torch.tensor(row.input_ids)
        mask[place, :length] = 1
        labels[place, :length] = torch.tensor(row.labels)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def completion_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits where any row of the batch has a label to predict, and those labels.

    The head is the widest layer of a small model; stock losses run it on every position, most of which are prompt.

    Returns:
        Logits of shape (rows, kept positions, vocabulary), and the next tokens' labels of shape (rows, kept positions).
    """
    targets = batch["labels"][:, 1:]
    keep = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=False,
        logits_to_keep=keep + virtual_tokens(model),
    )
    return output.logits, targets[:, keep]


def completion_loss(model: Any, batch: Batch, items: torch.Tensor | int | None = None) -> torch.Tensor:
    """Cross-entropy summed over the labelled tokens and divided by `items`, or by their own number when it is None.

    Args:
        model: a causal language model that takes `logits_to_keep`; called whole, so that autocast and wrappers work.
        batch: as `collate` makes it.
        items: labelled tokens of the whole optimizer step, over all its accumulated batches.
    """
    logits, targets = completion_logits(model, batch)
    count = (targets != IGNORED).sum() if items is None else items
    total = functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / count
