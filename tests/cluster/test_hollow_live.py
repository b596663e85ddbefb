"""Twenty nodes on which nothing runs: they and their pods look and behave like others, as told by annotations and stages, and survive the process that plays them."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.pods import is_ready
from kubeling.api.resources import DEPLOYMENTS, JOBS, LEASES, NODES, PODS, Resource
from kubeling.client.rest import Client
from kubeling.cluster.pytest_plugin import ClusterHandle

pytestmark = pytest.mark.live

SECONDS = 90
NOTE = "hollow.kubeling.dev/"
CONFIG = """
kind: HollowConfiguration
nodes:
- {name: gpu-{number}, count: 2, capacity: {example.org/gpu: 8}, maxPods: 10, taints: [{key: gpu, effect: NoSchedule}]}
- {name: "plain-{number}", zones: [a, b, c]}
lease: {renewIntervalSeconds: 2}
---
kind: Stage
metadata: {name: doomed}
spec:
  resourceRef: {kind: Pod}
  selector:
    matchLabels: {app: doomed}
    matchExpressions: [{key: .status.phase, operator: In, values: [Running]}]
  next: {action: crash, options: {exitCode: 9}}
""".replace("gpu-{number}, count", '"gpu-{number}", count')


async def until(
    client: Client, resource: Resource, fits: Callable[[list[dict[str, Any]]], Any], **where: Any
) -> list[dict[str, Any]]:
    """The objects, once they are so; follows a watch."""
    async with asyncio.timeout(SECONDS):
        while True:
            listed = await client.list(resource, **where)
            if fits(listed["items"]):
                return list(listed["items"])
            async for _ in client.watch(resource, resource_version=listed["metadata"]["resourceVersion"], **where):
                break


def pod(
    name: str, labels: dict[str, str] | None = None, *, policy: str = "Always", init: int = 0, **notes: str
) -> dict[str, Any]:
    spec: dict[str, Any] = {"restartPolicy": policy, "containers": [{"name": "c", "image": "x"}]}
    if init:
        spec["initContainers"] = [{"name": f"i{number}", "image": "x"} for number in range(init)]
    annotations = {f"{NOTE}{key.replace('_', '-')}": value for key, value in notes.items()}
    return {"metadata": {"name": name, "labels": labels or {}, "annotations": annotations}, "spec": spec}


def deployment(replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web"}, "spec": spec}


def phase(name: str, wanted: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda found: any(each["metadata"]["name"] == name and each["status"].get("phase") == wanted for each in found)


def waits(name: str, reason: str) -> Callable[[list[dict[str, Any]]], bool]:
    def check(found: list[dict[str, Any]]) -> bool:
        statuses = next((each["status"].get("containerStatuses", []) for each in found if each["metadata"]["name"] == name), [])
        return any((each["state"].get("waiting") or {}).get("reason") == reason for each in statuses)

    return check


async def test_hollow_nodes(own_cluster: ClusterHandle, tmp_path: Any) -> None:
    config = tmp_path / "hollow.yaml"
    config.write_text(CONFIG.replace("capacity", "size"))
    refused = own_cluster.cli("up", "--hollow-nodes=20", f"--hollow-config={config}", check=False)
    assert "'size' is not known" in refused.stderr
    config.write_text(CONFIG)
    own_cluster.up("--workers=0", "--hollow-nodes=20", f"--hollow-config={config}")
    async with own_cluster.client() as client:
        await the_nodes(client)
        await the_pods(client, own_cluster)
        await a_kill(client, own_cluster)


async def the_nodes(client: Client) -> None:
    nodes = {each["metadata"]["name"]: each for each in (await client.list(NODES))["items"]}
    assert len(nodes) == 20
    assert all((get_condition(each, "Ready") or {})["status"] == "True" for each in nodes.values())
    assert len({each["spec"]["podCIDR"] for each in nodes.values()}) == 20
    assert nodes["plain-4"]["metadata"]["labels"]["topology.kubernetes.io/zone"] == "b"
    assert nodes["gpu-1"]["status"]["allocatable"]["example.org/gpu"] == "8"
    assert nodes["gpu-1"]["status"]["capacity"]["pods"] == "10"
    await until(client, LEASES, lambda found: len(found) == 20, namespace="kube-node-lease")
    for value, status in (("false", "False"), ("true", "True")):
        await client.patch(NODES, "plain-0", {"metadata": {"annotations": {f"{NOTE}ready": value}}})
        await until(
            client,
            NODES,
            lambda found, status=status: (get_condition(found[0], "Ready") or {})["status"] == status,
            field_selector="metadata.name=plain-0",
        )
    # The taint of a node that was not ready goes; until then it takes nobody.
    await until(client, NODES, lambda found: all("gpu" in str(each["spec"].get("taints", "gpu")) for each in found))


async def the_pods(client: Client, cluster: ClusterHandle) -> None:
    await client.create(DEPLOYMENTS, deployment(40), "default")
    job = {"metadata": {"name": "job"}, "spec": {"completions": 3, "template": pod("t", policy="Never")}}
    await client.create(JOBS, job, "default")
    for each in (
        pod("crashes", crash_after="0s", exit_code="137", logs="it was the memory"),
        pod("begins", init=2, init_for="0.2s", ready_after="0.2s"),
        pod("pulls", waiting="ErrImagePull"),
        pod("doomed", {"app": "doomed"}, policy="Never"),
        pod("nonsense", run_for="soon"),
    ):
        await client.create(PODS, each, "default")
    web = await until(client, PODS, lambda found: sum(map(is_ready, found)) == 40, namespace="default", label_selector="app=web")
    blocks = {each["metadata"]["name"]: each["spec"]["podCIDR"] for each in (await client.list(NODES))["items"]}
    for each in web:
        assert ipaddress.ip_address(each["status"]["podIP"]) in ipaddress.ip_network(blocks[each["spec"]["nodeName"]])
        assert each["spec"]["nodeName"].startswith("plain-")
    assert len({each["status"]["podIP"] for each in web}) == 40
    await until(client, JOBS, lambda found: found[0].get("status", {}).get("succeeded") == 3, namespace="default")
    await until(client, PODS, waits("crashes", "CrashLoopBackOff"), namespace="default")
    await until(client, PODS, waits("pulls", "ErrImagePull"), namespace="default")
    await until(client, PODS, phase("doomed", "Failed"), namespace="default")
    await until(
        client, PODS, lambda found: any(is_ready(e) for e in found if e["metadata"]["name"] == "begins"), namespace="default"
    )
    assert cluster.cli("logs", "pod/crashes").stdout == "it was the memory\n"
    assert "nothing runs" in cluster.cli("exec", "begins", "--", "true", check=False).stderr
    assert "soon" in cluster.cli("events").stdout


async def a_kill(client: Client, cluster: ClusterHandle) -> None:
    """Nothing of what was is changed by the next process, and it goes on."""

    def picture(found: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            each["metadata"]["uid"]: each["status"] for each in found if each["metadata"].get("labels", {}).get("app") == "web"
        }

    before = picture((await client.list(PODS, "default"))["items"])
    cluster.faults.kill("control-plane-1", "hollow")
    await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 60}}, "default")
    await client.delete(PODS, "crashes", "default")
    found = await until(client, PODS, lambda pods: sum(map(is_ready, pods)) == 60, namespace="default", label_selector="app=web")
    after = picture(found)
    assert {uid: after[uid] for uid in before} == before
    assert len({each["podIP"] for each in after.values()}) == 60
    await client.delete(DEPLOYMENTS, "web", "default")
    await until(
        client,
        PODS,
        lambda pods: not any(each["metadata"]["name"].startswith(("web", "crashes")) for each in pods),
        namespace="default",
    )
