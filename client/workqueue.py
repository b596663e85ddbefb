"""A queue of things to look at, with the properties that reconcile loops rest on.

* **Fair**: items come out in the order in which they were added.
* **Stingy**: an item that is added many times before it is taken is handled once.
* **Never two workers on one item**: an item that is added while it is being handled waits until :meth:`WorkQueue.done`, then comes once more.
* **Re-queue with back-off**: :meth:`WorkQueue.add_rate_limited` waits longer each time, until :meth:`WorkQueue.forget`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from kubeling.client.queue_metrics import QueueMetrics
from kubeling.daemon.clock import Clock, SystemClock

T = TypeVar("T", bound=Hashable)

#: client-go's defaults: 5 ms, doubled up to 1000 s.
BASE_DELAY = 0.005
MAX_DELAY = 1000.0


class ShutDown(Exception):
    """The queue was shut down and is empty."""


class WorkQueue(Generic[T]):
    """See the module's docstring. All methods but :meth:`get` return at once; use it from one event loop."""

    def __init__(
        self, *, name: str = "", clock: Clock | None = None, base_delay: float = BASE_DELAY, max_delay: float = MAX_DELAY
    ) -> None:
        """One with a `name` has its metrics shown under it."""
        self._clock = clock or SystemClock()
        self._metrics = QueueMetrics(name, self._clock.monotonic) if name else None
        self._base, self._max = base_delay, max_delay
        self._ready: deque[T] = deque()
        self._dirty: set[T] = set()
        self._processing: set[T] = set()
        self._failures: dict[T, int] = {}
        self._later: dict[T, tuple[float, asyncio.Task[None]]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, item: T) -> None:
        """Have `item` handled, once, as soon as a worker is free."""
        if self._closed or item in self._dirty:
            return
        self._dirty.add(item)
        if self._metrics is not None:
            self._metrics.added(item)
        if item not in self._processing:
            self._ready.append(item)
            self._wake_one()

    def add_after(self, item: T, seconds: float) -> None:
        """Have `item` handled in `seconds`; of two such wishes the earlier one counts."""
        if seconds <= 0:
            self.add(item)
            return
        if self._closed:
            return
        moment = self._clock.monotonic() + seconds
        waiting = self._later.get(item)
        if waiting is not None:
            if waiting[0] <= moment:
                return
            waiting[1].cancel()
        self._later[item] = (moment, asyncio.get_running_loop().create_task(self._add_later(item, seconds)))

    def add_rate_limited(self, item: T) -> None:
        """Have `item` handled after a delay that doubles with every call since the last :meth:`forget`."""
        failures = self._failures.get(item, 0)
        self._failures[item] = failures + 1
        if self._metrics is not None:
            self._metrics.retried()
        self.add_after(item, min(self._max, self._base * 2 ** min(failures, 40)))

    def forget(self, item: T) -> None:
        """`item` went well: its back-off begins anew."""
        self._failures.pop(item, None)

    def failures(self, item: T) -> int:
        """How often `item` was re-queued with back-off since it last went well."""
        return self._failures.get(item, 0)

    async def get(self) -> T:
        """The next item; call :meth:`done` with it afterwards. Raises ShutDown when there will be none."""
        while not self._ready:
            if self._closed:
                raise ShutDown
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()  # We took a wake-up that we will not use.
                raise
        item = self._ready.popleft()
        self._dirty.discard(item)
        self._processing.add(item)
        if self._metrics is not None:
            self._metrics.taken(item)
        return item

    def done(self, item: T) -> None:
        """Handling of `item` ended; if it was added meanwhile it is ready again."""
        self._processing.discard(item)
        if self._metrics is not None:
            self._metrics.done(item)
        if item in self._dirty:
            self._ready.append(item)
            self._wake_one()

    def shut_down(self) -> None:
        """Take nothing more; workers get what is ready, then ShutDown."""
        self._closed = True
        for _, task in self._later.values():
            task.cancel()
        self._later.clear()
        while self._waiters:
            self._wake_one()

    async def _add_later(self, item: T, seconds: float) -> None:
        await self._clock.sleep(seconds)
        del self._later[item]
        self.add(item)

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
