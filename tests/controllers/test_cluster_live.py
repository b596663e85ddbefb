"""Garbage collection, namespaces, nodes and endpoints against a real apiserver."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from kubeling.api.times import format_micro_time, format_time
from kubeling.client.rest import Client

pytestmark = pytest.mark.live
Obj = dict[str, Any]


def config_map(name: str, *owners: Obj, blocking: bool = False) -> Obj:
    references = [
        {
            "apiVersion": "v1",
            "kind": each["kind"],
            "name": each["metadata"]["name"],
            "uid": each["metadata"]["uid"],
            **({"blockOwnerDeletion": True} if blocking else {}),
        }
        for each in owners
    ]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": references}}


async def gone(client: Client, resource: Resource, name: str, namespace: str | None) -> bool:
    try:
        await client.get(resource, name, namespace)
    except ApiError as error:
        return error.code == 404
    return False


async def test_garbage_collection(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    manager("--controllers=garbagecollector,resourcequota")
    hard = {"count/configmaps": "50", "services.loadbalancers": "2", "requests.memory": "1Gi"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}
    await client.create(RESOURCE_QUOTAS, quota, namespace)

    async def make(name: str, *owners: Obj, blocking: bool = False) -> Obj:
        return await client.create(CONFIG_MAPS, config_map(name, *owners, blocking=blocking), namespace)

    async def is_gone(name: str) -> bool:
        return await gone(client, CONFIG_MAPS, name, namespace)

    # Background: a chain goes from its root, what has another living owner stays and loses the dangling reference.
    root, other = await make("root"), await make("other")
    child = await make("child", root)
    await make("grandchild", child)
    await make("shared", root, other)
    never = await make("never", {"kind": "ConfigMap", "metadata": {"name": "nobody", "uid": str(uuid.uuid4())}})
    assert never
    await client.delete(CONFIG_MAPS, "root", namespace, propagation_policy="Background")
    for name in ("child", "grandchild", "never"):
        await tools.until(lambda name=name: is_gone(name), f"{name} goes with its owner")

    async def one_owner_left() -> bool:
        shared = await client.get(CONFIG_MAPS, "shared", namespace)
        return [each["name"] for each in shared["metadata"]["ownerReferences"]] == ["other"]

    await tools.until(one_owner_left, "the dangling reference goes, the object stays")

    # An owner in another namespace does not count: the dependent is collected; the namesake owner at home does not help.
    foreign = await client.create(CONFIG_MAPS, config_map("foreign"), "default")
    try:
        await make("stray", foreign)
        await tools.until(lambda: is_gone("stray"), "an owner of another namespace is none")
    finally:
        await client.delete(CONFIG_MAPS, "foreign", "default")

    # Foreground: the owner waits for the blocking dependent, which is held by a finalizer.
    front = await make("front")
    held = config_map("held", front, blocking=True)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(CONFIG_MAPS, held, namespace)
    await client.delete(CONFIG_MAPS, "front", namespace, propagation_policy="Foreground")

    async def dying() -> bool:
        return bool((await client.get(CONFIG_MAPS, "held", namespace))["metadata"].get("deletionTimestamp"))

    await tools.until(dying, "the dependent is deleted first")
    assert not await is_gone("front")
    await client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, namespace)
    await tools.until(lambda: is_gone("front"), "then the owner goes")

    async def counted() -> bool:
        there = len((await client.list(CONFIG_MAPS, namespace))["items"])
        status = (await client.get(RESOURCE_QUOTAS, "q", namespace))["status"]
        return status.get("used") == {"count/configmaps": str(there), "services.loadbalancers": "0", "requests.memory": "0"}

    await tools.until(counted, "the quota counts what is left")

    # Orphan: the dependents stay, without the reference.
    parent = await make("parent")
    await make("orphan", parent)
    await client.delete(CONFIG_MAPS, "parent", namespace, propagation_policy="Orphan")
    await tools.until(lambda: is_gone("parent"), "the owner goes")
    assert not (await client.get(CONFIG_MAPS, "orphan", namespace))["metadata"].get("ownerReferences")

    # A ring that is deleted in the foreground does not wait for itself.
    one = await make("one")
    two = await make("two", one, blocking=True)
    await client.patch(CONFIG_MAPS, "one", config_map("one", two, blocking=True), namespace)
    await client.delete(CONFIG_MAPS, "one", namespace, propagation_policy="Foreground")
    await tools.until(lambda: is_gone("one"), "the ring is broken")
    await tools.until(lambda: is_gone("two"), "and all of it goes")


async def test_namespace_has_its_furniture_and_goes_whole(tools: Any, client: Client, plane: Any, manager: Any) -> None:
    manager("--controllers=namespace,serviceaccount,root-ca-certificate-publisher,kubernetes-service")
    name = f"t-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", name), "a default account")
    found = await tools.until(lambda: client.get(CONFIG_MAPS, "kube-root-ca.crt", name), "the root CA")
    assert found["data"]["ca.crt"] == plane.ca
    await client.delete(CONFIG_MAPS, "kube-root-ca.crt", name)
    await tools.until(lambda: client.get(CONFIG_MAPS, "kube-root-ca.crt", name), "the root CA again")
    service = await tools.until(lambda: client.get(SERVICES, "kubernetes", "default"), "the kubernetes Service")
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    endpoints = await tools.until(lambda: client.get(ENDPOINT_SLICES, "kubernetes", "default"), "its slice")
    assert [each["addresses"] for each in endpoints["endpoints"]] == [["127.0.0.1"]]
    assert [each["port"] for each in endpoints["ports"]] == [int(plane.url.rpartition(":")[2])], (
        "as the apiserver's own Lease says"
    )

    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(CONFIG_MAPS, held, name)
    await client.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}, name)
    await client.delete(NAMESPACES, name)

    async def says_why() -> bool:
        conditions = {each["type"]: each for each in (await client.get(NAMESPACES, name))["status"].get("conditions", [])}
        left = conditions.get("NamespaceFinalizersRemaining", {})
        return left.get("status") == "True" and "example.com/hold in 1 resource instances" in left["message"]

    await tools.until(says_why, "the conditions name the finalizer")
    assert await gone(client, SECRETS, "s", name)
    await client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, name)
    await tools.until(lambda: gone(client, NAMESPACES, name, None), "the namespace is gone")


async def beat(client: Client, name: str) -> None:
    """Renew a node's lease once."""
    body = {"spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": format_micro_time(datetime.now(UTC))}}
    try:
        await client.patch(LEASES, name, body, "kube-node-lease")
    except ApiError as error:
        if error.code != 404:
            raise
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, **body}
        await client.create(LEASES, lease, "kube-node-lease")


async def test_a_silent_node_loses_its_pods(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    manager(
        "--node-monitor-grace-period=2s", "--controllers=nodelifecycle,tainteviction,nodeipam,podgc,endpointslice,serviceaccount"
    )
    names = [f"{namespace}-{each}" for each in "abc"]
    now = format_time(datetime.now(UTC))
    for name in names:
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await client.create(NODES, node)
        await client.patch(NODES, name, {"status": {"conditions": [ready]}}, subresource="status")
    quiet = names[0]
    alive = set(names)
    stop = asyncio.Event()

    async def heart() -> None:
        while not stop.is_set():
            for name in sorted(alive):
                await beat(client, name)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(heart())
    try:
        blocks = set()
        for name in names:

            async def block(name: str = name) -> str:
                return str((await client.get(NODES, name))["spec"].get("podCIDR") or "")

            blocks.add(await tools.until(block, "a block of addresses"))
        assert len(blocks) == 3

        async def untainted() -> bool:
            return not any([(await client.get(NODES, name))["spec"].get("taints") for name in names])

        await tools.until(untainted, "ready nodes have no taints")
        tolerations = [
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        ]
        for number, name in enumerate(names[:2]):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"p{number}", "labels": {"app": "p"}},
                "spec": {
                    "nodeName": name,
                    "tolerations": tolerations,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "c", "image": "x"}],
                },
            }
            await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
            await tools.mark(client, await client.create(PODS, pod, namespace), "Running", f"10.244.9.{number + 1}")
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"selector": {"app": "p"}, "ports": [{"port": 80}]},
        }
        await client.create(SERVICES, service, namespace)

        async def ready_addresses() -> list[str]:
            slices = (await client.list(ENDPOINT_SLICES, namespace))["items"]
            return sorted(e["addresses"][0] for each in slices for e in each.get("endpoints") or () if e["conditions"]["ready"])

        async def both() -> bool:
            return await ready_addresses() == ["10.244.9.1", "10.244.9.2"]

        await tools.until(both, "both pods serve")
        alive.discard(quiet)

        async def only_one() -> bool:
            return await ready_addresses() == ["10.244.9.2"]

        await tools.until(only_one, "the silent node's pod is out of the Service")
        node = await client.get(NODES, quiet)
        assert next(each for each in node["status"]["conditions"] if each["type"] == "Ready")["status"] == "Unknown"

        async def dying() -> bool:
            pod = await client.get(PODS, "p0", namespace)
            marked = [each for each in pod["status"]["conditions"] if each["type"] == "DisruptionTarget"]
            return bool(pod["metadata"].get("deletionTimestamp") and marked)

        await tools.until(dying, "its pod is evicted")
        assert not (await client.get(PODS, "p1", namespace))["metadata"].get("deletionTimestamp")
        taints = {(each["key"], each["effect"]) for each in (await client.get(NODES, quiet))["spec"]["taints"]}
        assert taints == {("node.kubernetes.io/unreachable", "NoSchedule"), ("node.kubernetes.io/unreachable", "NoExecute")}

        # It is taken out of service: its pod goes for good. Then it comes back.
        out = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        taints_now = (await client.get(NODES, quiet))["spec"]["taints"]
        await client.patch(NODES, quiet, {"spec": {"taints": [*taints_now, out]}})
        await tools.until(lambda: gone(client, PODS, "p0", namespace), "the pod is collected")
        alive.add(quiet)
        now = format_time(datetime.now(UTC))
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}
        await client.patch(NODES, quiet, {"status": {"conditions": [ready]}}, subresource="status")

        async def clean() -> bool:
            return (await client.get(NODES, quiet))["spec"].get("taints") == [out]

        await tools.until(clean, "our taints go when it is back")
    finally:
        stop.set()
        await task
        for name in names:
            await client.delete(NODES, name)
            await client.delete(LEASES, name, "kube-node-lease")


async def test_endpoints_follow_pods(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any) -> None:
    manager("--controllers=endpoints,endpointslice,serviceaccount")
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"selector": {"app": "s"}, "ports": ports},
    }
    await client.create(SERVICES, service, namespace)

    async def pod(name: str, port: int) -> None:
        container = {"name": "c", "image": "x", "ports": [{"name": "web", "containerPort": port}]}
        body = {"metadata": {"name": name, "labels": {"app": "s"}}, "spec": {"containers": [container]}}
        await client.create(PODS, {"apiVersion": "v1", "kind": "Pod", **body}, namespace)

    async def shown() -> dict[int, int]:
        slices = (await client.list(ENDPOINT_SLICES, namespace))["items"]
        return {
            port["port"]: sum(bool(endpoint["conditions"].get("ready")) for endpoint in each["endpoints"])
            for each in slices
            for port in each.get("ports") or ()
        }

    for number in range(4):
        await pod(f"p{number}", 8080 if number < 3 else 9090)

    async def both_ports() -> bool:
        return await shown() == {8080: 3, 9090: 1}

    await tools.until(both_ports, "a slice for each target port")

    async def subsets() -> bool:
        found = await client.get(ENDPOINTS, "s", namespace)
        return sorted((each["ports"][0]["port"], len(each["addresses"])) for each in found.get("subsets") or ()) == [
            (8080, 3),
            (9090, 1),
        ]

    await tools.until(subsets, "Endpoints say the same")
    before = {
        each["metadata"]["name"]: each["metadata"]["resourceVersion"]
        for each in (await client.list(ENDPOINT_SLICES, namespace))["items"]
    }
    await client.patch(PODS, "p0", {"metadata": {"annotations": {"note": "no business of a Service"}}}, namespace)
    await client.delete(PODS, "p3", namespace)

    async def one_port() -> bool:
        return await shown() == {8080: 3}

    await tools.until(one_port, "the slice of the other port goes")
    after = {
        each["metadata"]["name"]: each["metadata"]["resourceVersion"]
        for each in (await client.list(ENDPOINT_SLICES, namespace))["items"]
    }
    assert after.items() <= before.items(), "the slice that nothing happened to was not written"
    await client.patch(SERVICES, "s", {"spec": {"selector": None}}, namespace)

    async def none() -> bool:
        return await shown() == {}

    await tools.until(none, "without a selector there are no slices of ours")
