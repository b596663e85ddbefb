"""Controllers that are killed between two writes, and controllers of which two are active: the end state is right either way."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from typing import Any

import pytest

from kubeling.api.resources import DEPLOYMENTS, ENDPOINT_SLICES, JOBS, NODES, PODS, REPLICA_SETS, SERVICE_ACCOUNTS, SERVICES
from kubeling.client.rest import Client

pytestmark = pytest.mark.live
Obj = dict[str, Any]

CONTROLLERS = "--controllers=deployment,replicaset,endpoints,endpointslice,serviceaccount,garbagecollector,job,nodeipam"
COMPLETIONS = 12


def workloads() -> list[tuple[Any, Obj]]:
    labels = {"app": "w"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "w:0"}]}}
    deployment = {"replicas": 4, "selector": {"matchLabels": labels}, "template": template}
    job_template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "job"}]}}
    return [
        (DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"}, "spec": deployment}),
        (
            SERVICES,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "w"},
                "spec": {"selector": labels, "ports": [{"port": 80}]},
            },
        ),
        (
            JOBS,
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "j"},
                "spec": {"completions": COMPLETIONS, "parallelism": 3, "template": job_template},
            },
        ),
    ]


class Successes:
    """The uids of all pods that were ever seen to succeed, also of those that were deleted since."""

    def __init__(self, hollow: Any) -> None:
        self.uids: set[str] = set()
        hollow.informer.add_handler(self._see)

    def _see(self, change: Any) -> None:
        if (change.obj.get("status") or {}).get("phase") == "Succeeded":
            self.uids.add(change.obj["metadata"]["uid"])


async def assert_right(
    tools: Any, client: Client, namespace: str, image: str, replicas: int, nodes: list[str], successes: Successes
) -> None:
    async def rolled() -> None:
        found = await client.get(DEPLOYMENTS, "w", namespace)
        status = found["status"]
        assert status.get("observedGeneration") == found["metadata"]["generation"]
        counts = [status.get(each, 0) for each in ("replicas", "updatedReplicas", "availableReplicas")]
        assert counts == [replicas] * 3, counts
        pods = list((await client.list(PODS, namespace, label_selector="app=w"))["items"])
        images = [each["spec"]["containers"][0]["image"] for each in pods]
        assert images == [image] * replicas, Counter(images)
        sets = (await client.list(REPLICA_SETS, namespace))["items"]
        hashes = [each["metadata"]["labels"]["pod-template-hash"] for each in sets]
        assert len(set(hashes)) == len(hashes)
        slices = (await client.list(ENDPOINT_SLICES, namespace))["items"]
        shown = sorted(address for each in slices for endpoint in each["endpoints"] or () for address in endpoint["addresses"])
        assert shown == sorted(each["status"].get("podIP", "") for each in pods), shown

    async def counted() -> None:
        status = (await client.get(JOBS, "j", namespace)).get("status") or {}
        assert any(each["type"] == "Complete" and each["status"] == "True" for each in status.get("conditions") or ()), status
        pods = (await client.list(PODS, namespace, label_selector="job-name=j"))["items"]
        # Pods beyond those needed, made by the second of two leaders, may end when the Job is complete and nobody counts any more.
        assert COMPLETIONS <= status["succeeded"] <= len(successes.uids), "no finished pod was counted twice"
        assert not any(each["metadata"].get("finalizers") for each in pods)

    async def apart() -> None:
        blocks = [(await client.get(NODES, name))["spec"].get("podCIDR") for name in nodes]
        assert None not in blocks
        assert len(set(blocks)) == len(blocks), blocks

    async def all_of_it() -> bool:
        await rolled()
        await counted()
        await apart()
        return True

    await tools.until(all_of_it, "everything is as it should be", 60)
    # And it stays so: nobody goes on making or deleting.
    before = {each["metadata"]["uid"] for each in (await client.list(PODS, namespace))["items"]}
    await asyncio.sleep(1.0)
    assert {each["metadata"]["uid"] for each in (await client.list(PODS, namespace))["items"]} == before


async def drive(client: Client, namespace: str, dice: random.Random, nodes: list[str]) -> tuple[str, int]:
    """Create everything, then change it a few times at random moments. Returns the last image and size."""
    for resource, body in workloads():
        await client.create(resource, body, namespace)
    image, replicas = "w:0", 4
    for step in range(1, 5):
        await asyncio.sleep(dice.uniform(0.3, 1.2))
        name = f"{namespace}-{step}"
        await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        nodes.append(name)
        image, replicas = f"w:{step}", dice.randint(1, 8)
        spec = {"replicas": replicas, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}
        await client.patch(DEPLOYMENTS, "w", {"spec": spec}, namespace)
    return image, replicas


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_at_any_moment(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any, seed: int) -> None:
    dice = random.Random(seed)
    hollow.fate = lambda pod: "Succeeded" if pod["spec"]["containers"][0]["image"] == "job" else "Running"
    successes = Successes(hollow)
    process = manager(CONTROLLERS)
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
    nodes: list[str] = []
    driving = asyncio.create_task(drive(client, namespace, dice, nodes))
    deaths = 0
    try:
        while not driving.done() or deaths < 4:
            await asyncio.sleep(dice.uniform(0.7, 1.6))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            deaths += 1
            process = manager(CONTROLLERS)
        image, replicas = await driving
        await assert_right(tools, client, namespace, image, replicas, nodes, successes)
    finally:
        driving.cancel()
        for name in nodes:
            await client.delete(NODES, name)


async def test_two_are_active(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any) -> None:
    dice = random.Random(7)
    hollow.fate = lambda pod: "Succeeded" if pod["spec"]["containers"][0]["image"] == "job" else "Running"
    successes = Successes(hollow)
    manager(CONTROLLERS)
    manager(CONTROLLERS)
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
    nodes: list[str] = []
    try:
        image, replicas = await drive(client, namespace, dice, nodes)
        await assert_right(tools, client, namespace, image, replicas, nodes, successes)
    finally:
        for name in nodes:
            await client.delete(NODES, name)
