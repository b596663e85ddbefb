"""The disks of a cloud: those of the local one, and what the CSI controller of deploy/csi-cloud makes of a cloud that fails, is slow and drifts."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubeling.api.meta import annotations_of, status_of
from kubeling.api.resources import (
    CSI_NODES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
)
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import Conflicting, Exhausted, Missing, ProviderError, Volume
from kubeling.cloud.providers.volumes import LocalVolumes, attached
from kubeling.daemon.clock import SystemClock
from kubeling.daemon.tasks import Supervisor
from kubeling.linux.unixpath import UnixChannel
from kubeling.proto import csi_pb2 as pb
from kubeling.proto import csi_pb2_grpc as pb_grpc

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
sys.path += [str(DEPLOY / "csi-cloud"), str(DEPLOY / "csi-hostpath")]

MODES = pb.VolumeCapability.AccessMode
ZONE = "topology.kubernetes.io/zone"


# -- the local cloud -------------------------------------------------------------------------------------------------------------------


async def test_every_call_may_be_repeated(tmp_path: Path) -> None:
    disks = LocalVolumes(tmp_path)
    made = [await disks.create("a", 4096) for _ in range(2)]
    assert made[0] == made[1] == (await disks.list())[0]
    for _ in range(2):
        await disks.attach(made[0].id, "one")
    found, path = attached(tmp_path, "one", made[0].id)
    assert (found.nodes, path.is_dir()) == (("one",), True)
    for _ in range(2):
        await disks.detach(made[0].id, "one")
    assert [(await disks.expand(made[0].id, size)).size for size in (8192, 4096)] == [8192, 8192]
    for _ in range(2):
        await disks.delete(made[0].id)
    assert await disks.list() == []
    assert [each.name for each in tmp_path.rglob("*") if not each.name.startswith(".")] == ["volumes", "machines"]


async def test_a_disk_is_attached_to_one_machine_and_is_not_deleted_from_under_it(tmp_path: Path) -> None:
    disks = LocalVolumes(tmp_path)
    made = await disks.create("a", 4096, block=True, zone="x")
    answers = await asyncio.gather(*(disks.attach(made.id, each) for each in ("one", "two")), return_exceptions=True)
    assert [isinstance(each, Conflicting) for each in answers].count(True) == 1
    holder = (await disks.find(made.id)).nodes[0]
    other = {"one": "two", "two": "one"}[holder]
    with pytest.raises(Missing):
        attached(tmp_path, other, made.id)
    with pytest.raises(Conflicting):
        await disks.delete(made.id)
    assert attached(tmp_path, holder, made.id)[1].stat().st_size == 4096


@pytest.mark.parametrize("wrong", ["..", "a/b", ".hidden", ""])
async def test_names_lead_nowhere_else(tmp_path: Path, wrong: str) -> None:
    disks = LocalVolumes(tmp_path)
    made = await disks.create("../../a", 1)
    assert made.id.startswith("vol-")
    for call in (disks.find(wrong), disks.attach(made.id, wrong), disks.attach(wrong, "one"), disks.detach(made.id, wrong)):
        with pytest.raises(Missing):
            await call


async def test_a_name_stays_with_what_was_made(tmp_path: Path) -> None:
    disks = LocalVolumes(tmp_path)
    await disks.create("a", 4096, zone="x")
    for more in ({"zone": "y"}, {"zone": "x", "block": True}, {"zone": "x", "size": 8192}):
        with pytest.raises(Conflicting):
            await disks.create("a", **{"size": 4096, **more})  # type: ignore[arg-type]


# -- a cloud that fails ------------------------------------------------------------------------------------------------------------------


class Disks(LocalVolumes):
    """`failures` calls fail first; those in `hung` say that they were `asked` and wait until it `goes_on`; zones in `full` have no room."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.failures = 0
        self.hung: set[str] = set()
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()
        self.full: set[str] = set()
        self.calls: list[str] = []

    async def _call(self, what: str) -> None:
        self.calls.append(what)
        if what in self.hung:
            self.asked.set()
            await self.goes_on.wait()
        if self.failures:
            self.failures -= 1
            raise ProviderError("the cloud is on fire")

    async def create(self, name: str, size: int, *, block: bool = False, zone: str = "", region: str = "") -> Volume:
        await self._call("create")
        if zone in self.full:
            raise Exhausted(f"no room in {zone}")
        return await super().create(name, size, block=block, zone=zone, region=region)

    async def attach(self, volume: str, node: str) -> Mapping[str, str]:
        await self._call("attach")
        return await super().attach(volume, node)

    async def detach(self, volume: str, node: str) -> None:
        await self._call("detach")
        await super().detach(volume, node)


class Rig:
    """The CSI controller over that cloud, served on a socket."""

    def __init__(self, disks: Disks, channel: grpc.aio.Channel, served: Any) -> None:
        self.disks, self.channel, self.served = disks, channel, served
        self.controller: Any = pb_grpc.ControllerStub(channel)

    async def create(self, name: str, *zones: str) -> Any:
        places = [pb.Topology(segments={ZONE: each}) for each in zones]
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=4096),
            volume_capabilities=[capability()],
            accessibility_requirements=pb.TopologyRequirement(requisite=places, preferred=places) if places else None,
        )
        return (await self.controller.CreateVolume(request, timeout=100)).volume

    async def publish(self, volume: Any, node: str) -> None:
        request = pb.ControllerPublishVolumeRequest(volume_id=volume.volume_id, node_id=node, volume_capability=capability())
        await self.controller.ControllerPublishVolume(request, timeout=100)


def capability() -> Any:
    return pb.VolumeCapability(mount=pb.VolumeCapability.MountVolume(), access_mode=MODES(mode=MODES.SINGLE_NODE_WRITER))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    import controller
    import registrar
    import services

    disks = Disks(tmp_path / "cloud")
    served = controller.Controller(disks)
    socket = tmp_path / "csi.sock"
    server = await registrar.listen(socket, services.Answers(), (pb_grpc.add_ControllerServicer_to_server, served))
    async with UnixChannel(socket) as channel:
        yield Rig(disks, channel, served)
    await server.stop(None)


async def code(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return str(failure.value.code().name)


async def test_what_the_cloud_says_is_said_in_the_words_of_csi(rig: Rig) -> None:
    made = await rig.create("a")
    assert not made.accessible_topology
    await rig.publish(made, "one")
    assert await code(rig.publish(made, "two")) == "FAILED_PRECONDITION"
    delete = pb.DeleteVolumeRequest(volume_id=made.volume_id)
    assert await code(rig.controller.DeleteVolume(delete)) == "FAILED_PRECONDITION"
    assert await code(rig.publish(pb.Volume(volume_id="vol-none"), "one")) == "NOT_FOUND"
    rig.disks.failures = 1
    assert await code(rig.publish(made, "one")) == "UNAVAILABLE"
    rig.disks.hung = {"detach"}
    gone = pb.ControllerUnpublishVolumeRequest(volume_id=made.volume_id, node_id="one")
    first = asyncio.ensure_future(rig.controller.ControllerUnpublishVolume(gone))
    await rig.disks.asked.wait()
    assert await code(rig.controller.ControllerUnpublishVolume(gone)) == "ABORTED"
    rig.disks.goes_on.set()
    await first
    rig.disks.goes_on.clear()
    rig.served.patience = Patience(call_seconds=0.05)
    assert await code(rig.controller.ControllerUnpublishVolume(gone)) == "UNAVAILABLE"


async def test_a_volume_is_made_where_there_is_room_and_only_once(rig: Rig) -> None:
    rig.disks.full = {"a"}
    made = await rig.create("v", "a", "b")
    assert dict(made.accessible_topology[0].segments) == {ZONE: "b"}
    # The answer was lost, and meanwhile there is room in the first zone too.
    rig.disks.full = set()
    assert (await rig.create("v", "a", "b")).volume_id == made.volume_id
    assert await code(rig.create("v", "c")) == "ALREADY_EXISTS"
    rig.disks.full = {"a", "b"}
    assert await code(rig.create("w", "a", "b")) == "RESOURCE_EXHAUSTED"


async def test_what_fails_is_tried_again_and_what_drifts_is_put_right(rig: Rig, client: Client, tools: Any) -> None:
    """The sidecars against a live apiserver: the cloud fails at first in everything, and loses an attachment."""
    from attacher import Attacher
    from provisioner import Provisioner
    from sidecar import Context

    unique = uuid.uuid4().hex[:8]
    driver, name, clock = f"{unique}.test", f"claim-{unique}", SystemClock()
    events = EventRecorder(client, driver, clock=clock)
    informers = InformerFactory(client, clock=clock)
    ctx = Context(driver, "", "", client, informers, events, clock, rig.channel, Patience(base=0.05))
    provisioner, attacher = Provisioner(ctx), Attacher(ctx)
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": unique}, "provisioner": driver}
    await client.create(STORAGE_CLASSES, kind)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": unique, "labels": {ZONE: "a"}}}
    await client.create(NODES, node)
    drivers = [{"name": driver, "nodeID": unique, "topologyKeys": [ZONE]}]
    owned = {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": unique}, "spec": {"drivers": drivers}}
    await client.create(CSI_NODES, owned)
    rig.disks.failures = 2
    async with Supervisor(clock) as parts:
        informers.start(parts)
        for part in (provisioner, attacher, events):
            parts.start(type(part).__name__, part.run)
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "annotations": {"volume.kubernetes.io/storage-provisioner": driver}},
            "spec": {
                "storageClassName": unique,
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "4Ki"}},
            },
        }
        made = await client.create(PERSISTENT_VOLUME_CLAIMS, claim, "default")
        volume = f"pvc-{made['metadata']['uid']}"
        found = await tools.until(lambda: client.get(PERSISTENT_VOLUMES, volume), "the volume is made")
        assert rig.disks.calls == ["create"] * 3
        assert found["metadata"]["labels"] == {ZONE: "a"}
        terms = found["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert terms == [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["a"]}]}]
        handle = found["spec"]["csi"]["volumeHandle"]

        rig.disks.failures = 2
        wanted = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {"name": f"csi-{unique}"},
            "spec": {"attacher": driver, "nodeName": "gone", "source": {"persistentVolumeName": volume}},
        }
        await client.create(VOLUME_ATTACHMENTS, wanted)

        async def is_attached() -> Any:
            found = await client.get(VOLUME_ATTACHMENTS, f"csi-{unique}")
            return found if status_of(found).get("attached") else None

        shown = await tools.until(is_attached, "the volume is attached")
        assert annotations_of(shown)["csi.alpha.kubernetes.io/node-id"] == "gone"
        assert "attachError" not in status_of(shown)

        await LocalVolumes.detach(rig.disks, handle, "gone")

        async def holders() -> Sequence[str]:
            await attacher.compare()
            return (await rig.disks.find(handle)).nodes

        assert await tools.until(holders, "it is attached again") == ("gone",)

        rig.disks.failures = 2
        await client.delete(VOLUME_ATTACHMENTS, f"csi-{unique}")
        released = {"status": {"phase": "Released"}}
        await client.patch(PERSISTENT_VOLUMES, volume, released, subresource="status")

        async def nothing() -> bool:
            return not await rig.disks.list()

        await tools.until(nothing, "the volume is gone at the cloud")
        assert rig.disks.calls.count("detach") == 3
    await client.delete(PERSISTENT_VOLUME_CLAIMS, name, "default")
    for each in (STORAGE_CLASSES, CSI_NODES, NODES):
        await client.delete(each, unique)
