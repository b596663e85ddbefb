"""The seam through which time comes in.

Logic takes a :class:`Clock` instead of calling ``time.time()``, so that a five-minute back-off is tested in a millisecond. :class:`VirtualClock`
moves only when told to and wakes the sleepers whose moment has come, in order.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is written down, monotonic seconds for what is measured."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """Time for tests: it stands still until :meth:`advance`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._start.timestamp() + self._elapsed, UTC)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, stopping at each sleeper's moment to let what it wakes run."""
        until = self._elapsed + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            moment, _, wake = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, moment)
            if not wake.done():
                wake.set_result(None)
            await _settle()
        self._elapsed = until


async def _settle() -> None:
    """Let every task that can run do so, a bounded number of turns of the loop."""
    for _ in range(20):
        await asyncio.sleep(0)
