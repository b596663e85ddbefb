"""Linearizable reads that wait: all that come in one turn of the loop ask the consensus together."""

from __future__ import annotations

import asyncio

from kubeling.etcdlite.consensus.core import Core
from kubeling.etcdlite.consensus.errors import TooMany
from kubeling.etcdlite.consensus.types import ReadReady
from kubeling.etcdlite.errors import TIMEOUT, TOO_MANY_REQUESTS, EtcdError
from kubeling.etcdlite.proposer import REQUEST_SECONDS

_MAX_READERS = 10_000

Waiting = list[asyncio.Future[None]]


class Barriers:
    """Asks `core`, and lets readers through when what it answered is applied, or after too long a time with an error."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._loop = asyncio.get_running_loop()
        self._new: Waiting = []
        #: By round: since when it waits, and who.
        self._rounds: dict[int, tuple[float, Waiting]] = {}
        self._number = 0
        #: Answered, and not applied as far as that: (index, round).
        self._ready: list[tuple[int, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.failed = 0

    def add(self) -> asyncio.Future[None]:
        """A reader comes. Raises TOO_MANY_REQUESTS."""
        if len(self._new) >= _MAX_READERS:
            raise TOO_MANY_REQUESTS
        future: asyncio.Future[None] = self._loop.create_future()
        self._new.append(future)
        return future

    def begin(self) -> None:
        """Ask for all who have come since the last time."""
        if not self._new:
            return
        readers, self._new = self._new, []
        self._number += 1
        try:
            self._core.read(self._number)
        except TooMany:
            _settle(readers, TOO_MANY_REQUESTS)
            return
        self._rounds[self._number] = (self._loop.time(), readers)
        if self._timer is None:
            self._timer = self._loop.call_later(REQUEST_SECONDS, self._give_up)

    def answered(self, reads: list[ReadReady], applied: int) -> None:
        """What the core says is good now, and up to where everything is applied."""
        if not reads and not self._ready:
            return
        waiting = []
        for index, number in [*self._ready, *((ready.index, ready.id) for ready in reads)]:
            if index <= applied:
                _settle(self._rounds.pop(number, (0.0, []))[1], None)
            else:
                waiting.append((index, number))
        self._ready = waiting

    def fail_all(self, error: EtcdError) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
        _settle(self._new, error)
        for _, readers in self._rounds.values():
            _settle(readers, error)
        self._rounds.clear()

    def _give_up(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._rounds:
            number, (began, readers) = next(iter(self._rounds.items()))
            left = began + REQUEST_SECONDS - now
            if left > 0:
                self._timer = self._loop.call_later(max(0.05, left), self._give_up)
                return
            del self._rounds[number]
            self._core.forget_read(number)
            self.failed += 1
            _settle(readers, TIMEOUT)


def _settle(readers: Waiting, error: EtcdError | None) -> None:
    for reader in readers:
        if not reader.done():
            if error is None:
                reader.set_result(None)
            else:
                reader.set_exception(error)
