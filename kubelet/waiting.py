"""Waiting for whichever of two things comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """What was waited for is of no use any more."""


async def unless(stop: asyncio.Event, work: Awaitable[T]) -> T:
    """The outcome of `work`; when `stop` is set before, `work` is cancelled and Interrupted raised."""
    task = asyncio.ensure_future(work)
    stopper = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopper}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Interrupted
    finally:
        stopper.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def beside(work: Awaitable[T], event: asyncio.Event, tell: Callable[[], Awaitable[None]]) -> T:
    """The outcome of `work`; `tell` is called whenever `event` is set meanwhile, and what it fails with is raised when `work` is done."""

    async def telling() -> None:
        while True:
            await event.wait()
            event.clear()
            await tell()

    event.clear()
    teller = asyncio.ensure_future(telling())
    try:
        outcome = await work
    finally:
        teller.cancel()
        told = (await asyncio.gather(teller, return_exceptions=True))[0]
    if isinstance(told, Exception):
        raise told
    return outcome
