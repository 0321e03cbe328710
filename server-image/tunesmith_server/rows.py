"""The state of one running sequence, and which cache rows may share a step. Pure: no session, no thread."""

from collections.abc import Sequence as Values
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from tunesmith_server.engine import Sequence, Sink, TokenEvent
from tunesmith_server.sampling import Logits, logprobs, sample

_LEAST_SHARED_TOKENS = 8  # below this a copy saves less than it costs


class Group(IntEnum):
    """What a row takes part in next; rows are kept in this order so that each group is one contiguous range.

    Rows within and beyond a LongRoPE model's original context never share a step: the graph chooses the rotary factors
    once per step, by the longest row, and the short rows' answers would be wrong.
    """

    SHORT = 0
    LONG = 1
    PREFILL = 2
    FREE = 3


@dataclass
class Row:
    """A sequence in a slot. The first `cached` of `tokens` have their keys and values in the cache."""

    request_id: str
    sequence: Sequence
    sink: Sink
    arrival: int
    tokens: list[int]
    cached: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    @classmethod
    def start(cls, request_id: str, sequence: Sequence, sink: Sink, arrival: int) -> "Row":
        """A row with nothing cached; its generator depends on the seed and the sequence's index only."""
        seed = None if sequence.seed is None else [sequence.seed & 0xFFFF_FFFF_FFFF_FFFF, sequence.index]
        return cls(request_id, sequence, sink, arrival, list(sequence.prompt), rng=np.random.default_rng(seed))

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.sequence.prompt)

    def is_long(self, rope_switch: int | None) -> bool:
        """Whether all of the row's keys are computed with a LongRoPE model's long factors."""
        return rope_switch is not None and len(self.tokens) > rope_switch

    def group(self, rope_switch: int | None) -> Group:
        """Where the row belongs for the next step: one token that is not cached yet is decoded, more are prefilled."""
        if self.cached < len(self.tokens) - 1:
            return Group.PREFILL
        return Group.LONG if self.is_long(rope_switch) else Group.SHORT

    def choose(self, logits: Logits, end_tokens: frozenset[int], max_context: int) -> TokenEvent:
        """Sample the next token from `logits` [vocabulary] and append it."""
        params = self.sequence.params
        token = sample(logits, params, self.counts, self.rng)
        told = None if params.top_logprobs is None else logprobs(logits, token, params.top_logprobs)
        self.tokens.append(token)
        self.counts[token] = self.counts.get(token, 0) + 1
        if token in end_tokens:
            return TokenEvent(self.sequence.index, token, told, "stop")
        full = len(self.tokens) - self.prompt_tokens >= self.sequence.max_tokens or len(self.tokens) >= max_context
        return TokenEvent(self.sequence.index, token, told, "length" if full else None)


def swaps(groups: Values[int]) -> list[tuple[int, int]]:
    """Exchanges of positions, in order, after which `groups` is sorted; what is in its place already stays there."""
    current, target, moves = list(groups), sorted(groups), []
    for here, wanted in enumerate(target):
        if current[here] == wanted:
            continue
        candidates = [there for there in range(here + 1, len(current)) if current[there] == wanted != target[there]]
        there = next((one for one in candidates if target[one] == current[here]), candidates[-1])
        current[here], current[there] = current[there], current[here]
        moves.append((here, there))
    return moves


def shared_prefix(row: Row, other: Row, rope_switch: int | None) -> int:
    """Tokens that `row` may copy from `other`'s cache instead of computing them; its last token is never among them.

    Keys depend on the rotary factors, so rows on different sides of a LongRoPE switch share nothing.
    """
    if row.is_long(rope_switch) != other.is_long(rope_switch):
        return 0
    limit = max(0, min(len(row.tokens) - 1, other.cached))
    shared = next((at for at in range(limit) if row.tokens[at] != other.tokens[at]), limit)
    return shared if shared >= _LEAST_SHARED_TOKENS else 0
