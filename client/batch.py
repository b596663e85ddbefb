"""Many writes at once, within limits.

:func:`slow_start` is for creations that may all be refused for the same reason (a quota, an admission rule): it tries one, then two, then four, and
stops at the first batch in which one failed, so that a hopeless thousand costs one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

PARALLEL = 32


async def parallel(items: Iterable[T], work: Callable[[T], Awaitable[object]], *, limit: int = PARALLEL) -> None:
    """Do `work` on each item, at most `limit` at a time, all of them even if some fail; then the first failure is raised."""
    waiting = list(items)
    waiting.reverse()
    errors: list[Exception] = []

    async def worker() -> None:
        while waiting:
            item = waiting.pop()
            try:
                await work(item)
            except Exception as error:
                errors.append(error)

    if len(waiting) == 1:
        await work(waiting[0])
        return
    async with asyncio.TaskGroup() as group:
        for _ in range(min(limit, len(waiting))):
            group.create_task(worker())
    if errors:
        raise errors[0]


async def slow_start(
    items: Sequence[T], work: Callable[[T], Awaitable[object]], *, limit: int = PARALLEL
) -> tuple[int, Exception | None]:
    """Do `work` on the items in batches of 1, 2, 4 … up to `limit`. Returns how many were tried, and the first failure."""
    tried, size = 0, 1
    while tried < len(items):
        batch = items[tried : tried + size]
        tried += len(batch)
        try:
            await parallel(batch, work, limit=limit)
        except Exception as error:
            return tried, error
        size = min(size * 2, limit)
    return tried, None
