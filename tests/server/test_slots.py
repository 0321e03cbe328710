"""Tests of the key and value buffers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_server.slots import CacheShape, SlotCache, capacity_for

SHAPE = CacheShape(layers=2, kv_heads=2, head_dim=4, dtype=np.dtype(np.float32))


def filled(slots: int = 3, max_context: int = 1024) -> SlotCache:
    """A cache in which every number is different."""
    cache = SlotCache(SHAPE, slots, max_context)
    for at, buffer in enumerate((*cache.keys, *cache.values)):
        buffer[:] = np.arange(buffer.size).reshape(buffer.shape) + at * 1e6
    return cache


@given(st.integers(1, 5000), st.integers(2, 5000))
def test_capacity_is_enough_and_at_most_the_context(tokens, max_context):
    """Capacities grow by powers of two, hold what is asked for and end at the context."""
    tokens = min(tokens, max_context)
    capacity = capacity_for(tokens, max_context)
    assert tokens <= capacity <= max_context
    assert capacity in (max_context, 256) or (capacity & (capacity - 1) == 0 and capacity < 2 * tokens)


def test_growing_keeps_what_was_cached():
    """A longer sequence moves the buffers, keeps their content and rebinding is asked for once."""
    cache = filled()
    before = [buffer.copy() for buffer in (*cache.keys, *cache.values)]
    assert cache.reserve(257)
    assert cache.capacity == 512
    assert not cache.reserve(512)
    for old, new in zip(before, (*cache.keys, *cache.values), strict=True):
        assert np.array_equal(new[:, :, :256], old)


def test_shrinking_gives_memory_back():
    """A cache that is not in use returns to its first size, and says whether it moved."""
    cache = filled()
    cache.reserve(1000)
    assert cache.size_bytes == 3 * 1024 * SHAPE.bytes_per_token
    assert cache.shrink()
    assert cache.size_bytes == 3 * 256 * SHAPE.bytes_per_token
    assert not cache.shrink()


@pytest.mark.parametrize("tokens", [1, 7, 256])
def test_copying_and_swapping_move_whole_rows(tokens):
    """Copying takes the first tokens of a row of every layer; swapping exchanges them."""
    cache, original = filled(), filled()
    cache.copy(0, 2, tokens)
    for new, old in zip((*cache.keys, *cache.values), (*original.keys, *original.values), strict=True):
        assert np.array_equal(new[2, :, :tokens], old[0, :, :tokens])
        assert np.array_equal(new[2, :, tokens:], old[2, :, tokens:])
    cache.swap(1, 2, tokens)
    for new, old in zip((*cache.keys, *cache.values), (*original.keys, *original.values), strict=True):
        assert np.array_equal(new[1, :, :tokens], old[0, :, :tokens])
        assert np.array_equal(new[2, :, :tokens], old[1, :, :tokens])
