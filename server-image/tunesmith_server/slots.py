"""Key and value buffers: one row per running sequence, shared by past and present so that a step copies nothing.

Per layer there are a key and a value array of shape [slots, kv_heads, capacity, head_dim]. The capacity (tokens)
grows by powers of two with the longest sequence, so that a 128k-token model does not reserve 128k tokens per slot;
pages of unused rows are never touched and cost no memory.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Buffer = NDArray[Any]
_FIRST_CAPACITY = 256


@dataclass(frozen=True)
class CacheShape:
    """Sizes of a model's cache; `dtype` is that of the graph's past inputs."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: np.dtype[Any]

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of all layers for one token of one sequence."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize


class SlotCache:
    """The buffers of all slots."""

    def __init__(self, shape: CacheShape, slots: int, max_context: int) -> None:
        self.shape = shape
        self.slots = slots
        self.max_context = max_context
        self.capacity = 0
        self.keys: list[Buffer] = []
        self.values: list[Buffer] = []
        self._resize(capacity_for(1, max_context), kept_tokens=0)

    @property
    def size_bytes(self) -> int:
        """Address space of the buffers; what is resident grows with use up to this."""
        return self.slots * self.capacity * self.shape.bytes_per_token

    def reserve(self, tokens: int) -> bool:
        """Make every row hold `tokens`; whether the buffers moved (what is bound to them must be bound again)."""
        if tokens <= self.capacity:
            return False
        self._resize(capacity_for(tokens, self.max_context), kept_tokens=self.capacity)
        return True

    def shrink(self) -> bool:
        """Give memory of long sequences back; only when no row is in use. Whether the buffers moved."""
        first = capacity_for(1, self.max_context)
        if self.capacity == first:
            return False
        self._resize(first, kept_tokens=0)
        return True

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of row `source` to row `target`."""
        for buffer in (*self.keys, *self.values):
            buffer[target, :, :tokens] = buffer[source, :, :tokens]

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Exchange the first `tokens` of two rows."""
        for buffer in (*self.keys, *self.values):
            buffer[[one, other], :, :tokens] = buffer[[other, one], :, :tokens]

    def _resize(self, capacity: int, kept_tokens: int) -> None:
        self.capacity = capacity
        self.keys, self.values = (
            [self._grown(layers, layer, kept_tokens) for layer in range(self.shape.layers)]
            for layers in (self.keys, self.values)
        )

    def _grown(self, layers: list[Buffer], layer: int, kept_tokens: int) -> Buffer:
        new = np.zeros((self.slots, self.shape.kv_heads, self.capacity, self.shape.head_dim), self.shape.dtype)
        if kept_tokens:
            new[:, :, :kept_tokens] = layers[layer][:, :, :kept_tokens]
            layers[layer] = new  # the old buffer goes now, not when all layers are copied
        return new


def capacity_for(tokens: int, max_context: int) -> int:
    """The capacity that holds `tokens`: a power of two, at least 256, at most `max_context`."""
    return min(max_context, max(_FIRST_CAPACITY, 1 << (tokens - 1).bit_length()))
