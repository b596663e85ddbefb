"""Pods that are resized while they run."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.pods import container_status, is_ready
from kubeling.api.quantity import milli
from kubeling.api.resources import NODES, PODS

from .conftest import FOREVER, Pods, restarts, shell

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE = "worker-1"


def cgroup_limits(pods: Pods, uid: str) -> dict[str, str]:
    """The cpu quota and the memory limit that the kernel enforces on the container, on either version of cgroups."""
    names = {"cpu.cfs_quota_us": "cpu", "cpu.max": "cpu", "memory.limit_in_bytes": "memory", "memory.max": "memory"}
    found = {}
    for pod in pods.cgroups():
        if uid in pod.name:
            for path in pod.glob("*/*"):
                if path.name in names:
                    found[names[path.name]] = path.read_text().split()[0]
    return found


async def resize(pods: Pods, name: str, **amounts: str) -> None:
    patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": amounts, "limits": amounts}}]}}
    await pods.client.patch(PODS, name, patch, pods.namespace, patch_type="strategic", subresource="resize")


def runs_with(**amounts: str) -> Any:
    def holds(pod: dict[str, Any]) -> bool:
        status = container_status(pod, "c") or {}
        shown = (status.get("resources") or {}).get("limits") or {}
        calm = not get_condition(pod, "PodResizeInProgress") and not get_condition(pod, "PodResizePending")
        return is_ready(pod) and calm and all(shown.get(key) == value for key, value in amounts.items())

    return holds


async def test_a_container_gets_more_and_less_while_it_runs(pods: Pods) -> None:
    amounts = {"cpu": "100m", "memory": "64Mi"}
    await pods.run("grows", shell(FOREVER, resources={"requests": amounts, "limits": amounts}), nodeName=NODE)
    before = await pods.ready("grows")
    await resize(pods, "grows", cpu="300m", memory="96Mi")
    after = await pods.until("grows", runs_with(cpu="300m", memory="96Mi"))
    status = container_status(after, "c") or {}
    assert status["containerID"] == (container_status(before, "c") or {})["containerID"]
    assert status["allocatedResources"] == {"cpu": "300m", "memory": "96Mi"}
    assert cgroup_limits(pods, after["metadata"]["uid"]) == {"cpu": "30000", "memory": str(96 * 2**20)}
    # A new kubelet knows what was done.
    pods.cluster.faults.kill(NODE, "kubelet")
    await resize(pods, "grows", cpu="200m", memory="96Mi")
    last = await pods.until("grows", runs_with(cpu="200m"), 40)
    assert (container_status(last, "c") or {})["containerID"] == status["containerID"]
    assert restarts(last) == 0


async def test_a_container_that_must_be_started_anew(pods: Pods) -> None:
    amounts = {"cpu": "100m", "memory": "64Mi"}
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    await pods.run("anew", shell(FOREVER, resources={"requests": amounts, "limits": amounts}, resizePolicy=policy), nodeName=NODE)
    await pods.ready("anew")
    await resize(pods, "anew", cpu="200m", memory="64Mi")
    assert restarts(await pods.until("anew", runs_with(cpu="200m"))) == 0
    await resize(pods, "anew", cpu="200m", memory="32Mi")
    assert restarts(await pods.until("anew", runs_with(memory="32Mi"))) == 1


async def test_a_resize_that_must_wait_or_is_vain(pods: Pods) -> None:
    """`Infeasible` is said and taken back; a deferred one comes when the others have gone."""
    node = await pods.client.get(NODES, NODE)
    whole = milli(node["status"]["allocatable"]["cpu"])
    await pods.run("waits", shell(FOREVER, resources={"requests": {"cpu": "50m"}, "limits": {"cpu": "50m"}}), nodeName=NODE)
    await pods.run("blocks", shell(FOREVER, resources={"requests": {"cpu": f"{whole // 2}m"}}), nodeName=NODE)
    await pods.ready("waits")
    await pods.ready("blocks")

    def pending(reason: str) -> Any:
        return lambda pod: (get_condition(pod, "PodResizePending") or {}).get("reason") == reason

    await resize(pods, "waits", cpu=f"{whole + 100}m")
    vain = await pods.until("waits", pending("Infeasible"))
    assert "Node didn't have enough capacity: cpu" in (get_condition(vain, "PodResizePending") or {})["message"]
    assert (container_status(vain, "c") or {})["allocatedResources"] == {"cpu": "50m"}
    await resize(pods, "waits", cpu=f"{whole // 2 + 100}m")
    await pods.until("waits", pending("Deferred"))
    await pods.delete("blocks")
    await pods.until("waits", runs_with(cpu=f"{whole // 2 + 100}m"), 40)
