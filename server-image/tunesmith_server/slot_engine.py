"""Continuous batching on plain ONNX Runtime: sequences join and leave between steps, each with its own exact tokens.

A sequence holds one cache row (slot). Prompts are computed in chunks, row by row, between decode steps of all others;
a decode step runs over a contiguous range of rows with ragged lengths. The engine has its own thread: ONNX Runtime
releases the interpreter lock while it computes.
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tunesmith_server.engine import EngineStats, FailedEvent, Request, Sequence, Sink
from tunesmith_server.errors import EngineClosedError, QueueFullError
from tunesmith_server.rows import Group, Row, shared_prefix, swaps
from tunesmith_server.sampling import Logits
from tunesmith_server.session import Decoder
from tunesmith_server.slots import SlotCache

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineLimits:
    """`max_queue` sequences may wait for a slot; `prefill_chunk` prompt tokens are computed between decode steps."""

    max_queue: int = 64
    prefill_chunk: int = 128


class SlotEngine:
    """The CPU engine (see `Engine` for the methods).

    Args:
        decoder: The model, bound to `cache`.
        cache: Its size gives the number of sequences that run at once and the longest one.
        end_tokens: Tokens after which a sequence is finished.
        limits: Queue and chunk sizes.
    """

    def __init__(self, decoder: Decoder, cache: SlotCache, end_tokens: frozenset[int], limits: EngineLimits) -> None:
        self._decoder, self._cache, self._end_tokens, self._limits = decoder, cache, end_tokens, limits
        self._switch = decoder.graph.rope_switch
        self._rows: list[Row | None] = [None] * cache.slots
        self._wake = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._cancelled: set[tuple[str, int | None]] = set()
        self._arrivals = self._reused_tokens = self._failures = 0
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="slot-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, sink: Sink) -> None:
        """See `Engine.submit`."""
        with self._wake:
            if self._closed:
                raise EngineClosedError("the engine is closed")
            free = self._rows.count(None) - len(self._waiting)
            if len(request.sequences) > max(free, 0) + self._limits.max_queue - max(-free, 0):
                raise QueueFullError(f"{len(self._waiting)} sequences are waiting already")
            for sequence in request.sequences:
                self._enqueue(request.id, sequence, sink)
            self._wake.notify()

    def cancel(self, request_id: str, index: int | None = None) -> None:
        """See `Engine.cancel`."""
        with self._wake:
            self._cancelled.add((request_id, index))
            self._wake.notify()

    def stats(self) -> EngineStats:
        """See `Engine.stats`."""
        with self._wake:
            rows, waiting = [row for row in self._rows if row is not None], len(self._waiting)
        return EngineStats(
            slots=self._cache.slots,
            running=len(rows),
            waiting=waiting,
            cached_tokens=sum(row.cached for row in rows),
            cache_tokens=self._cache.slots * self._cache.max_context,
            cache_bytes=self._cache.size_bytes,
            reused_tokens=self._reused_tokens,
            failures=self._failures,
            alive=self._thread.is_alive(),
        )

    def close(self) -> None:
        """See `Engine.close`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _enqueue(self, request_id: str, sequence: Sequence, sink: Sink) -> None:
        self._arrivals += 1
        self._waiting.append(Row.start(request_id, sequence, sink, self._arrivals))

    def _loop(self) -> None:
        try:
            while self._admit():
                self._step()
        finally:
            with self._wake:
                self._closed = True
                left = [row for row in (*self._rows, *self._waiting) if row is not None]
                self._rows, self._waiting = [None] * self._cache.slots, deque()
            for row in left:
                row.sink(FailedEvent(row.sequence.index, "the server is shutting down", closed=True))

    def _admit(self) -> bool:
        """Wait for work, drop what was cancelled, fill free slots; False once closed."""
        with self._wake:
            self._drop_cancelled()
            if not self._waiting and not any(self._rows) and not self._closed:
                if self._cache.shrink():
                    self._decoder.rebind()
                self._wake.wait_for(lambda: self._waiting or self._closed)
                self._drop_cancelled()
            while self._waiting and None in self._rows:
                self._rows[self._rows.index(None)] = self._waiting.popleft()
            return not self._closed

    def _drop_cancelled(self) -> None:
        gone, self._cancelled = self._cancelled, set()
        if gone:
            self._rows = [None if row is None or _is_among(row, gone) else row for row in self._rows]
            self._waiting = deque(row for row in self._waiting if not _is_among(row, gone))

    def _step(self) -> None:
        left = self._limits.prefill_chunk
        while left > 0 and (slot := self._oldest_prefilling()) is not None:
            with self._failing([slot]):
                left -= self._prefill(slot, left)
        self._arrange()
        for group in (Group.SHORT, Group.LONG):
            slots = [slot for slot, row in enumerate(self._rows) if row and self._group(row) is group]
            if slots:
                with self._failing(slots):
                    self._decode(slots)

    def _oldest_prefilling(self) -> int | None:
        rows = ((row.arrival, slot) for slot, row in enumerate(self._rows) if row)
        waiting = [(at, slot) for at, slot in rows if self._group(self._row(slot)) is Group.PREFILL]
        return min(waiting)[1] if waiting else None

    def _prefill(self, slot: int, most: int) -> int:
        """Compute at most so many tokens that a row has not cached; after the last one, its next token. The count."""
        row = self._row(slot)
        if row.cached == 0:
            self._share_prefix(slot, row)
        start, end = row.cached, min(row.cached + most, len(row.tokens))
        # Beyond the original context all tokens get the long factors, from the first chunk on, as in transformers; the
        # graph goes by the mask's width.
        width = max(end, self._switch + 1) if self._switch and row.is_long(self._switch) else end
        self._reserve(width)
        logits = self._decoder.run(slot, np.array([row.tokens[start:end]]), np.array([end]), width)
        row.cached = end
        if end == len(row.tokens):
            self._emit(slot, row, logits[0])
        return end - start

    def _decode(self, slots: list[int]) -> None:
        """One token for each of `slots`, which are neighbours."""
        rows = [self._row(slot) for slot in slots]
        lengths = np.array([row.cached + 1 for row in rows])
        width = int(lengths.max())
        self._reserve(width)
        logits = self._decoder.run(slots[0], np.array([[row.tokens[-1]] for row in rows]), lengths, width)
        for slot, row, row_logits in zip(slots, rows, logits, strict=True):
            row.cached += 1
            self._emit(slot, row, row_logits)

    def _emit(self, slot: int, row: Row, logits: Logits) -> None:
        event = row.choose(logits, self._end_tokens, self._cache.max_context)
        if row.cached == self._switch:
            row.cached = (
                0  # the next token crosses into the long factors: compute all again with them, as transformers does
            )
        if event.finish:
            with self._wake:
                self._rows[slot] = None
        row.sink(event)

    def _share_prefix(self, slot: int, row: Row) -> None:
        others = [(at, other) for at, other in enumerate(self._rows) if other is not None and at != slot]
        shared = [(shared_prefix(row, other, self._switch), at) for at, other in others]
        tokens, source = max(shared, default=(0, slot))
        if tokens:
            self._cache.copy(source, slot, tokens)
            row.cached = tokens
            self._reused_tokens += tokens

    def _arrange(self) -> None:
        """Keep the rows of each group together; the last row moves into the hole that a finished one left."""
        for one, other in swaps([Group.FREE if row is None else self._group(row) for row in self._rows]):
            first, second = self._rows[one], self._rows[other]
            here, there = (0 if row is None else row.cached for row in (first, second))
            if here and there:
                self._cache.swap(one, other, max(here, there))
            elif there:
                self._cache.copy(other, one, there)
            elif here:
                self._cache.copy(one, other, here)
            with self._wake:
                self._rows[one], self._rows[other] = second, first

    def _reserve(self, tokens: int) -> None:
        if self._cache.reserve(tokens):
            self._decoder.rebind()

    def _group(self, row: Row) -> Group:
        return row.group(self._switch)

    def _row(self, slot: int) -> Row:
        row = self._rows[slot]
        assert row is not None
        return row

    @contextlib.contextmanager
    def _failing(self, slots: list[int]) -> Iterator[None]:
        """A step that fails ends its own sequences and no others."""
        rows = [self._row(slot) for slot in slots]
        try:
            yield
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no public classes; the server must go on
            _log.exception("step failed", extra={"rows": len(rows)})
            self._failures += 1
            with self._wake:
                self._rows = [None if row in rows else row for row in self._rows]
            for row in rows:
                row.sink(FailedEvent(row.sequence.index, f"the engine failed: {type(error).__name__}"))


def _is_among(row: Row, gone: set[tuple[str, int | None]]) -> bool:
    return (row.request_id, None) in gone or (row.request_id, row.sequence.index) in gone
