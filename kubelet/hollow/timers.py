"""Very many timers, one sleeping task: the next moment of each key in a heap.

A key has one timer; setting it again replaces the one before. What was replaced or cancelled stays in the heap until it comes up or makes up more
than half of it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

from kubeling.daemon.clock import Clock
from kubeling.daemon.tasks import run_until

K = TypeVar("K")


class Timers(Generic[K]):
    """Calls `due` with each key whose moment has come; :meth:`run` is the task."""

    def __init__(self, clock: Clock, due: Callable[[K], None]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[float, int, K]] = []
        self._current: dict[K, int] = {}
        self._order = itertools.count()
        self._earlier = asyncio.Event()

    def __len__(self) -> int:
        return len(self._current)

    def set(self, key: K, seconds: float) -> None:
        """Have `key` come up in `seconds`."""
        number = next(self._order)
        self._current[key] = number
        moment = self._clock.monotonic() + max(0.0, seconds)
        first = not self._heap or moment < self._heap[0][0]
        heapq.heappush(self._heap, (moment, number, key))
        if first:
            self._earlier.set()

    def cancel(self, key: K) -> None:
        """Have `key` not come up."""
        self._current.pop(key, None)
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._current):
            self._heap = [each for each in self._heap if self._current.get(each[2]) == each[1]]
            heapq.heapify(self._heap)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._earlier.clear()
            now = self._clock.monotonic()
            while self._heap and self._heap[0][0] <= now:
                _, number, key = heapq.heappop(self._heap)
                if self._current.get(key) == number:
                    del self._current[key]
                    self._due(key)
            if not self._heap:
                await self._earlier.wait()
                continue
            await run_until(self._earlier, self._clock.sleep(self._heap[0][0] - now))
