"""Which rows go together: length-bucketed training batches, and evaluation batches within a token budget."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from tunesmith_api.planner import GENERATION_TOKENS

Places = NDArray[np.int64]

#: Rows that are decoded together, at most.
_DECODED_ROWS = 64
#: Batches per bucket: rows are shuffled, then sorted by length within this many batches.
_BUCKET_BATCHES = 50
#: Stands for a row that teaches nothing, where the last batch of an epoch is filled up.
BLANK = -1


class LengthBucketSampler(Sampler[int]):
    """Rows in an order whose consecutive batches hold rows of like length, reproducible from the seed and the epoch.

    Padding costs what a row of the longest length costs; bucketing made the example 6.8 times faster than the defaults
    together with the other settings. The order depends on nothing else, so that a resumed run sees the same batches.

    Args:
        lengths: of the rows.
        batch_size: rows that go together; with several processes those of all, of which each takes its slice.
        seed: of the order.
        fill: fill the last batch of an epoch up with `BLANK`, so that every process has a slice.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, *, fill: bool = False) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._blanks = -len(lengths) % batch_size if fill else 0
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which pass over the rows comes next; the data loader calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths) + self._blanks

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(len(self._lengths), generator=generator).numpy()
        bucket = self._batch_size * _BUCKET_BATCHES
        parts = [self._sorted(order[start : start + bucket]) for start in range(0, len(order), bucket)]
        rows = np.concatenate(parts) if parts else order  # 8 bytes a row, where lists of numbers would take 40
        whole = len(rows) // self._batch_size
        for place in torch.randperm(whole, generator=generator).numpy():
            yield from rows[place * self._batch_size : (place + 1) * self._batch_size].tolist()
        yield from rows[whole * self._batch_size :].tolist()
        yield from [BLANK] * self._blanks

    def _sorted(self, rows: Places) -> Places:
        return rows[np.argsort(self._lengths[rows], kind="stable")]


def decoding_batches(prompt_lengths: Sequence[int], answer_tokens: int) -> Iterator[list[int]]:
    """Places of prompts that are decoded together: of like length, and within the tokens that bound the KV cache.

    Args:
        prompt_lengths: tokens of each prompt.
        answer_tokens: longest answer.
    """
    batch: list[int] = []
    for place in sorted(range(len(prompt_lengths)), key=prompt_lengths.__getitem__):
        tokens = prompt_lengths[place] + answer_tokens
        if batch and (len(batch) == _DECODED_ROWS or (len(batch) + 1) * tokens > GENERATION_TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
