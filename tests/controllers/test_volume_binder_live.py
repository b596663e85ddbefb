"""The binder against a live apiserver, with the test as the scheduler and the provisioner."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from kubeling.client.rest import Client

Obj = dict[str, Any]
CONTROLLERS = "--controllers=persistentvolume-binder,pvc-protection,pv-protection"


class Storage:
    """Claims in a namespace, and volumes and classes whose names begin with it."""

    def __init__(self, tools: Any, client: Client, namespace: str) -> None:
        self.until, self.client, self.namespace = tools.until, client, namespace

    async def storage_class(self, name: str, **more: Any) -> str:
        full = f"{self.namespace}-{name}"
        await self.client.create(STORAGE_CLASSES, {"metadata": {"name": full}, **more})
        return full

    async def volume(self, name: str, size: str = "1Gi", **spec: Any) -> str:
        full = f"{self.namespace}-{name}"
        body = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/none"}, **spec}
        await self.client.create(PERSISTENT_VOLUMES, {"metadata": {"name": full}, "spec": body})
        return full

    async def claim(self, name: str, size: str = "1Gi", **spec: Any) -> None:
        body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
        await self.client.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": name}, "spec": body}, self.namespace)

    async def get_claim(self, name: str) -> Obj:
        return await self.client.get(PERSISTENT_VOLUME_CLAIMS, name, self.namespace)

    async def claim_phase(self, name: str, phase: str) -> Obj:
        async def check() -> Obj | None:
            found = await self.get_claim(name)
            return found if found["status"].get("phase") == phase else None

        found: Obj = await self.until(check, f"claim {name} is {phase}")
        return found

    async def volume_phase(self, name: str, phase: str) -> Obj:
        async def check() -> Obj | None:
            found = await self.client.get(PERSISTENT_VOLUMES, name)
            return found if found["status"].get("phase") == phase else None

        found: Obj = await self.until(check, f"volume {name} is {phase}")
        return found


@pytest.fixture
def storage(tools: Any, client: Client, namespace: str, manager: Any) -> Storage:
    manager(CONTROLLERS)
    return Storage(tools, client, namespace)


async def test_a_claim_and_a_volume_find_each_other_and_part(storage: Storage) -> None:
    name = await storage.storage_class("static", provisioner="kubernetes.io/no-provisioner")
    big = await storage.volume("big", "9Gi", storageClassName=name)
    await storage.volume_phase(big, "Available")
    right = await storage.volume("right", "2Gi", storageClassName=name)
    await storage.volume_phase(right, "Available")
    await storage.claim("c", storageClassName=name)
    bound = await storage.claim_phase("c", "Bound")
    assert bound["spec"]["volumeName"] == right
    assert bound["status"]["capacity"] == {"storage": "2Gi"}
    assert (await storage.volume_phase(right, "Bound"))["spec"]["claimRef"]["name"] == "c"
    await storage.client.delete(PERSISTENT_VOLUME_CLAIMS, "c", storage.namespace)
    released = await storage.volume_phase(right, "Released")
    # Retained: nobody gets it, until the administrator says so.
    await storage.claim("d", "2Gi", storageClassName=name)
    assert (await storage.claim_phase("d", "Bound"))["spec"]["volumeName"] == big
    await storage.claim("e", storageClassName=name)
    await storage.claim_phase("e", "Pending")
    del released["spec"]["claimRef"]
    await storage.client.update(PERSISTENT_VOLUMES, released)
    assert (await storage.claim_phase("e", "Bound"))["spec"]["volumeName"] == right


async def test_set_aside_by_name_on_either_side(storage: Storage) -> None:
    own = f"{storage.namespace}-own"
    await storage.claim("asks", "3Gi", storageClassName=own, volumeName=f"{storage.namespace}-asked-for")
    await storage.claim_phase("asks", "Pending")
    asked = await storage.volume("asked-for", "3Gi", storageClassName=own)
    assert (await storage.claim_phase("asks", "Bound"))["spec"]["volumeName"] == asked
    kept = await storage.volume("kept", "3Gi", storageClassName=own, claimRef={"namespace": storage.namespace, "name": "later"})
    await storage.volume_phase(kept, "Available")
    await storage.claim("other", "3Gi", storageClassName=own)
    await storage.claim("later", "3Gi", storageClassName=own)
    assert (await storage.claim_phase("later", "Bound"))["spec"]["volumeName"] == kept
    assert (await storage.get_claim("other"))["status"]["phase"] == "Pending"


async def test_a_lost_volume_is_not_replaced(storage: Storage) -> None:
    # A class of its own: volumes belong to the whole cluster, and claims of other tests may want them too.
    own = f"{storage.namespace}-own"
    name = await storage.volume("v", storageClassName=own)
    await storage.claim("c", storageClassName=own)
    await storage.claim_phase("c", "Bound")
    await storage.client.delete(PERSISTENT_VOLUMES, name)
    body = {"metadata": {"finalizers": None}}
    try:
        await storage.client.patch(PERSISTENT_VOLUMES, name, body)
    except ApiError as error:
        if error.code != 404:
            raise
    await storage.claim_phase("c", "Lost")


async def test_a_provisioner_is_told_when_the_first_consumer_has_a_node(storage: Storage) -> None:
    late = await storage.storage_class("late", provisioner="x.example/p", volumeBindingMode="WaitForFirstConsumer")
    await storage.claim("c", storageClassName=late)
    await storage.claim_phase("c", "Pending")
    assert "volume.kubernetes.io/storage-provisioner" not in (await storage.get_claim("c"))["metadata"].get("annotations", {})
    node = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}
    await storage.client.patch(PERSISTENT_VOLUME_CLAIMS, "c", node, storage.namespace)

    async def told() -> bool:
        marks = (await storage.get_claim("c"))["metadata"].get("annotations", {})
        return marks.get("volume.kubernetes.io/storage-provisioner") == "x.example/p"

    await storage.until(told, "the claim names its provisioner")
    uid = (await storage.get_claim("c"))["metadata"]["uid"]
    made = await storage.volume(
        "made",
        storageClassName=late,
        persistentVolumeReclaimPolicy="Delete",
        claimRef={"namespace": storage.namespace, "name": "c", "uid": uid, "apiVersion": "v1", "kind": "PersistentVolumeClaim"},
    )
    assert (await storage.claim_phase("c", "Bound"))["spec"]["volumeName"] == made
    await storage.client.delete(PERSISTENT_VOLUME_CLAIMS, "c", storage.namespace)
    # A hostPath that nobody provisioned: nobody can delete it either, and that is said.
    assert "no volume plugin matched" in (await storage.volume_phase(made, "Failed"))["status"]["message"]


async def test_two_binders_give_every_claim_a_volume_of_its_own(storage: Storage, manager: Any) -> None:
    manager(CONTROLLERS)
    name = await storage.storage_class("many", provisioner="kubernetes.io/no-provisioner")
    for number in range(12):
        await storage.claim(f"c{number}", storageClassName=name)
        await storage.volume(f"v{number}", storageClassName=name)
    volumes = {(await storage.claim_phase(f"c{number}", "Bound"))["spec"]["volumeName"] for number in range(12)}
    assert len(volumes) == 12
    for number in range(12):
        held = await storage.volume_phase(f"{storage.namespace}-v{number}", "Bound")
        taker = await storage.get_claim(held["spec"]["claimRef"]["name"])
        assert taker["spec"]["volumeName"] == held["metadata"]["name"]
