"""From logits to a token: pure functions of frozen parameters and an injected random generator.

The order is bias, penalties, temperature, top-k, top-p, draw; the meanings are OpenAI's, with vLLM's `top_k`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Weights = NDArray[np.float64]
_NUCLEUS_CANDIDATES = 512  # sorting a 32k vocabulary takes 2 ms; the nucleus is almost always among the top few hundred


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen.

    `temperature` 0 is greedy. `top_k` 0 keeps all. Penalties and bias are in logits. `top_logprobs` None gives no
    log probabilities, 0 the chosen token's only.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the largest of the unmodified logits decides."""
        penalised = self.frequency_penalty or self.presence_penalty
        return self.temperature == 0 and not self.logit_bias and not penalised


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural-log probabilities of the unmodified model: the chosen token's and the most likely ones', best first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


def sample(logits: Logits, params: SamplingParams, counts: Mapping[int, int], rng: np.random.Generator) -> int:
    """Choose a token from `logits` [vocabulary]; `counts` says how often each token was generated so far."""
    if params.is_plain_greedy:
        return int(np.argmax(logits))
    adjusted = adjust(logits, params, counts)
    if params.temperature == 0:
        return int(np.argmax(adjusted))
    weights = softmax(adjusted / params.temperature)
    if params.top_k == 0 and params.top_p >= 1:
        return _draw(weights, rng)
    kept = nucleus(weights, params.top_k, params.top_p)
    return int(kept[_draw(weights[kept], rng)])


def adjust(logits: Logits, params: SamplingParams, counts: Mapping[int, int]) -> Weights:
    """The logits with bias and penalties applied (https://platform.openai.com/docs/api-reference/parameter-details)."""
    adjusted = logits.astype(np.float64)
    for token, bias in params.logit_bias.items():
        adjusted[token] += bias
    if params.frequency_penalty or params.presence_penalty:
        for token, count in counts.items():
            adjusted[token] -= params.frequency_penalty * count + params.presence_penalty
    return adjusted


def softmax(logits: Weights) -> Weights:
    """Probabilities [vocabulary] of logits [vocabulary]."""
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def nucleus(weights: Weights, top_k: int, top_p: float) -> NDArray[np.intp]:
    """Tokens kept by top-k, then top-p over what top-k left, most likely first; ties go to the lower token.

    Top-p keeps the shortest prefix whose renormalised mass reaches `top_p`, and always one token.
    """
    if top_k:
        order = _descending(weights, min(top_k, weights.size))
        kept = order[:top_k]
        return kept[: _prefix(weights[kept] / weights[kept].sum(), top_p)]
    order = _descending(weights, _NUCLEUS_CANDIDATES)
    if weights[order].sum() < top_p:
        order = _descending(weights, weights.size)
    return order[: _prefix(weights[order], top_p)]


def logprobs(logits: Logits, token: int, top: int) -> TokenLogprobs:
    """Log probabilities of `token` and of the `top` most likely tokens."""
    shifted = logits.astype(np.float64) - float(logits.max())
    normalised = shifted - np.log(np.exp(shifted).sum())
    best = _descending(logits.astype(np.float64), top)[:top] if top else ()
    return TokenLogprobs(float(normalised[token]), tuple((int(one), float(normalised[one])) for one in best))


def _descending(values: Weights, count: int) -> NDArray[np.intp]:
    """At least the `count` largest values' indices, in the order a stable full sort would give them."""
    if count >= values.size:
        return np.argsort(-values, kind="stable")
    threshold = np.partition(values, values.size - count)[values.size - count]
    candidates = np.flatnonzero(values >= threshold)
    return candidates[np.argsort(-values[candidates], kind="stable")]


def _prefix(weights: Weights, mass: float) -> int:
    if mass >= 1:
        return weights.size
    return min(int(np.searchsorted(np.cumsum(weights), mass)) + 1, weights.size)


def _draw(weights: Weights, rng: np.random.Generator) -> int:
    cumulative = np.cumsum(weights)
    index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return min(index, weights.size - 1)
