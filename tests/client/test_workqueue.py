"""The work queue's promises, by the names that its docstring gives them."""

from __future__ import annotations

import asyncio

import pytest

from kubeling.client.workqueue import ShutDown, WorkQueue
from kubeling.daemon.clock import VirtualClock


async def test_fair() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for item in ("a", "b", "c"):
        queue.add(item)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]


async def test_stingy() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(5):
        queue.add("a")
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_never_two_workers_on_one_item() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    second = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done("a")
    assert await second == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_requeue_with_backoff_until_forgotten() -> None:
    clock = VirtualClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock, base_delay=1, max_delay=4)
    for delay in (1, 2, 4, 4):
        queue.add_rate_limited("a")
        await clock.advance(delay - 0.1)
        assert len(queue) == 0
        await clock.advance(0.2)
        assert await queue.get() == "a"
        queue.done("a")
    queue.forget("a")
    queue.add_rate_limited("a")
    await clock.advance(1.1)
    assert len(queue) == 1


async def test_of_two_wishes_the_earlier_counts() -> None:
    clock = VirtualClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add_after("a", 10)
    queue.add_after("a", 3)
    queue.add_after("a", 20)
    await clock.advance(3.5)
    assert await queue.get() == "a"
    queue.done("a")
    await clock.advance(100)
    assert len(queue) == 0


async def test_a_cancelled_worker_loses_no_wake_up() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.ensure_future(queue.get()), asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"


async def test_shut_down_gives_out_what_is_ready_and_then_ends() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    waiting = asyncio.ensure_future(queue.get())
    await waiting
    idle = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.shut_down()
    with pytest.raises(ShutDown):
        await idle
