"""Schedulers at a real apiserver: preemption; two at work bind no pod twice, and a leader that slept through its lease gives no room away that its successor
has given."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kubeling.api.pods import requests_of
from kubeling.api.resources import LEASES, NODES, PODS, PRIORITY_CLASSES
from kubeling.bench.scheduler import workloads as w
from kubeling.bench.scheduler.live import HIGH, priority_class
from kubeling.bench.scheduler.plane import Plane
from kubeling.client.rest import Client

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("scheduler-live")]

Obj = dict[str, Any]
QUICK_LEASE = ("--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=300ms")


@pytest_asyncio.fixture
async def plane(tmp_path: Path) -> AsyncIterator[tuple[Plane, Client]]:
    with Plane(tmp_path / "plane") as made:
        async with made.client() as client:
            await made.namespace(client, "default")
            yield made, client


async def until(check: Callable[[], Any], what: str, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110 (the condition is on the server: nothing here can be waited for)
            await asyncio.sleep(0.1)


def pod(name: str, cpu: str) -> Obj:
    made = w.TEMPLATES["default"]()
    made["metadata"]["name"] = name
    made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu
    return made


async def placed(client: Client) -> dict[str, list[Obj]]:
    """Node -> pods."""
    found: dict[str, list[Obj]] = {}
    for each in (await client.list(PODS, "default"))["items"]:
        if each["spec"].get("nodeName"):
            found.setdefault(each["spec"]["nodeName"], []).append(each)
    return found


async def count(client: Client) -> int:
    return sum(len(each) for each in (await placed(client)).values())


async def holder(client: Client) -> str:
    found = [each for each in (await client.list(LEASES, "kube-system"))["items"] if each["metadata"]["name"] == "kube-scheduler"]
    return str((found[0].get("spec") or {}).get("holderIdentity") or "") if found else ""


async def test_a_leader_that_slept_gives_nothing_away(plane: tuple[Plane, Client]) -> None:
    running, client = plane
    for number in range(4):
        await client.create(NODES, w.node(f"n{number}"))
    schedulers: dict[str, subprocess.Popen[bytes]] = {}
    for name in ("a", "b"):
        schedulers[name] = running.scheduler(f"--leader-elect-identity={name}", *QUICK_LEASE, name=name)
    await until(lambda: holder(client), "somebody leads")
    first = await holder(client)
    second = "b" if first == "a" else "a"
    for number in range(6):
        await client.create(PODS, pod(f"before-{number}", "1"), "default")
    await until(lambda: _is(count(client), 6), "the leader schedules")
    # More pods than there is room for: what one scheduler places the other must not place on top of it.
    schedulers[first].send_signal(signal.SIGSTOP)
    try:
        for number in range(20):
            await client.create(PODS, pod(f"after-{number}", "1"), "default")
        await until(lambda: _is(holder(client), second), "the other takes over")
        await until(lambda: _is(count(client), 16), "the cluster is full")
    finally:
        schedulers[first].send_signal(signal.SIGCONT)
    await client.create(PODS, pod("last", "1"), "default")
    await asyncio.sleep(3)  # The time in which a sleeper that knows nothing would act: nothing may happen.
    found = await placed(client)
    assert {name: sum(requests_of(each)["cpu"] for each in pods) for name, pods in found.items()} == {
        f"n{number}": 4000 for number in range(4)
    }
    assert await holder(client) == second


async def test_two_active_schedulers_bind_each_pod_once(plane: tuple[Plane, Client]) -> None:
    running, client = plane
    for number in range(10):
        await client.create(NODES, w.node(f"n{number}"))
    for name in ("a", "b"):
        running.scheduler("--leader-elect=false", name=name)
    versions: dict[str, set[str]] = {}
    listed = await client.list(PODS, "default")

    async def follow() -> None:
        async for kind, each in client.watch(PODS, "default", resource_version=listed["metadata"]["resourceVersion"]):
            if kind in ("ADDED", "MODIFIED") and each["spec"].get("nodeName"):
                versions.setdefault(each["metadata"]["name"], set()).add(each["spec"]["nodeName"])

    follower = asyncio.ensure_future(follow())
    for number in range(60):
        await client.create(PODS, pod(f"p{number}", "100m"), "default")
    await until(lambda: _is(count(client), 60), "all are placed")
    follower.cancel()
    assert all(len(nodes) == 1 for nodes in versions.values())


async def _is(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def test_preemption_evicts_marks_and_takes_the_room(plane: tuple[Plane, Client]) -> None:
    running, client = plane
    await client.create(PRIORITY_CLASSES, priority_class())
    await client.create(NODES, w.node("n", cpu="2"))
    running.scheduler("--leader-elect=false")
    low = pod("low", "1500m")
    low["spec"]["terminationGracePeriodSeconds"] = 0
    low["metadata"]["finalizers"] = ["test.kubeling.dev/look"]
    await client.create(PODS, low, "default")
    await until(lambda: _is(count(client), 1), "the low one is placed")
    high = pod("high", "1500m")
    high["spec"]["priorityClassName"] = HIGH
    await client.create(PODS, high, "default")

    async def evicted() -> Obj | None:
        found = await client.get(PODS, "low", "default")
        return found if found["metadata"].get("deletionTimestamp") else None

    async def nominated() -> bool:
        found = (await client.get(PODS, "high", "default")).get("status") or {}
        return bool(found.get("nominatedNodeName") == "n")

    await until(evicted, "the victim is deleted")
    victim = await evicted()
    assert victim is not None
    conditions = {each["type"]: each.get("reason") for each in victim["status"]["conditions"]}
    assert conditions["DisruptionTarget"] == "PreemptionByScheduler"
    await until(nominated, "the pod is nominated")
    await client.patch(PODS, "low", {"metadata": {"finalizers": None}}, "default", patch_type="merge")

    async def placed_high() -> bool:
        return [each["metadata"]["name"] for each in (await placed(client)).get("n", [])] == ["high"]

    await until(placed_high, "it has the room")
