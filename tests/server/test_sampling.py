"""Tests of choosing a token: every shortcut against a naive oracle."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tunesmith_server.sampling import SamplingParams, adjust, logprobs, nucleus, sample, softmax

LOGITS = hnp.arrays(np.float32, st.integers(2, 40), elements=st.floats(-20, 20, width=32))
WIDE = hnp.arrays(np.float32, 1500, elements=st.sampled_from([-3.0, 0.0, 0.5, 2.0]))


def naive_nucleus(weights: list[float], top_k: int, top_p: float) -> list[int]:
    """Sort all, cut at k, renormalise, take until the mass is reached."""
    order = sorted(range(len(weights)), key=lambda token: (-weights[token], token))
    order = order[:top_k] if top_k else order
    total, mass, kept = math.fsum(weights[token] for token in order) if top_k else 1.0, 0.0, []
    for token in order:
        kept.append(token)
        mass += weights[token] / total
        if mass >= top_p and top_p < 1:
            break
    return kept


@given(LOGITS, st.integers(0, 2**32))
def test_temperature_zero_takes_the_largest_logit(logits, seed):
    """Greedy sampling takes the first largest logit and draws nothing."""
    rng = np.random.default_rng(seed)
    before = rng.bit_generator.state
    assert sample(logits, SamplingParams(temperature=0), {}, rng) == max(range(len(logits)), key=lambda i: logits[i])
    assert rng.bit_generator.state == before


@given(LOGITS | WIDE, st.integers(0, 50), st.sampled_from([0.05, 0.3, 0.7, 0.95, 1.0]))
@settings(max_examples=60)
def test_nucleus_equals_the_naive_one(logits, top_k, top_p):
    """Partial sorting keeps exactly the tokens, in the order, that sorting everything keeps."""
    weights = softmax(logits.astype(np.float64))
    kept, wanted = nucleus(weights, top_k, top_p).tolist(), naive_nucleus(weights.tolist(), top_k, top_p)
    # a sum that ends within rounding of top_p may cut one token earlier or later
    shorter = min(len(kept), len(wanted))
    assert kept[:shorter] == wanted[:shorter]
    assert abs(len(kept) - len(wanted)) <= 1
    whole = np.sort(weights)[-top_k:].sum() if top_k else 1.0
    assert len(kept) == len(wanted) or abs(weights[kept[:shorter]].sum() - top_p * whole) < 1e-6


@given(
    LOGITS,
    st.dictionaries(st.integers(0, 1), st.floats(-100, 100)),
    st.dictionaries(st.integers(0, 1), st.integers(1, 9)),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
def test_penalties_follow_the_published_formula(logits, bias, counts, frequency, presence):
    """Each logit changes by bias - frequency * count - presence * (count > 0)."""
    params = SamplingParams(logit_bias=bias, frequency_penalty=frequency, presence_penalty=presence)
    for token, value in enumerate(adjust(logits, params, counts)):
        count = counts.get(token, 0)
        wanted = float(logits[token]) + bias.get(token, 0) - frequency * count - presence * (count > 0)
        assert value == pytest.approx(wanted, abs=1e-9)


@given(
    LOGITS, st.integers(0, 2**32), st.integers(0, 5), st.sampled_from([0.2, 0.9, 1.0]), st.sampled_from([0.3, 1.0, 2.0])
)
def test_a_seed_decides_the_token(logits, seed, top_k, top_p, temperature):
    """Equal generators give equal tokens, and always one of the nucleus."""
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k)
    one, two = (sample(logits, params, {}, np.random.default_rng(seed)) for _ in range(2))
    assert one == two
    assert one in nucleus(softmax(logits.astype(np.float64) / temperature), top_k, top_p)


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(), [0, 1, 2, 3]),
        (SamplingParams(top_k=2), [2, 3]),
        (SamplingParams(top_p=0.8), [1, 2, 3]),
        (SamplingParams(temperature=0.5), [0, 1, 2, 3]),
        (SamplingParams(logit_bias={3: -100}), [0, 1, 2]),
    ],
)
def test_draws_have_the_right_frequencies(params, allowed):
    """Over many draws each token comes as often as its renormalised probability says (chi-squared, 99.99 %)."""
    logits, rng = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32)), np.random.default_rng(7)
    draws = np.bincount([sample(logits, params, {}, rng) for _ in range(4000)], minlength=4)
    weights = softmax(adjust(logits, params, {}) / params.temperature)
    expected = np.array([weights[token] if token in allowed else 0 for token in range(4)])
    expected = 4000 * expected / expected.sum()
    assert draws[expected < 1e-6].sum() == 0
    used = expected >= 1e-6
    assert (((draws - expected) ** 2)[used] / expected[used]).sum() < 21.1


@given(LOGITS, st.integers(0, 20))
def test_log_probabilities_are_a_log_softmax(logits, top):
    """Log probabilities are those of the unmodified logits, the best first, and there are as many as asked for."""
    told = logprobs(logits, 1, top)
    wanted = [float(value) - math.log(math.fsum(math.exp(float(x)) for x in logits)) for value in logits]
    assert told.logprob == pytest.approx(wanted[1], abs=1e-6)
    assert [token for token, _ in told.top] == sorted(range(len(wanted)), key=lambda i: (-logits[i], i))[:top]
    assert all(value == pytest.approx(wanted[token], abs=1e-6) for token, value in told.top)
