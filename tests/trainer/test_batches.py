"""Which rows go together."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_api.planner import GENERATION_TOKENS
from tunesmith_trainer.batches import decoding_batches

pytestmark = pytest.mark.torch


@given(lengths=st.lists(st.integers(1, 9000), max_size=200), answer=st.integers(1, 512))
def test_what_is_decoded_together_stays_within_the_cache(lengths: Sequence[int], answer: int) -> None:
    """Every prompt comes once, and no batch of several has more tokens than the planner counts on."""
    batches = list(decoding_batches(lengths, answer))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        tokens = len(batch) * (max(lengths[place] for place in batch) + answer)
        assert len(batch) == 1 or (tokens <= GENERATION_TOKENS and len(batch) <= 64)
