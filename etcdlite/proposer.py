"""Between the services and the consensus engine: gathers operations into batches, applies what the engine hands back, and answers who waits.

While one batch is on its way to the disk the next one gathers, so a slow disk makes larger batches, not longer queues. The queue is bounded by
number and bytes: beyond that a request is refused at once. A batch that this member proposed carries its number, so its parsed
requests and waiting futures are found again when the entry is applied, here and in the same order as on every other member.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kubeling.etcdlite.consensus.types import Entry
from kubeling.etcdlite.errors import TIMEOUT, TOO_MANY_REQUESTS, EtcdError
from kubeling.etcdlite.mvcc import Record
from kubeling.etcdlite.ops import batch_id, encode_batch
from kubeling.etcdlite.state import Answer, State

MAX_QUEUED = 5000
MAX_QUEUED_BYTES = 64 << 20
MAX_BATCH = 512
MAX_BATCH_BYTES = 4 << 20
REQUEST_SECONDS = 7.0


class Engine(Protocol):
    """The consensus, as the proposer sees it. It calls :meth:`Proposer.applied` for each entry and :meth:`Proposer.failed`."""

    @property
    def window(self) -> int:
        """How many batches may be on their way at once."""

    def propose(self, number: int, data: bytes) -> None:
        """Make `data` durable on a quorum. The outcome comes later, except that an impossible proposal may fail at once.

        Where a leader is lost the engine proposes again, so an entry may come twice: the state machine knows it by session and number.
        """

    def forget(self, number: int) -> None:
        """Nobody waits for this batch any more."""


@dataclass(slots=True)
class Counts:
    """What was done since the start."""

    operations: int = 0
    batches: int = 0
    failed: int = 0
    leases_expired: int = 0


class _Batch:
    __slots__ = ("operations", "started", "waiters")

    def __init__(self, operations: list[tuple[int, Any]], waiters: list[asyncio.Future[Answer]], started: float) -> None:
        self.operations = operations
        self.waiters = waiters
        self.started = started


class Proposer:
    """`publish` is called after each applied entry with the records that it has written; `engine` is to be set before the first request."""

    engine: Engine

    def __init__(self, state: State, session: int, publish: Callable[[list[Record]], None]) -> None:
        self._state = state
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[int, bytes, Any, asyncio.Future[Answer]]] = deque()
        self._queued_bytes = 0
        # A new one for each process: a batch of this member's former life may be applied after a restart.
        self.session = session
        self._number = 0
        self._inflight: dict[int, _Batch] = {}
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self.counts = Counts()

    @property
    def waiting(self) -> int:
        """Operations that are queued or on their way."""
        return len(self._queue) + sum(len(batch.waiters) for batch in self._inflight.values())

    def submit(self, kind: int, raw: bytes, request: Any) -> asyncio.Future[Answer]:
        """Have an operation done; `raw` is `request` encoded. The future's result is the response's bytes or the error to show."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        if len(self._queue) >= MAX_QUEUED or self._queued_bytes > MAX_QUEUED_BYTES:
            future.set_result(TOO_MANY_REQUESTS)
            return future
        self._queue.append((kind, raw, request, future))
        self._queued_bytes += len(raw)
        self._schedule()
        return future

    # From the engine.

    def applied(self, entry: Entry) -> None:
        """Apply a committed entry and answer who waits for it here."""
        session, number = batch_id(entry.data)
        if not self._state.first_time(session, number):
            return
        self._state.term = entry.term
        batch = self._inflight.pop(number, None) if session == self.session else None
        if batch is None:
            self._state.replay(entry.data)
        else:
            answers: list[Answer] = self._state.apply_all(batch.operations)
            for waiter, answer in zip(batch.waiters, answers, strict=True):
                if not waiter.done():
                    waiter.set_result(answer)
        self._publish(self._state.take_events())
        self._schedule()

    def failed(self, number: int, error: EtcdError) -> None:
        """A batch will not be done (or nobody knows whether it will): tell who waits."""
        batch = self._inflight.pop(number, None)
        if batch is not None:
            self.engine.forget(number)
            self.counts.failed += len(batch.operations)
            self._answer(batch, error)
            self._schedule()

    def fail_all(self, error: EtcdError) -> None:
        """Tell everybody who waits."""
        for number in list(self._inflight):
            self.failed(number, error)

    def _answer(self, batch: _Batch, error: EtcdError) -> None:
        for waiter in batch.waiters:
            if not waiter.done():
                waiter.set_result(error)

    # Making batches.

    def _schedule(self) -> None:
        # At the end of this turn of the loop, so that requests that came in together travel together.
        if not self._scheduled and self._queue:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        while self._queue and len(self._inflight) < self.engine.window:
            self._number += 1
            raws, operations, waiters = self._gather()
            self.counts.batches += 1
            self.counts.operations += len(operations)
            self._inflight[self._number] = _Batch(operations, waiters, self._loop.time())
            if self._timer is None:
                self._timer = self._loop.call_later(REQUEST_SECONDS, self._expire)
            self.engine.propose(self._number, encode_batch(self.session, self._number, raws))

    def _gather(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, Any]], list[asyncio.Future[Answer]]]:
        raws: list[tuple[int, bytes]] = []
        operations: list[tuple[int, Any]] = []
        waiters: list[asyncio.Future[Answer]] = []
        size = 0
        while self._queue and len(raws) < MAX_BATCH and size < MAX_BATCH_BYTES:
            kind, raw, request, future = self._queue.popleft()
            self._queued_bytes -= len(raw)
            if future.cancelled():
                continue
            size += len(raw)
            raws.append((kind, raw))
            operations.append((kind, request))
            waiters.append(future)
        return raws, operations, waiters

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for number, batch in list(self._inflight.items()):
            if now - batch.started >= REQUEST_SECONDS:
                self.failed(number, TIMEOUT)
        if self._inflight:
            oldest = min(batch.started for batch in self._inflight.values())
            self._timer = self._loop.call_later(max(0.05, oldest + REQUEST_SECONDS - now), self._expire)
