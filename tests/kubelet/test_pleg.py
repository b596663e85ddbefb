"""No event is missed between the moment in which the kubelet asks for a stream and the one in which the runtime begins it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from kubeling.daemon.clock import SystemClock
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.pleg import EventGenerator


class SlowRuntime:
    """Begins its streams when it is told to, and breaks them off when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.begin = asyncio.Event()
        self.broken = asyncio.Event()

    async def events(self, listening: Callable[[], None]) -> AsyncIterator[Any]:
        self.asked.set()
        await self.begin.wait()
        listening()
        await self.broken.wait()
        self.begin.clear()
        self.broken.clear()
        raise RuntimeFailure("UNAVAILABLE", "gone")
        yield None


async def test_everything_is_looked_at_when_the_stream_has_begun() -> None:
    runtime, looks = SlowRuntime(), asyncio.Queue[str]()
    pleg = EventGenerator(runtime, SystemClock(), asyncio.Event(), lambda uid: None, lambda: looks.put_nowait("all"))  # type: ignore[arg-type]
    task = asyncio.create_task(pleg.run())
    try:
        async with asyncio.timeout(10):
            await runtime.asked.wait()
            assert looks.empty()
            runtime.begin.set()
            assert await looks.get() == "all"
            # And so it is with every stream after the first: once before we ask, and once when it has begun.
            runtime.asked.clear()
            runtime.broken.set()
            assert await looks.get() == "all"
            await runtime.asked.wait()
            assert looks.empty()
            runtime.begin.set()
            assert await looks.get() == "all"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
