"""The node's side of CSI v1: one driver, over its Unix socket. Thin: each method is one call, and every failure is a :class:`CSIFailure`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubeling.linux.unixpath import UnixChannel

if TYPE_CHECKING:
    from kubeling.proto import csi_pb2

#: As upstream: what a driver does for a volume may take two minutes.
TIMEOUT = 120.0


class CSIFailure(OSError):
    """The driver refused or is away; the text is as upstream shows it."""

    def __init__(self, code: str, details: str) -> None:
        spelled = "".join(part.capitalize() for part in code.split("_"))
        super().__init__(errno.EIO, f"rpc error: code = {spelled} desc = {details}")
        self.code = code
        self.details = details

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a driver says of itself and this node. `limit` 0: any number of volumes."""

    node_id: str
    limit: int = 0
    topology: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Abilities:
    """The optional calls that the driver has on a node."""

    stage: bool = False
    stats: bool = False
    expand: bool = False
    mount_group: bool = False
    single_node_multi_writer: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """How a volume is used: the VolumeCapability of the calls. `modes` are the claim's access modes."""

    block: bool = False
    fs_type: str = ""
    options: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("ReadWriteOnce",)
    group: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes and inodes of a volume; None where the driver does not say. `abnormal` is its complaint."""

    available: int | None = None
    total: int | None = None
    used: int | None = None
    inodes_free: int | None = None
    inodes: int | None = None
    inodes_used: int | None = None
    abnormal: str = ""


class CSIClient:
    """A connection to the driver at `endpoint`, a path (or `unix://` and a path). Make it inside a running event loop."""

    def __init__(self, endpoint: str) -> None:
        import grpc.aio

        from kubeling.proto import csi_pb2, csi_pb2_grpc

        self.endpoint = endpoint
        self._pb = csi_pb2
        self._error = grpc.aio.AioRpcError
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 2000)]
        self._channel = UnixChannel(endpoint.removeprefix("unix://").removeprefix("unix:"), options)
        self._node: Any = csi_pb2_grpc.NodeStub(self._channel.channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._channel.close()

    async def _call(self, method: Any, request: Any, timeout: float = TIMEOUT) -> Any:
        try:
            return await method(request, timeout=timeout)
        except self._error as error:
            raise CSIFailure(error.code().name, error.details() or "") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: gRPC ends a call that way when its channel is closed, as it is when the driver has registered anew.
            raise CSIFailure("CANCELLED", "the connection to the driver was closed") from error

    async def info(self) -> NodeInfo:
        found = await self._call(self._node.NodeGetInfo, self._pb.NodeGetInfoRequest())
        if not found.node_id:
            raise CSIFailure("INTERNAL", "the driver names no node")
        return NodeInfo(found.node_id, max(0, found.max_volumes_per_node), dict(found.accessible_topology.segments))

    async def abilities(self) -> Abilities:
        found = await self._call(self._node.NodeGetCapabilities, self._pb.NodeGetCapabilitiesRequest())
        kinds = self._pb.NodeServiceCapability.RPC
        has = {each.rpc.type for each in found.capabilities if each.HasField("rpc")}
        return Abilities(
            stage=kinds.STAGE_UNSTAGE_VOLUME in has,
            stats=kinds.GET_VOLUME_STATS in has,
            expand=kinds.EXPAND_VOLUME in has,
            mount_group=kinds.VOLUME_MOUNT_GROUP in has,
            single_node_multi_writer=kinds.SINGLE_NODE_MULTI_WRITER in has,
        )

    def _capability(self, access: Access, several: bool) -> csi_pb2.VolumeCapability:
        pb = self._pb
        modes = pb.VolumeCapability.AccessMode
        if "ReadWriteOncePod" in access.modes:
            mode = modes.SINGLE_NODE_SINGLE_WRITER if several else modes.SINGLE_NODE_WRITER
        elif "ReadWriteMany" in access.modes:
            mode = modes.MULTI_NODE_MULTI_WRITER
        elif "ReadWriteOnce" in access.modes:
            mode = modes.SINGLE_NODE_MULTI_WRITER if several else modes.SINGLE_NODE_WRITER
        else:
            mode = modes.MULTI_NODE_READER_ONLY
        made: csi_pb2.VolumeCapability
        if access.block:
            made = pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume(), access_mode=modes(mode=mode))
            return made
        mount = pb.VolumeCapability.MountVolume(
            fs_type=access.fs_type, mount_flags=list(access.options), volume_mount_group=access.group
        )
        made = pb.VolumeCapability(mount=mount, access_mode=modes(mode=mode))
        return made

    async def stage(
        self,
        handle: str,
        staging: str,
        access: Access,
        several: bool,
        published: Mapping[str, str],
        attributes: Mapping[str, str],
        secrets: Mapping[str, str],
    ) -> None:
        request = self._pb.NodeStageVolumeRequest(
            volume_id=handle,
            publish_context=dict(published),
            staging_target_path=staging,
            volume_capability=self._capability(access, several),
            secrets=dict(secrets),
            volume_context=dict(attributes),
        )
        await self._call(self._node.NodeStageVolume, request)

    async def unstage(self, handle: str, staging: str) -> None:
        await self._call(
            self._node.NodeUnstageVolume, self._pb.NodeUnstageVolumeRequest(volume_id=handle, staging_target_path=staging)
        )

    async def publish(
        self,
        handle: str,
        staging: str,
        target: str,
        access: Access,
        several: bool,
        *,
        read_only: bool,
        published: Mapping[str, str],
        attributes: Mapping[str, str],
        secrets: Mapping[str, str],
    ) -> None:
        request = self._pb.NodePublishVolumeRequest(
            volume_id=handle,
            publish_context=dict(published),
            staging_target_path=staging,
            target_path=target,
            volume_capability=self._capability(access, several),
            readonly=read_only,
            secrets=dict(secrets),
            volume_context=dict(attributes),
        )
        await self._call(self._node.NodePublishVolume, request)

    async def unpublish(self, handle: str, target: str) -> None:
        await self._call(
            self._node.NodeUnpublishVolume, self._pb.NodeUnpublishVolumeRequest(volume_id=handle, target_path=target)
        )

    async def expand(
        self, handle: str, path: str, staging: str, access: Access, several: bool, size: int, secrets: Mapping[str, str]
    ) -> int:
        """Make what is on the volume as large as it is; the new size, 0 where the driver does not say."""
        request = self._pb.NodeExpandVolumeRequest(
            volume_id=handle,
            volume_path=path,
            capacity_range=self._pb.CapacityRange(required_bytes=size),
            staging_target_path=staging,
            volume_capability=self._capability(access, several),
            secrets=dict(secrets),
        )
        return int((await self._call(self._node.NodeExpandVolume, request)).capacity_bytes)

    async def usage(self, handle: str, path: str, staging: str) -> Usage:
        request = self._pb.NodeGetVolumeStatsRequest(volume_id=handle, volume_path=path, staging_target_path=staging)
        found = await self._call(self._node.NodeGetVolumeStats, request, 30.0)
        units = self._pb.VolumeUsage
        numbers: dict[str, int] = {}
        for each in found.usage:
            if each.unit == units.BYTES:
                numbers |= {"available": each.available, "total": each.total, "used": each.used}
            elif each.unit == units.INODES:
                numbers |= {"inodes_free": each.available, "inodes": each.total, "inodes_used": each.used}
        ill = found.HasField("volume_condition") and found.volume_condition.abnormal
        return Usage(**numbers, abnormal=found.volume_condition.message if ill else "")
