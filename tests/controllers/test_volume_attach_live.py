"""Attaching and detaching against a live apiserver, with the test as the driver's attacher and as the kubelets."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import (
    CSI_DRIVERS,
    EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SERVICE_ACCOUNTS,
    VOLUME_ATTACHMENTS,
)
from kubeling.client.rest import Client
from kubeling.controllers import attach_plan

Obj = dict[str, Any]
MANAGED = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}


class Site:
    """Two nodes, a volume of a driver, a claim that is bound to it: all named after the namespace."""

    def __init__(self, tools: Any, client: Client, namespace: str) -> None:
        self.until, self.client, self.namespace = tools.until, client, namespace
        self.driver = f"{namespace}.example.com"
        self.volume = f"{namespace}-v"

    def node(self, number: int) -> str:
        return f"{self.namespace}-n{number}"

    async def build(self) -> None:
        await self.client.create(CSI_DRIVERS, {"metadata": {"name": self.driver}, "spec": {"attachRequired": True}})
        for number in (1, 2):
            node = {"metadata": {"name": self.node(number), "annotations": MANAGED}}
            await self.client.create(NODES, node)
            await self.in_use(number)
        try:
            await self.client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, self.namespace)
        except ApiError as error:
            if error.code != 409:
                raise
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": self.volume}
        made = await self.client.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "c"}, "spec": wanted}, self.namespace)
        volume = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": self.driver, "volumeHandle": "h"},
            "claimRef": {
                "kind": "PersistentVolumeClaim",
                "namespace": self.namespace,
                "name": "c",
                "uid": made["metadata"]["uid"],
            },
        }
        await self.client.create(PERSISTENT_VOLUMES, {"metadata": {"name": self.volume}, "spec": volume})

    async def pod(self, name: str, number: int) -> None:
        spec = {
            "nodeName": self.node(number),
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
        }
        await self.client.create(PODS, {"metadata": {"name": name}, "spec": spec}, self.namespace)

    async def end(self, name: str) -> None:
        await self.client.delete(PODS, name, self.namespace, grace_period_seconds=0)

    async def in_use(self, number: int, *names: str, ready: str = "True") -> None:
        """What a kubelet writes."""
        conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        status = {"volumesInUse": list(names) or None, "conditions": conditions}
        await self.client.patch(NODES, self.node(number), {"status": status}, subresource="status")

    @property
    def unique(self) -> str:
        return attach_plan.unique_name(self.driver, "h")

    def attachment(self, number: int) -> str:
        return attach_plan.attachment_name("h", self.driver, self.node(number))

    async def is_asked_for(self, number: int) -> bool:
        try:
            await self.client.get(VOLUME_ATTACHMENTS, self.attachment(number))
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    async def attach(self, number: int) -> None:
        """As the attacher, when it was asked to."""
        await self.until(lambda: self.is_asked_for(number), "the volume is to be attached")
        status = {"status": {"attached": True}}
        await self.client.patch(VOLUME_ATTACHMENTS, self.attachment(number), status, subresource="status")

    async def shown(self, number: int) -> list[str]:
        status = (await self.client.get(NODES, self.node(number))).get("status") or {}
        return [each["name"] for each in status.get("volumesAttached") or ()]

    async def is_not_asked_for(self, number: int) -> bool:
        return not await self.is_asked_for(number)


@pytest.fixture
def site(tools: Any, client: Client, namespace: str, manager: Any) -> Site:
    manager("--controllers=attachdetach")
    return Site(tools, client, namespace)


async def test_a_volume_follows_its_pod_and_is_never_on_two_nodes(site: Site) -> None:
    await site.build()
    await site.pod("first", 1)
    await site.attach(1)

    async def told() -> bool:
        return await site.shown(1) == [site.unique]

    await site.until(told, "the kubelet is told")
    await site.in_use(1, site.unique)
    # A second pod elsewhere has to wait, and is told why.
    await site.pod("second", 2)

    async def warned() -> bool:
        found = await site.client.list(EVENTS, site.namespace, field_selector="involvedObject.name=second")
        return any("Multi-Attach error" in each["message"] for each in found["items"])

    await site.until(warned, "the second pod is told")
    assert await site.is_not_asked_for(2)
    await site.end("first")

    async def taken_back() -> bool:
        return await site.shown(1) == []

    await site.until(taken_back, "the kubelet may not mount it any more")
    # It is still mounted there: nothing is detached.
    assert await site.is_asked_for(1)
    await site.in_use(1)
    await site.until(lambda: site.is_not_asked_for(1), "the volume is detached")
    await site.attach(2)

    async def there() -> bool:
        return await site.shown(2) == [site.unique]

    await site.until(there, "the second node has it")


async def test_a_node_that_is_off_is_not_waited_for(site: Site) -> None:
    await site.build()
    await site.pod("p", 1)
    await site.attach(1)
    await site.in_use(1, site.unique, ready="False")
    await site.end("p")

    async def taken_back() -> bool:
        return await site.shown(1) == []

    await site.until(taken_back, "the kubelet may not mount it any more")
    assert await site.is_asked_for(1)
    taint = [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]
    await site.client.patch(NODES, site.node(1), {"spec": {"taints": taint}})
    await site.until(lambda: site.is_not_asked_for(1), "a node that is out of service is not waited for")


def test_what_is_wanted_on_a_node() -> None:
    def pod(name: str, claim: str, phase: str = "Running") -> Obj:
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
        return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"volumes": volumes}, "status": {"phase": phase}}

    claims = {name: {"spec": {"volumeName": f"pv-{name}"}} for name in ("a", "b", "elsewhere")}
    volumes: dict[str, Obj] = {
        "pv-a": {"metadata": {"name": "pv-a"}, "spec": {"csi": {"driver": "d", "volumeHandle": "a"}, "claimRef": {"name": "a"}}},
        "pv-b": {
            "metadata": {"name": "pv-b"},
            "spec": {"csi": {"driver": "without", "volumeHandle": "b"}, "claimRef": {"name": "b"}},
        },
        "pv-elsewhere": {
            "metadata": {"name": "pv-elsewhere"},
            "spec": {"csi": {"driver": "d", "volumeHandle": "e"}, "claimRef": {"name": "x"}},
        },
    }
    pods = [pod("1", "a"), pod("2", "a"), pod("3", "b"), pod("4", "elsewhere"), pod("5", "none")]
    found = attach_plan.wanted_on("n", pods, lambda _ns, name: claims.get(name), volumes.get, lambda driver: driver == "d")
    assert list(found) == [attach_plan.attachment_name("a", "d", "n")]
    assert [each["metadata"]["name"] for each in next(iter(found.values())).pods] == ["1", "2"]
    assert (
        attach_plan.wanted_on("n", [pod("1", "a", "Succeeded")], lambda _ns, name: claims.get(name), volumes.get, lambda _d: True)
        == {}
    )


def test_the_name_of_an_attachment_is_upstreams() -> None:
    # sha256 of handle, driver and node, one after the other.
    assert attach_plan.attachment_name("vol", "d.example", "n1").startswith("csi-")
    assert len(attach_plan.attachment_name("vol", "d.example", "n1")) == 4 + 64
