"""The driver of deploy/csi-hostpath as a process of its own: what CSI v1 demands of every driver, over its socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubeling.linux.unixpath import UnixChannel
from kubeling.proto import csi_pb2 as pb
from kubeling.proto import csi_pb2_grpc as pb_grpc

HERE = Path(__file__).resolve().parents[2] / "deploy" / "csi-hostpath"
NAME = "hostpath.csi.kubeling.dev"
MODES = pb.VolumeCapability.AccessMode


class Rig:
    def __init__(self, channel: grpc.aio.Channel, data: Path, folder: Path) -> None:
        self.identity: Any = pb_grpc.IdentityStub(channel)
        self.controller: Any = pb_grpc.ControllerStub(channel)
        self.node: Any = pb_grpc.NodeStub(channel)
        self.data, self.folder = data, folder

    async def create(self, name: str, size: int = 1 << 20, **more: Any) -> Any:
        request = pb.CreateVolumeRequest(
            name=name, capacity_range=pb.CapacityRange(required_bytes=size), volume_capabilities=[capability()], **more
        )
        return (await self.controller.CreateVolume(request)).volume

    def content(self, volume: Any) -> Path:
        return self.data / "volumes" / str(volume.volume_id)


def capability(mode: int = MODES.SINGLE_NODE_WRITER) -> Any:
    return pb.VolumeCapability(mount=pb.VolumeCapability.MountVolume(), access_mode=MODES(mode=mode))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    data, kubelet = tmp_path / "data", tmp_path / "k"
    flags = ["--roles=driver", "--node-name=here", f"--data={data}", f"--kubelet-root={kubelet}", "--max-volumes=7"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, str(HERE), *flags], stdout=log, stderr=log)
    socket = kubelet / "plugins" / NAME / "csi.sock"
    socket.parent.mkdir(parents=True, exist_ok=True)
    try:
        async with UnixChannel(socket) as channel:
            made = Rig(channel, data, tmp_path)
            await made.identity.Probe(pb.ProbeRequest(), wait_for_ready=True, timeout=60)
            yield made
    finally:
        process.terminate()
        process.wait(20)


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return str(failure.value.code().name)


async def test_who_it_is(rig: Rig) -> None:
    assert (await rig.identity.GetPluginInfo(pb.GetPluginInfoRequest())).name == NAME
    node = await rig.node.NodeGetInfo(pb.NodeGetInfoRequest())
    assert (node.node_id, node.max_volumes_per_node) == ("here", 7)
    assert dict(node.accessible_topology.segments) == {f"topology.{NAME}/node": "here"}


async def test_creating_and_deleting_may_be_repeated(rig: Rig) -> None:
    first, second = await rig.create("a"), await rig.create("a")
    assert first.volume_id == second.volume_id
    assert first.capacity_bytes == 1 << 20
    assert rig.content(first).is_dir()
    assert await refused(rig.create("a", 9 << 20)) == "ALREADY_EXISTS"
    for _ in range(2):
        await rig.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=first.volume_id))
    assert not rig.content(first).exists()


async def test_what_is_asked_for_wrongly_is_refused(rig: Rig) -> None:
    create = rig.controller.CreateVolume
    several = [capability(MODES.MULTI_NODE_MULTI_WRITER)]
    elsewhere = pb.TopologyRequirement(requisite=[pb.Topology(segments={f"topology.{NAME}/node": "there"})])
    assert await refused(create(pb.CreateVolumeRequest(volume_capabilities=[capability()]))) == "INVALID_ARGUMENT"
    assert await refused(create(pb.CreateVolumeRequest(name="x"))) == "INVALID_ARGUMENT"
    assert await refused(create(pb.CreateVolumeRequest(name="x", volume_capabilities=several))) == "INVALID_ARGUMENT"
    assert await refused(rig.create("x", accessibility_requirements=elsewhere)) == "RESOURCE_EXHAUSTED"
    assert await refused(rig.controller.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id="../../etc"))) == "NOT_FOUND"
    assert await refused(rig.controller.DeleteVolume(pb.DeleteVolumeRequest())) == "INVALID_ARGUMENT"
    publish = pb.NodePublishVolumeRequest(volume_id="none", target_path=str(rig.folder / "t"), volume_capability=capability())
    assert await refused(rig.node.NodePublishVolume(publish)) == "NOT_FOUND"
    source = pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id="none"))
    assert await refused(rig.create("x", volume_content_source=source)) == "NOT_FOUND"


async def test_volumes_are_listed_in_pages(rig: Rig) -> None:
    made = {(await rig.create(f"v{number}")).volume_id for number in range(5)}
    found: list[str] = []
    token = ""
    while True:
        answer = await rig.controller.ListVolumes(pb.ListVolumesRequest(max_entries=2, starting_token=token))
        found += [each.volume.volume_id for each in answer.entries]
        assert len(answer.entries) <= 2
        token = answer.next_token
        if not token:
            break
    assert (len(found), set(found)) == (5, made)
    assert await refused(rig.controller.ListVolumes(pb.ListVolumesRequest(starting_token="none"))) == "ABORTED"


async def test_growth_snapshots_and_copies(rig: Rig) -> None:
    volume = await rig.create("a")
    inside = rig.content(volume)
    inside.joinpath("file").write_text("before")
    inside.joinpath("link").symlink_to("file")
    inside.joinpath("file").chmod(0o640)
    taken = (await rig.controller.CreateSnapshot(pb.CreateSnapshotRequest(name="s", source_volume_id=volume.volume_id))).snapshot
    assert taken.ready_to_use
    inside.joinpath("file").write_text("after")
    again = (await rig.controller.CreateSnapshot(pb.CreateSnapshotRequest(name="s", source_volume_id=volume.volume_id))).snapshot
    assert again == taken
    other = await rig.create("b")
    claimed = pb.CreateSnapshotRequest(name="s", source_volume_id=other.volume_id)
    assert await refused(rig.controller.CreateSnapshot(claimed)) == "ALREADY_EXISTS"
    snapshot = pb.VolumeContentSource.SnapshotSource(snapshot_id=taken.snapshot_id)
    restored = await rig.create("r", volume_content_source=pb.VolumeContentSource(snapshot=snapshot))
    assert rig.content(restored).joinpath("file").read_text() == "before"
    assert os.readlink(rig.content(restored) / "link") == "file"
    assert rig.content(restored).joinpath("file").stat().st_mode & 0o777 == 0o640
    source = pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=volume.volume_id))
    copied = await rig.create("c", volume_content_source=source)
    assert rig.content(copied).joinpath("file").read_text() == "after"
    assert await refused(rig.create("d", 1, volume_content_source=source)) == "OUT_OF_RANGE"
    grow = pb.ControllerExpandVolumeRequest(volume_id=volume.volume_id, capacity_range=pb.CapacityRange(required_bytes=5 << 20))
    grown = await rig.controller.ControllerExpandVolume(grow)
    assert (grown.capacity_bytes, grown.node_expansion_required) == (5 << 20, True)
    listed = await rig.controller.ListSnapshots(pb.ListSnapshotsRequest(source_volume_id=volume.volume_id))
    assert [each.snapshot.snapshot_id for each in listed.entries] == [taken.snapshot_id]
    for _ in range(2):
        await rig.controller.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=taken.snapshot_id))
    assert not (await rig.controller.ListSnapshots(pb.ListSnapshotsRequest(snapshot_id=taken.snapshot_id))).entries


async def test_what_was_broken_off_is_made_anew(rig: Rig) -> None:
    volume = await rig.create("a")
    # As after a crash: there is a folder, and no record of it.
    (rig.data / "volumes" / f"{volume.volume_id}.json").unlink()
    rig.content(volume).joinpath("half").touch()
    assert (
        await refused(rig.controller.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=volume.volume_id)))
        == "NOT_FOUND"
    )
    await rig.create("a")
    assert list(rig.content(volume).iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="bind mounts need root")
async def test_staging_and_publishing_may_be_repeated(rig: Rig) -> None:
    volume = await rig.create("a")
    rig.content(volume).joinpath("file").write_text("here")
    staging, target = rig.folder / "staging", rig.folder / "target"
    staging.mkdir()
    stage = pb.NodeStageVolumeRequest(
        volume_id=volume.volume_id, staging_target_path=str(staging), volume_capability=capability()
    )
    publish = pb.NodePublishVolumeRequest(
        volume_id=volume.volume_id,
        staging_target_path=str(staging),
        target_path=str(target),
        volume_capability=capability(),
        readonly=True,
    )
    try:
        for _ in range(2):
            await rig.node.NodeStageVolume(stage)
            await rig.node.NodePublishVolume(publish)
        assert target.joinpath("file").read_text() == "here"
        with pytest.raises(OSError, match="Read-only"):
            target.joinpath("file").write_text("x")
        stats = await rig.node.NodeGetVolumeStats(
            pb.NodeGetVolumeStatsRequest(volume_id=volume.volume_id, volume_path=str(target))
        )
        assert stats.usage[0].total == 1 << 20
    finally:
        for _ in range(2):
            await rig.node.NodeUnpublishVolume(pb.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(target)))
            await rig.node.NodeUnstageVolume(
                pb.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(staging))
            )
    assert not target.exists()
    assert rig.content(volume).joinpath("file").exists()
