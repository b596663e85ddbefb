"""What a node keeps on disk, torn in the middle while its daemons were dead: the next start throws away what it cannot read, and makes it anew."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from kubeling.api.pods import container_status, is_ready
from tests.kubelet.conftest import FOREVER, Obj, Pods, shell
from tests.node.leaks import Node

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE = "worker-1"


def identity(pod: Obj) -> tuple[str, int]:
    found = container_status(pod, "c") or {}
    return found["containerID"].rpartition("/")[2], found["restartCount"]


def tear(path: Path) -> None:
    """What a power cut leaves of a file that was not synced: its beginning, and the end of it zeros."""
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)


async def dead(pods: Pods, *daemons: str) -> None:
    """Kill daemons of the node, and keep them from coming back by stopping whoever comes: until :func:`alive`."""
    for daemon in daemons:
        await asyncio.to_thread(pods.cluster.faults.pause, NODE, daemon)


async def alive(pods: Pods, *daemons: str) -> None:
    """A stopped process dies by SIGKILL as well: what it would have written is never written."""
    for daemon in daemons:
        await asyncio.to_thread(pods.cluster.faults.kill, NODE, daemon)


async def test_torn_records_of_the_runtime(pods: Pods) -> None:
    """A container and a sandbox whose records cannot be read are made anew, and their processes do not live on unseen. The others notice nothing."""
    for name in ("whole", "container", "sandbox"):
        await pods.run(name, shell(FOREVER), nodeName=NODE, terminationGracePeriodSeconds=1)
    before = {name: await pods.ready(name) for name in ("whole", "container", "sandbox")}
    node = Node(pods.cluster, NODE)
    old = {name: node.container_processes(pod["metadata"]["uid"]) for name, pod in before.items()}
    assert all(old.values())
    await dead(pods, "crilite")
    tear(node.home / "crilite" / "containers" / identity(before["container"])[0] / "record.json")
    uid = before["sandbox"]["metadata"]["uid"]
    torn = [each for each in (node.home / "crilite" / "sandboxes").glob("*/record.json") if _mentions(each, uid)]
    assert len(torn) == 1
    tear(torn[0])
    await alive(pods, "crilite")
    for name in ("container", "sandbox"):
        await pods.until(name, lambda pod, name=name: is_ready(pod) and identity(pod)[0] != identity(before[name])[0], 60)
    assert identity(await pods.ready("whole")) == identity(before["whole"])
    gone = [*old["container"], *old["sandbox"]]
    deadline = time.monotonic() + 20
    while left := [pid for pid in gone if os.path.exists(f"/proc/{pid}")]:
        assert time.monotonic() < deadline, f"still running: {left}"
        await asyncio.sleep(0.1)
    for name in before:
        await pods.delete(name)
        await pods.gone(name)


def _mentions(record: Path, uid: str) -> bool:
    """Whether a sandbox's record is of the pod `uid`, whose configuration is inside in base64."""
    import base64
    import json

    return uid.encode() in base64.b64decode(json.loads(record.read_text())["config"])


async def test_torn_checkpoints_of_the_kubelet(pods: Pods) -> None:
    """Every file that the kubelet keeps for itself is torn: it starts, and the pods go on."""
    await pods.run("through", shell(FOREVER), nodeName=NODE)
    before = await pods.ready("through")
    home = pods.cluster.root / "nodes" / NODE / "kubelet"
    await dead(pods, "kubelet")
    for path in home.iterdir():
        if path.is_file() and path.stat().st_size:
            tear(path)
    await alive(pods, "kubelet")
    await pods.run("after", shell(FOREVER), nodeName=NODE)
    await pods.ready("after", 40)
    assert identity(await pods.ready("through")) == identity(before)


async def test_runtime_keeper_and_kubelet_at_once(pods: Pods) -> None:
    """All that minds a container is killed in the same moment: it goes on, and is found again."""
    await pods.run("through", shell("i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done"), nodeName=NODE)
    before = await pods.ready("through")
    node = Node(pods.cluster, NODE)
    await dead(pods, "crilite", "kubelet")
    for pid in node.processes("crilite-keeper"):
        os.kill(pid, signal.SIGKILL)
    await alive(pods, "crilite", "kubelet")
    await pods.run("after", shell(FOREVER), nodeName=NODE)
    await pods.ready("after", 40)
    assert identity(await pods.ready("through")) == identity(before)
    lines = (await pods.log("through")).split()
    assert [int(each) for each in lines] == list(range(len(lines))), "lines are missing from the log"
