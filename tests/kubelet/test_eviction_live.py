"""A node that runs short of something, and pods that write more than they may."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.pods import is_ready
from kubeling.api.resources import NODES
from kubeling.cluster.pytest_plugin import ClusterHandle
from tests.crilite import archives

from .conftest import FOREVER, Pods, shell

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]


class OwnNode:
    """A worker that only this test uses."""

    def __init__(self, cluster: ClusterHandle, name: str) -> None:
        self.name = name
        self._cluster = cluster
        self.folder = cluster.root / "nodes" / name

    async def ready(self, pods: Pods) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = [each for each in (await pods.client.list(NODES))["items"] if each["metadata"]["name"] == self.name]
            if found and (get_condition(found[0], "Ready") or {}).get("status") == "True":
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"{self.name} never became ready")

    def configure(self, **fields: Any) -> None:
        """Have the kubelet start again with that configuration."""
        body = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", **fields}
        (self.folder / "kubelet.conf.d" / "50-test.conf").write_text(json.dumps(body))
        self._cluster.faults.kill(self.name, "kubelet")


@pytest.fixture
async def own_node(pods: Pods) -> AsyncIterator[OwnNode]:
    before = set(pods.cluster.nodes)
    pods.cluster.cli("node", "add")
    name = next(iter(set(pods.cluster.nodes) - before))
    made = OwnNode(pods.cluster, name)
    await made.ready(pods)
    yield made
    pods.cluster.cli("node", "remove", name)


async def pressure(pods: Pods, node: str, kind: str) -> str:
    found = get_condition(await pods.client.get(NODES, node), kind)
    return str((found or {}).get("status"))


async def wait_for_pressure(pods: Pods, node: str, kind: str, status: str) -> None:
    deadline = time.monotonic() + 60
    while await pressure(pods, node, kind) != status:
        assert time.monotonic() < deadline, f"{kind} of {node} never became {status}"
        await asyncio.sleep(0.1)


async def test_a_node_that_is_short_of_memory(pods: Pods, own_node: OwnNode) -> None:
    """Who asked for nothing goes first, nobody who asks for nothing comes, and it passes."""
    node, sure = own_node.name, {"limits": {"memory": "2Gi", "cpu": "10m"}}
    await pods.run("sure", shell(FOREVER, resources=sure), nodeName=node)
    await pods.run("loose", shell(FOREVER), nodeName=node)
    await pods.run("vital", shell(FOREVER), nodeName=node, priorityClassName="system-node-critical")
    for name in ("sure", "loose", "vital"):
        await pods.ready(name)
    own_node.configure(evictionHard={"memory.available": "100%"}, evictionPressureTransitionPeriod="1s")
    evicted = await pods.phase("loose", "Failed", 60)
    assert evicted["status"]["reason"] == "Evicted"
    assert evicted["status"]["message"].startswith("The node was low on resource: memory. Threshold quantity: ")
    disruption = get_condition(evicted, "DisruptionTarget")
    assert disruption is not None
    assert (disruption["status"], disruption["reason"]) == ("True", "TerminationByKubelet")
    assert await pods.event("loose", "Evicted") == evicted["status"]["message"]
    await wait_for_pressure(pods, node, "MemoryPressure", "True")
    await pods.run("late", shell(FOREVER), nodeName=node)
    late = await pods.phase("late", "Failed")
    assert late["status"]["reason"] == "Evicted"
    assert "MemoryPressure" in late["status"]["message"]
    # When nobody else is left, those go that use less than they asked for; the critical ones never.
    await pods.phase("sure", "Failed", 60)
    own_node.configure(evictionHard={"memory.available": "1Mi"})
    await wait_for_pressure(pods, node, "MemoryPressure", "False")
    assert is_ready(await pods.get("vital"))


async def test_a_node_that_is_short_of_disk(pods: Pods, own_node: OwnNode, tmp_path: Path) -> None:
    """Images that nobody uses go first; when that does not help, pods do, and nobody is taken."""
    node, used, unused = own_node.name, "test.local/used:1", "test.local/unused:1"
    for name in (used, unused):
        archives.oci(tmp_path / "image.tar", name, [archives.layer((f"{name[11:13]}/file", name.encode()))])
        pods.cluster.cli("image", "load", str(tmp_path / "image.tar"), "--node", node)

    def images() -> str:
        return pods.cluster.cli("image", "ls", "--node", node).stdout

    await pods.run("loose", shell(FOREVER), nodeName=node)
    await pods.run("vital", shell(FOREVER), nodeName=node, priorityClassName="system-node-critical")
    # It never runs, for lack of a program, and uses its image all the same.
    holds = {"name": "c", "image": used, "imagePullPolicy": "Never", "command": ["/nothing"]}
    await pods.run("holds", holds, nodeName=node, priorityClassName="system-node-critical")
    for name in ("loose", "vital"):
        await pods.ready(name)
    await pods.event("holds", "Created", 30)
    assert "test.local/unused" in images()
    own_node.configure(evictionHard={"nodefs.available": "100%"}, imageMinimumGCAge="0s")
    evicted = await pods.phase("loose", "Failed", 60)
    assert evicted["status"]["message"].startswith("The node was low on resource: ephemeral-storage. Threshold quantity: ")
    await wait_for_pressure(pods, node, "DiskPressure", "True")
    assert "test.local/unused" not in images()
    assert "test.local/used" in images()
    await pods.run("late", shell(FOREVER, resources={"requests": {"memory": "1Mi"}}), nodeName=node)
    assert (await pods.phase("late", "Failed"))["status"]["reason"] == "Evicted"
    assert is_ready(await pods.get("vital"))


async def test_what_a_pod_may_write(pods: Pods) -> None:
    """The size limit of an emptyDir on disk, and a limit of ephemeral storage, are enforced; what stays below is left alone."""
    write = "dd if=/dev/zero of=/w/x bs=1M count=8 2>/dev/null; " + FOREVER
    mount = {"volumeMounts": [{"name": "w", "mountPath": "/w"}]}
    await pods.run("volume", shell(write, **mount), volumes=[{"name": "w", "emptyDir": {"sizeLimit": "4Mi"}}])
    await pods.run("below", shell(write, **mount), volumes=[{"name": "w", "emptyDir": {"sizeLimit": "40Mi"}}])
    limited = {"resources": {"limits": {"ephemeral-storage": "2Mi"}}}
    await pods.run("logs", shell("yes some words | head -c 4000000; " + FOREVER, **limited))
    volume = await pods.phase("volume", "Failed", 60)
    assert volume["status"]["reason"] == "Evicted"
    assert volume["status"]["message"] == 'Usage of EmptyDir volume "w" exceeds the limit "4Mi". '
    logs = await pods.phase("logs", "Failed", 60)
    assert logs["status"]["message"] == "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
    assert is_ready(await pods.get("below"))


async def test_the_node_shows_what_pods_may_have(pods: Pods, own_node: OwnNode) -> None:
    own_node.configure(systemReserved={"cpu": "100m", "memory": "64Mi"}, kubeReserved={"memory": "36Mi"})
    shown: dict[str, Any] = {}

    async def look() -> bool:
        shown.update((await pods.client.get(NODES, own_node.name))["status"])
        return bool(shown["allocatable"]["cpu"].endswith("m"))

    for _ in range(600):
        if await look():
            break
        await asyncio.sleep(0.1)
    capacity, allocatable = shown["capacity"], shown["allocatable"]
    assert int(allocatable["cpu"][:-1]) == int(capacity["cpu"]) * 1000 - 100
    # 100 MiB are reserved, and at another 100 MiB pods would be evicted.
    assert int(capacity["memory"][:-2]) - int(allocatable["memory"][:-2]) == 200 * 1024
