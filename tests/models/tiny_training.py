"""What the scripts that train the tiny models share: the training on pairs, and the folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch


def train(model: Any, batches: Iterable[dict[str, torch.Tensor]], steps: int, peak_rate: float) -> float:
    """AdamW with a one-cycle learning rate, a step for each batch; returns the last loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps, pct_start=0.1)
    loss = torch.tensor(0.0)
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return loss.item()


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write both, readable by everyone: safetensors creates files that only the owner can read."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = folder / "tokenizer_config.json"  # a class name which runtimes older than transformers 5 know as well
    config.write_text(config.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    for path in folder.iterdir():
        path.chmod(0o644)
