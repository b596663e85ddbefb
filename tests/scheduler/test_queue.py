"""Whose turn it is, under a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

from kubeling.daemon.clock import VirtualClock
from kubeling.scheduler.queue import QueuedPod, SchedulingQueue
from kubeling.scheduler.types import ClusterChange


def pod(name: str, priority: int = 0, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"priority": priority, **spec}}


async def test_higher_priority_first_then_the_older() -> None:
    clock = VirtualClock()
    queue = SchedulingQueue(clock=clock)
    queue.add(pod("first"))
    await clock.advance(1)
    queue.add(pod("second"))
    queue.add(pod("urgent", priority=10))
    assert [(await queue.pop()).pod["metadata"]["name"] for _ in range(3)] == ["urgent", "first", "second"]


async def test_backoff_doubles_from_one_second_to_ten() -> None:
    clock = VirtualClock()
    queue = SchedulingQueue(clock=clock)
    queue.add(pod("p"))
    queued = await queue.pop()
    for delay in (1, 2, 4, 8, 10, 10):
        queue.back_off(queued)
        again = asyncio.ensure_future(queue.pop())
        await clock.advance(queued.tried_at + delay - 0.05 - clock.monotonic())
        assert not again.done()
        await clock.advance(0.1)
        queued = again.result()


def may_cure(change: ClusterChange, queued: QueuedPod) -> bool:
    """Changes of nodes cure NodeAffinity, changes of pods NodeResourcesFit."""
    return {"nodes": "NodeAffinity", "pods": "NodeResourcesFit"}[change.resource] in queued.plugins


async def test_an_unschedulable_pod_waits_for_a_change_or_five_minutes() -> None:
    clock = VirtualClock()
    queue = SchedulingQueue(may_cure=may_cure, clock=clock)
    queue.add(pod("p"))
    queue.park(await queue.pop(), frozenset({"NodeResourcesFit"}))
    again = asyncio.ensure_future(queue.pop())
    await clock.advance(200)
    assert not again.done()
    queue.cluster_changed(ClusterChange("nodes", "add"))
    await clock.advance(1)
    assert not again.done()
    queue.cluster_changed(ClusterChange("pods", "delete"))
    await clock.advance(0.1)
    queue.park(again.result(), frozenset({"NodeResourcesFit"}))
    flushed = asyncio.ensure_future(queue.pop())
    await clock.advance(301)
    assert flushed.done()


async def test_gated_pods_wait_until_their_gates_go() -> None:
    queue = SchedulingQueue(lambda each: bool(each["spec"].get("schedulingGates")), clock=VirtualClock())
    queue.add(pod("p", schedulingGates=[{"name": "g"}]))
    waiting = asyncio.ensure_future(queue.pop())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.update(pod("p"))
    await asyncio.wait_for(waiting, 1)


async def test_a_removed_pod_never_comes() -> None:
    queue = SchedulingQueue(clock=VirtualClock())
    queue.add(pod("p"))
    queue.add(pod("q"))
    queue.remove("default/p")
    assert (await queue.pop()).key == "default/q"


async def test_a_change_while_a_pod_is_being_tried_is_not_missed() -> None:
    clock = VirtualClock()
    queue = SchedulingQueue(may_cure=may_cure, clock=clock)
    queue.add(pod("p"))
    queued = await queue.pop()
    queue.cluster_changed(ClusterChange("nodes", "add"))
    queue.park(queued, frozenset({"NodeAffinity"}))
    again = asyncio.ensure_future(queue.pop())
    await clock.advance(1.1)  # Its back-off is kept all the same.
    assert again.done()
    queue.park(again.result(), frozenset({"NodeAffinity"}))
    assert queue.counts()["unschedulable"] == 1


async def test_no_event_looks_at_gated_pods() -> None:
    looked: list[str] = []

    def note(_change: ClusterChange, queued: QueuedPod) -> bool:
        looked.append(queued.key)
        return True

    queue = SchedulingQueue(lambda _pod: True, note, clock=VirtualClock())
    queue.add(pod("p", schedulingGates=[{"name": "g"}]))
    queue.cluster_changed(ClusterChange("nodes", "add"))
    assert (looked, queue.counts()["gated"]) == ([], 1)
