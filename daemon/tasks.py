"""Background tasks whose failure is seen.

:class:`Supervisor` is a task group for a daemon's long-running parts. A part that raises is logged and started again after a back-off; a part
that must not be lost (``critical=True``) takes the daemon down instead, so that whoever runs the daemon restarts it whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger

log = get_logger("tasks")

#: A part that ran this long is taken to have recovered: its next failure begins the back-off anew.
HEALTHY_SECONDS = 60.0


class Supervisor:
    """``async with Supervisor() as parts: parts.start("informers", run_informers)``; leaving the block cancels what still runs."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def start(self, name: str, part: Callable[[], Awaitable[None]], *, critical: bool = False) -> asyncio.Task[None]:
        """Run `part` until it returns; see the module's docstring for what happens when it raises."""
        return self.spawn(self._keep(name, part, critical), name)

    def spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        """Run `work` once; if it raises, the whole group fails with it."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]], critical: bool) -> None:
        backoff = Backoff(base=0.2, limit=30)
        while True:
            began = self._clock.monotonic()
            try:
                await part()
                return
            except Exception:
                if critical:
                    log.exception("a critical part failed", part=name)
                    raise
                if self._clock.monotonic() - began > HEALTHY_SECONDS:
                    backoff.reset()
                delay = backoff.next()
                log.exception("a part failed and will be started again", part=name, delay=round(delay, 2))
            await self._clock.sleep(delay)


async def run_until(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> None:
    """Run `work` until it ends or `stop` is set, then cancel it and wait for its end; its failure is raised."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        if not task.done():
            task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
    error = results[0]
    if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
        raise error
