"""The kubelet's CSI volumes against a driver that the test serves on a real socket: order, crashes, refusals; and the watcher of plugins."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubeling.daemon.clock import SystemClock
from kubeling.kubelet.claims import wants_group
from kubeling.kubelet.csi_client import Access, CSIClient, CSIFailure, NodeInfo
from kubeling.kubelet.csi_drivers import CSIDrivers, Driver, entry
from kubeling.kubelet.csi_volumes import DATA, CSIVolume, CSIVolumes, attachment_name, inline_handle
from kubeling.kubelet.plugins import PluginRefused, PluginWatcher
from kubeling.linux.unixpath import ShortPath
from kubeling.proto import csi_pb2 as pb
from kubeling.proto import csi_pb2_grpc as pb_grpc
from kubeling.proto import pluginregistration_pb2 as reg
from kubeling.proto import pluginregistration_pb2_grpc as reg_grpc


class Served(pb_grpc.NodeServicer):
    """Notes what it is asked; `refuse` names a call that fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuse = ""
        self.slow: asyncio.Event | None = None
        self.staged_with: Any = None

    async def _note(self, name: str, context: Any) -> None:
        self.calls.append(name)
        if self.slow is not None:
            await self.slow.wait()
        if name == self.refuse:
            await context.abort(grpc.StatusCode.INTERNAL, f"no {name} today")

    async def NodeGetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.NodeGetInfoResponse(
            node_id="here", max_volumes_per_node=3, accessible_topology=pb.Topology(segments={"z": "a"})
        )

    async def NodeGetCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        rpc = pb.NodeServiceCapability.RPC
        return pb.NodeGetCapabilitiesResponse(capabilities=[pb.NodeServiceCapability(rpc=rpc(type=rpc.STAGE_UNSTAGE_VOLUME))])

    async def NodeStageVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.staged_with = request
        await self._note("stage", context)
        return pb.NodeStageVolumeResponse()

    async def NodeUnstageVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("unstage", context)
        return pb.NodeUnstageVolumeResponse()

    async def NodePublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("publish", context)
        os.makedirs(request.target_path, exist_ok=True)
        return pb.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._note("unpublish", context)
        return pb.NodeUnpublishVolumeResponse()


async def until(check: Callable[[], bool]) -> None:
    for _ in range(3000):
        if check():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came")


class Rig:
    def __init__(self, root: Path, served: Served) -> None:
        self.root, self.served = root, served
        self.drivers = CSIDrivers(None, None, "node", SystemClock())  # type: ignore[arg-type]
        self.volumes = self.restarted()

    def restarted(self) -> CSIVolumes:
        """What a new kubelet knows."""
        return CSIVolumes(self.root, self.root / "pods", self.drivers, "node")

    def staging(self) -> Path:
        return self.volumes.staging("d", "handle")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    path, served = tmp_path / "d.sock", Served()
    server = grpc.aio.server()
    pb_grpc.add_NodeServicer_to_server(served, server)
    with ShortPath(path) as short:
        server.add_insecure_port(f"unix:{short.path}")
        await server.start()
    client = CSIClient(str(path))
    made = Rig(tmp_path, served)
    made.drivers._drivers["d"] = Driver("d", client, await client.info(), await client.abilities())
    yield made
    await client.close()
    await server.stop(None)


def volume(**more: Any) -> CSIVolume:
    return CSIVolume("pv", "d", "handle", Access(fs_type="ext4", modes=("ReadWriteOnce",)), **more)


async def test_staged_once_and_unstaged_with_the_last(rig: Rig) -> None:
    await asyncio.gather(rig.volumes.publish("one", volume()), rig.volumes.publish("two", volume(attachable=True)))
    assert rig.served.calls.count("publish") == 2
    assert rig.volumes.in_use() == [("d", "handle")]
    rig.served.calls.clear()
    await rig.volumes.take_back("one")
    assert rig.served.calls == ["unpublish"]
    await rig.volumes.take_back("two")
    assert rig.served.calls == ["unpublish", "unpublish", "unstage"]
    assert not rig.staging().exists()
    assert rig.volumes.in_use() == []
    assert list(rig.root.glob("pods/*/volumes/kubernetes.io~csi/*")) == []


@pytest.mark.parametrize("broken", ["stage", "publish"])
async def test_what_was_begun_is_taken_back_by_the_next_kubelet(rig: Rig, broken: str) -> None:
    rig.served.refuse = broken
    with pytest.raises(CSIFailure, match=f"no {broken} today"):
        await rig.volumes.publish("one", volume())
    rig.served.refuse = ""
    rig.served.calls.clear()
    await rig.restarted().take_back("one")
    assert rig.served.calls == ["unpublish", "unstage"]
    assert not rig.staging().exists()


@pytest.mark.parametrize("broken", ["unpublish", "unstage"])
async def test_what_cannot_be_taken_back_is_kept_and_tried_again(rig: Rig, broken: str) -> None:
    await rig.volumes.publish("one", volume())
    rig.served.refuse = broken
    with pytest.raises(CSIFailure):
        await rig.volumes.take_back("one")
    rig.served.refuse = ""
    await rig.restarted().take_back("one")
    assert rig.served.calls[-1] == "unstage"
    assert not rig.volumes.folder("one", "pv").exists()


async def test_a_pod_whose_driver_is_away_cannot_go(rig: Rig) -> None:
    await rig.volumes.publish("one", volume())
    driver = rig.drivers._drivers.pop("d")
    with pytest.raises(CSIFailure, match="driver name d not found"):
        await rig.volumes.take_back("one")
    rig.drivers._drivers["d"] = driver
    await rig.volumes.take_back("one")


async def test_a_call_whose_connection_is_closed_has_failed(rig: Rig) -> None:
    rig.served.slow = asyncio.Event()
    staging = asyncio.create_task(rig.volumes.publish("one", volume()))
    await until(lambda: rig.served.calls == ["stage"])
    await rig.drivers.get("d").client.close()
    with pytest.raises(CSIFailure, match="connection to the driver was closed"):
        await staging


async def test_a_torn_record_is_no_record(rig: Rig) -> None:
    folder = rig.volumes.folder("one", "pv")
    folder.mkdir(parents=True)
    folder.joinpath(DATA).write_text('{"driverName": "d", "volu')
    await rig.volumes.take_back("one")
    assert rig.served.calls == []
    await rig.volumes.publish("one", volume())
    assert json.loads(folder.joinpath(DATA).read_text())["volumeHandle"] == "handle"


async def test_an_inline_volume_is_not_staged(rig: Rig) -> None:
    await rig.volumes.publish("one", volume(ephemeral=True))
    await rig.volumes.take_back("one")
    assert rig.served.calls == ["publish", "unpublish"]


async def test_what_the_driver_is_told(rig: Rig) -> None:
    told = volume(attributes={"a": "1"}, published={"lun": "7"}, stage_secrets={"key": "secret"})
    await rig.volumes.publish("one", told)
    request = rig.served.staged_with
    assert (request.volume_id, dict(request.volume_context), dict(request.publish_context)) == (
        "handle",
        {"a": "1"},
        {"lun": "7"},
    )
    assert dict(request.secrets) == {"key": "secret"}
    assert request.volume_capability.mount.fs_type == "ext4"
    assert request.volume_capability.access_mode.mode == pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER
    info = rig.drivers.get("d").info
    assert info == NodeInfo("here", 3, {"z": "a"})
    assert entry(rig.drivers.get("d")) == {"name": "d", "nodeID": "here", "topologyKeys": ["z"], "allocatable": {"count": 3}}
    await rig.volumes.take_back("one")


def test_names_are_upstreams() -> None:
    assert inline_handle("uid", "v").startswith("csi-")
    assert attachment_name("h", "d", "n") != attachment_name("h", "d", "m")


@pytest.mark.parametrize(
    ("policy", "fs_type", "modes", "wants"),
    [
        (None, "ext4", ("ReadWriteOnce",), True),
        (None, "", ("ReadWriteOnce",), False),
        (None, "ext4", ("ReadWriteMany",), False),
        ("File", "", ("ReadWriteMany",), True),
        ("None", "ext4", ("ReadWriteOnce",), False),
    ],
)
def test_whose_files_become_the_groups(policy: str | None, fs_type: str, modes: tuple[str, ...], wants: bool) -> None:
    driver = {"spec": {"fsGroupPolicy": policy} if policy else {}}
    assert wants_group(driver, CSIVolume("pv", "d", "h", Access(fs_type=fs_type, modes=modes))) is wants


class Taken:
    """A handler that refuses its first plugin."""

    def __init__(self) -> None:
        self.asked = 0
        self.present: dict[str, str] = {}
        self.changed = asyncio.Event()

    async def register(self, name: str, endpoint: str, versions: Any) -> None:
        self.asked += 1
        if self.asked == 1:
            raise PluginRefused("not yet")
        self.present[name] = endpoint
        self.changed.set()

    async def deregister(self, name: str, endpoint: str) -> None:
        self.present.pop(name)
        self.changed.set()


class Registered(reg_grpc.RegistrationServicer):
    def __init__(self) -> None:
        self.told: list[tuple[bool, str]] = []

    async def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return reg.PluginInfo(type="Test", name="p", endpoint="/somewhere.sock", supported_versions=["v1"])

    async def NotifyRegistrationStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.told.append((request.plugin_registered, request.error))
        return reg.RegistrationStatusResponse()


async def test_plugins_come_are_tried_again_and_go(tmp_path: Path) -> None:
    handler, plugin = Taken(), Registered()
    folder = tmp_path / "plugins_registry"
    watching = asyncio.create_task(PluginWatcher(folder, {"Test": handler}, SystemClock()).run())
    server = grpc.aio.server()
    try:
        await until(folder.exists)
        # A socket that nobody serves is no hindrance.
        with ShortPath(folder / "dead.sock") as short, socket.socket(socket.AF_UNIX) as dead:
            dead.bind(short.path)
        reg_grpc.add_RegistrationServicer_to_server(plugin, server)
        with ShortPath(folder / "p.sock") as short:
            server.add_insecure_port(f"unix:{short.path}")
            await server.start()
        async with asyncio.timeout(30):
            await handler.changed.wait()
        assert handler.present == {"p": "/somewhere.sock"}
        await until(lambda: len(plugin.told) == 2)
        assert plugin.told == [(False, "not yet"), (True, "")]
        handler.changed.clear()
        (folder / "p.sock").unlink()
        async with asyncio.timeout(30):
            await handler.changed.wait()
        assert handler.present == {}
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await server.stop(None)
