"""What a node survives: the kubelet killed, the apiserver away, the runtime restarted, pods deleted behind its back."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.pods import container_status, is_ready
from kubeling.api.resources import LEASES, NODES
from kubeling.client.rest import ConnectionFailed

from .conftest import FOREVER, ON_BOTH_RUNTIMES, Pods, restarts, shell, waiting

pytestmark = [pytest.mark.live, pytest.mark.root, ON_BOTH_RUNTIMES]

NODE = "worker-1"
CONTROL = "control-plane-1"


def identity(pod: dict[str, Any]) -> tuple[str, int, str]:
    """What would change if anything of the pod were made anew."""
    found = container_status(pod, "c") or {}
    return found["containerID"], found["restartCount"], pod["status"]["podIP"]


async def test_a_killed_kubelet_comes_back_to_the_same_containers(pods: Pods) -> None:
    """Nothing that runs is touched, what crashed meanwhile is restarted, and what was deleted meanwhile goes."""
    faults = pods.cluster.faults
    for name in ("stays", "crashes", "goes"):
        await pods.run(name, shell("trap 'exit 0' TERM; while [ ! -e /tmp/die ]; do sleep 0.05; done; exit 1"), nodeName=NODE)
    before = await pods.ready("stays")
    await pods.ready("crashes")
    gone = await pods.ready("goes")
    logs = pods.cluster.root / "nodes" / NODE / "kubelet" / "log" / "pods"
    assert list(logs.glob(f"*_{gone['metadata']['uid']}"))
    faults.pause(NODE, "kubelet")
    await pods.delete("goes", grace=0)
    await pods.gone("goes")
    faults.kill(NODE, "kubelet")
    deadline = time.monotonic() + 20
    while list(logs.glob(f"*_{gone['metadata']['uid']}")):
        assert time.monotonic() < deadline, "the deleted pod is still here"
        await asyncio.sleep(0.05)
    after = await pods.ready("stays")
    assert identity(after) == identity(before)
    await pods.reachable("crashes")
    await pods.exec("crashes", "touch", "/tmp/die")
    await pods.until("crashes", lambda pod: restarts(pod) == 1 and is_ready(pod))
    volumes = pods.cluster.root / "nodes" / NODE / "kubelet" / "pods" / gone["metadata"]["uid"]
    assert not volumes.exists()


async def test_pods_go_on_while_the_apiserver_is_away(pods: Pods) -> None:
    """A container that dies is restarted, probes go on, and all of it is reported afterwards."""
    faults = pods.cluster.faults
    await pods.config("settings", KEY="value")
    script = "trap 'exit 0' TERM; echo run >> /w/runs; while [ ! -e /w/die ]; do sleep 0.05; done; rm /w/die; exit 1"
    killer = "while [ ! -e /w/go ]; do sleep 0.05; done; touch /w/die; " + FOREVER
    work = {"volumeMounts": [{"name": "w", "mountPath": "/w"}]}
    await pods.run(
        "alone",
        shell(script, envFrom=[{"configMapRef": {"name": "settings"}}], **work),
        shell(killer, "killer", **work),
        volumes=[{"name": "w", "emptyDir": {}}],
        nodeName=NODE,
    )
    pod = await pods.ready("alone")
    work_dir = pods.cluster.root / "nodes" / NODE / "kubelet" / "pods" / pod["metadata"]["uid"]
    shared = next(work_dir.glob("volumes/kubernetes.io~empty-dir/w"))
    faults.pause(CONTROL, "apiserver")
    try:
        (shared / "go").touch()
        deadline = time.monotonic() + 15
        while (shared / "runs").read_text().count("run") < 2:
            assert time.monotonic() < deadline, "not restarted while the apiserver was away"
            await asyncio.sleep(0.05)
    finally:
        faults.resume(CONTROL, "apiserver")
    await pods.until("alone", lambda pod: restarts(pod) == 1 and is_ready(pod), 40)


async def test_the_runtime_may_be_restarted(pods: Pods) -> None:
    await pods.run("through", shell(FOREVER), nodeName=NODE)
    before = await pods.ready("through")
    await asyncio.to_thread(pods.kill_runtime, NODE)
    await pods.run("after", shell(FOREVER), nodeName=NODE)
    await pods.ready("after", 30)
    assert identity(await pods.ready("through")) == identity(before)


async def test_a_node_that_lost_its_power_starts_its_pods_anew(pods: Pods) -> None:
    """New sandboxes for those that go on, the end for those that do not, and nothing of those that were deleted."""
    cluster = pods.cluster
    for name, policy in (("goes-on", "Always"), ("ends", "Never"), ("deleted", "Always")):
        await pods.run(name, shell(FOREVER), nodeName=NODE, restartPolicy=policy)
    before = await pods.ready("goes-on")
    await pods.ready("ends")
    deleted = await pods.ready("deleted")
    await asyncio.to_thread(cluster.faults.stop_node, NODE)
    await pods.delete("deleted", grace=0)
    await asyncio.to_thread(pods.start_node, NODE)
    pod = await pods.until("goes-on", lambda pod: restarts(pod) == 1 and is_ready(pod), 40)
    status = container_status(pod, "c") or {}
    assert status["containerID"].startswith(f"{pods.runtime}://")
    assert status["lastState"]["terminated"]["containerID"] == (container_status(before, "c") or {})["containerID"]
    await pods.phase("ends", "Failed")
    folder = cluster.root / "nodes" / NODE / "kubelet" / "pods" / deleted["metadata"]["uid"]
    deadline = time.monotonic() + 20
    while folder.exists():
        assert time.monotonic() < deadline, "the deleted pod's volumes are still there"
        await asyncio.sleep(0.1)


async def test_a_killed_process_is_restarted_in_place(pods: Pods) -> None:
    await pods.run("victim", shell(FOREVER), nodeName=NODE)
    before = await pods.ready("victim")
    await pods.exec("victim", "sh", "-c", "kill -TERM 1")
    pod = await pods.until("victim", lambda pod: restarts(pod) == 1 and is_ready(pod))
    assert pod["status"]["podIP"] == before["status"]["podIP"]


async def test_the_node_registers_again_and_renews_its_lease(pods: Pods) -> None:
    client = pods.client
    node = await client.get(NODES, NODE)
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == NODE
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith(f"{pods.runtime}://")
    assert int(node["status"]["capacity"]["cpu"]) > 0
    lease = await client.get(LEASES, NODE, "kube-node-lease")
    assert lease["spec"]["leaseDurationSeconds"] == 40
    deadline = time.monotonic() + 20
    while (await client.get(LEASES, NODE, "kube-node-lease"))["spec"]["renewTime"] == lease["spec"]["renewTime"]:
        assert time.monotonic() < deadline, "the lease was not renewed"
        await asyncio.sleep(0.2)
    await client.delete(NODES, NODE)
    deadline = time.monotonic() + 20
    while True:
        try:
            fresh = await client.get(NODES, NODE)
            ready = [each for each in (fresh.get("status") or {}).get("conditions") or () if each["type"] == "Ready"]
            if fresh["metadata"]["uid"] != node["metadata"]["uid"] and ready and ready[0]["status"] == "True":
                break
        except (ApiError, ConnectionFailed):
            pass
        assert time.monotonic() < deadline, "not registered again"
        await asyncio.sleep(0.1)


async def test_nothing_is_left_of_a_pod(pods: Pods) -> None:
    """Folders, mounts, cgroups, logs: all go with it."""
    await pods.run(
        "clean",
        shell(FOREVER, volumeMounts=[{"name": "m", "mountPath": "/m"}, {"name": "m", "mountPath": "/s", "subPath": "a/b"}]),
        volumes=[{"name": "m", "emptyDir": {"medium": "Memory"}}],
        nodeName=NODE,
    )
    pod = await pods.ready("clean")
    uid = pod["metadata"]["uid"]
    home = pods.cluster.root / "nodes" / NODE / "kubelet"
    assert (home / "pods" / uid).exists()
    if os.geteuid() == 0:
        assert [each for each in pods.cgroups() if uid in each.name]
    await pods.delete("clean")
    await pods.gone("clean")
    deadline = time.monotonic() + 10
    left: list[Path] = []
    while time.monotonic() < deadline:
        left = [
            *(home / "pods").glob(uid),
            *(home / "log" / "pods").glob(f"*{uid}"),
            *(each for each in pods.cgroups() if uid in each.name),
        ]
        if not left:
            break
        await asyncio.sleep(0.1)
    assert not left


async def test_an_image_problem_that_lasts_does_not_hold_up_the_end(pods: Pods) -> None:
    await pods.run("stuck", {"name": "c", "image": "registry.invalid/none:1"}, nodeName=NODE)
    # A nameserver that does not answer is waited for twenty seconds.
    await pods.until("stuck", waiting("ImagePullBackOff"), 60)
    await pods.delete("stuck")
    assert await pods.gone("stuck") < 5
