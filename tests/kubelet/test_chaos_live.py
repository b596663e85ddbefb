"""Kubelet and runtime killed at random points of many pods' lives, from a seed: afterwards the API, the runtime and the disk agree."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest

from kubeling.api.pods import container_status, is_ready
from kubeling.api.resources import PODS
from kubeling.cluster.state import ClusterError

from .conftest import FOREVER, Pods, shell

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.slow, pytest.mark.xdist_group("cluster")]

NODE = "worker-2"
SECONDS = 12.0


async def test_kills_at_random_points_leave_nothing_behind(pods: Pods) -> None:
    seed = 20260101
    source = random.Random(seed)
    wanted: set[str] = set()
    made = kills = 0
    end, next_kill = time.monotonic() + SECONDS, time.monotonic() + 0.5
    while time.monotonic() < end:
        await asyncio.sleep(source.random() * 0.15)
        if source.random() < 0.6 and len(wanted) < 12:
            name = f"p{made}"
            made += 1
            init = [shell("sleep 0.1", "i")] if source.random() < 0.3 else []
            volume = {"volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}]}
            mount = {"volumeMounts": [{"name": "m", "mountPath": "/m"}]}
            await pods.run(
                name, shell(FOREVER, **mount), initContainers=init, nodeName=NODE, **volume, terminationGracePeriodSeconds=1
            )
            wanted.add(name)
        elif wanted:
            name = source.choice(sorted(wanted))
            await pods.delete(name, grace=source.choice([None, 0, 1]))
            wanted.discard(name)
        if time.monotonic() > next_kill:
            next_kill = time.monotonic() + 0.5 + 2 * source.random()
            with contextlib.suppress(ClusterError):  # It has not come back from the last time yet.
                await asyncio.to_thread(pods.cluster.faults.kill, NODE, source.choice(["kubelet", "crilite"]))
                kills += 1
    assert made > 20
    assert kills > 3
    left: object = None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = await disagreement(pods, wanted)
        if left is None:
            break
        await asyncio.sleep(0.3)
    assert left is None, f"seed {seed}: {left}"


async def disagreement(pods: Pods, wanted: set[str]) -> str | None:
    """What is not as it should be, None when all is."""
    listed = (await pods.client.list(PODS, pods.namespace))["items"]
    found = {each["metadata"]["name"]: each for each in listed}
    if set(found) != wanted:
        return f"wanted {sorted(wanted)}, there are {sorted(found)}"
    unready = [name for name, pod in found.items() if not is_ready(pod)]
    if unready:
        return f"not ready: {unready}"
    restarted = [name for name, pod in found.items() if (container_status(pod, "c") or {})["restartCount"]]
    if restarted:
        return f"restarted for no reason: {restarted}"
    uids = {each["metadata"]["uid"] for each in listed}
    home = pods.cluster.root / "nodes" / NODE / "kubelet"
    logs = {each.name.rpartition("_")[2] for each in (home / "log" / "pods").glob(f"{pods.namespace}_*")}
    if logs != uids:
        return f"log folders: {logs ^ uids}"
    everything = await pods.client.list(PODS, field_selector=f"spec.nodeName={NODE}")
    known = {each["metadata"]["uid"] for each in everything["items"]}
    folders = {each.name for each in (home / "pods").iterdir()}
    if not folders <= known:
        return f"folders without a pod: {folders - known}"
    cgroups = {each.name.removeprefix("pod") for each in pods.cgroups() if NODE in each.parts}
    if not cgroups <= known:
        return f"cgroups without a pod: {cgroups - known}"
    return None
