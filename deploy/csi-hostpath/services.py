"""The driver itself: CSI's Identity, Controller and Node services over a :class:`store.Store`.

A volume is a directory, so staging and publishing are bind mounts; a block volume is a file behind a loop device. Every call may be repeated, and may come after a
crash in the middle of its first try: each looks at what is there and does what is missing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import mounts
import store
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from kubeling.proto import csi_pb2 as pb
from kubeling.proto import csi_pb2_grpc as pb_grpc

VERSION = "1.0.0"
DEFAULT_SIZE = 1 << 30
_PAGE = 1000


class Failed(Exception):
    """Becomes the answer's status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Answers(grpc.aio.ServerInterceptor):
    """Turns what the services raise into statuses."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        inner = handler.unary_unary

        async def answer(request: Any, context: Any) -> Any:
            codes = grpc.StatusCode
            try:
                return await inner(request, context)
            except Failed as error:
                await context.abort(error.code, str(error))
            except store.NoSuchThing as error:
                await context.abort(codes.NOT_FOUND, f"{error.args[0]} does not exist")
            except store.Taken as error:
                await context.abort(codes.ALREADY_EXISTS, str(error))
            except OSError as error:
                full = error.errno is not None and error.errno == 28
                await context.abort(codes.RESOURCE_EXHAUSTED if full else codes.INTERNAL, str(error))

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def required(**fields: Any) -> None:
    for name, value in fields.items():
        if not value:
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, f"{name} is missing")


class Identity(pb_grpc.IdentityServicer):
    def __init__(self, name: str) -> None:
        self._name = name

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetPluginInfoResponse(name=self._name, vendor_version=VERSION)

    async def GetPluginCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        services, growth = pb.PluginCapability.Service, pb.PluginCapability.VolumeExpansion
        kinds = (services.CONTROLLER_SERVICE, services.VOLUME_ACCESSIBILITY_CONSTRAINTS)
        found = [pb.PluginCapability(service=services(type=each)) for each in kinds]
        found.append(pb.PluginCapability(volume_expansion=growth(type=growth.ONLINE)))
        return pb.GetPluginCapabilitiesResponse(capabilities=found)

    async def Probe(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ProbeResponse(ready=BoolValue(value=True))


class Controller(pb_grpc.ControllerServicer):
    """Volumes and snapshots of this node. `attach` says whether the driver wants volumes attached (there is nothing to do for it)."""

    def __init__(self, things: store.Store, node: str, topology: dict[str, str], *, attach: bool) -> None:
        self._store = things
        self._node = node
        self._topology = topology
        self._attach = attach
        self._one = asyncio.Lock()
        self._attached: dict[str, set[str]] = {}

    async def ControllerGetCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        rpc = pb.ControllerServiceCapability.RPC
        kinds = [
            rpc.CREATE_DELETE_VOLUME,
            rpc.LIST_VOLUMES,
            rpc.GET_CAPACITY,
            rpc.CREATE_DELETE_SNAPSHOT,
            rpc.LIST_SNAPSHOTS,
            rpc.CLONE_VOLUME,
            rpc.EXPAND_VOLUME,
            rpc.GET_VOLUME,
            rpc.SINGLE_NODE_MULTI_WRITER,
        ]
        if self._attach:
            kinds += [rpc.PUBLISH_UNPUBLISH_VOLUME, rpc.LIST_VOLUMES_PUBLISHED_NODES]
        found = [pb.ControllerServiceCapability(rpc=rpc(type=each)) for each in kinds]
        return pb.ControllerGetCapabilitiesResponse(capabilities=found)

    def _volume(self, record: store.Record) -> Any:
        return pb.Volume(
            volume_id=record.id,
            capacity_bytes=record.size,
            volume_context={"name": record.name},
            accessible_topology=[pb.Topology(segments=self._topology)],
        )

    async def CreateVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(name=request.name, volume_capabilities=request.volume_capabilities)
        check(request.volume_capabilities)
        demands = request.accessibility_requirements.requisite
        if demands and not any(dict(each.segments).items() <= self._topology.items() for each in demands):
            raise Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "volumes can only be made on this node")
        size = size_of(request.capacity_range)
        block = any(each.HasField("block") for each in request.volume_capabilities)
        async with self._one:
            origin, source = self._origin(request, block, size)
            made = await asyncio.to_thread(self._store.create, request.name, size, block=block, origin=origin, source=source)
        volume = self._volume(made)
        if request.HasField("volume_content_source"):
            volume.content_source.CopyFrom(request.volume_content_source)
        return pb.CreateVolumeResponse(volume=volume)

    def _origin(self, request: Any, block: bool, size: int) -> tuple[Path | None, str]:
        """What a new volume is a copy of."""
        kind = request.volume_content_source.WhichOneof("type")
        if kind is None:
            return None, ""
        if kind == "snapshot":
            record = self._store.snapshot(request.volume_content_source.snapshot.snapshot_id)
            path = self._store.snapshot_path(record)
        else:
            record = self._store.volume(request.volume_content_source.volume.volume_id)
            path = self._store.path(record)
        if record.block != block:
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, "the source is of another volume mode")
        if record.size > size:
            raise Failed(grpc.StatusCode.OUT_OF_RANGE, f"the source has {record.size} bytes, more than the {size} asked for")
        return path, record.id

    async def DeleteVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id)
        async with self._one:
            if self._attached.get(request.volume_id):
                raise Failed(grpc.StatusCode.FAILED_PRECONDITION, "the volume is attached")
            await asyncio.to_thread(self._store.delete, request.volume_id)
        return pb.DeleteVolumeResponse()

    async def ControllerPublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, node_id=request.node_id)
        self._store.volume(request.volume_id)
        if request.node_id != self._node:
            raise Failed(grpc.StatusCode.NOT_FOUND, f"node {request.node_id} is not this one")
        self._attached.setdefault(request.volume_id, set()).add(request.node_id)
        return pb.ControllerPublishVolumeResponse(publish_context={"attached-to": request.node_id})

    async def ControllerUnpublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id)
        nodes = self._attached.get(request.volume_id, set())
        nodes.discard(request.node_id) if request.node_id else nodes.clear()
        if not nodes:
            self._attached.pop(request.volume_id, None)
        return pb.ControllerUnpublishVolumeResponse()

    async def ValidateVolumeCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, volume_capabilities=request.volume_capabilities)
        return validated(request, block=self._store.volume(request.volume_id).block)

    async def ListVolumes(self, request: Any, context: Any) -> Any:  # noqa: N802
        page, token = paged(self._store.volumes(), request)
        entry = pb.ListVolumesResponse.Entry
        status = pb.ListVolumesResponse.VolumeStatus
        found = [
            entry(volume=self._volume(each), status=status(published_node_ids=sorted(self._attached.get(each.id, ()))))
            for each in page
        ]
        return pb.ListVolumesResponse(entries=found, next_token=token)

    async def ControllerGetVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id)
        return pb.ControllerGetVolumeResponse(volume=self._volume(self._store.volume(request.volume_id)))

    async def GetCapacity(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetCapacityResponse(available_capacity=self._store.free())

    async def ControllerExpandVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, required_bytes=request.capacity_range.required_bytes)
        async with self._one:
            grown = await asyncio.to_thread(self._store.grow, request.volume_id, request.capacity_range.required_bytes)
        return pb.ControllerExpandVolumeResponse(capacity_bytes=grown.size, node_expansion_required=True)

    # -- snapshots -----------------------------------------------------------------------------------------------------------------------

    async def CreateSnapshot(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(name=request.name, source_volume_id=request.source_volume_id)
        async with self._one:
            made = await asyncio.to_thread(self._store.take, request.name, request.source_volume_id, time.time())
        return pb.CreateSnapshotResponse(snapshot=snapshot(made))

    async def DeleteSnapshot(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(snapshot_id=request.snapshot_id)
        async with self._one:
            await asyncio.to_thread(self._store.drop, request.snapshot_id)
        return pb.DeleteSnapshotResponse()

    async def ListSnapshots(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = self._store.snapshots()
        if request.snapshot_id:
            found = [each for each in found if each.id == request.snapshot_id]
        if request.source_volume_id:
            found = [each for each in found if each.source == request.source_volume_id]
        page, token = paged(found, request)
        entries = [pb.ListSnapshotsResponse.Entry(snapshot=snapshot(each)) for each in page]
        return pb.ListSnapshotsResponse(entries=entries, next_token=token)


class Node(pb_grpc.NodeServicer):
    def __init__(self, things: store.Store, node: str, topology: dict[str, str], limit: int) -> None:
        self._store = things
        self._node = node
        self._topology = topology
        self._limit = limit

    async def NodeGetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        topology = pb.Topology(segments=self._topology)
        return pb.NodeGetInfoResponse(node_id=self._node, max_volumes_per_node=self._limit, accessible_topology=topology)

    async def NodeGetCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        rpc = pb.NodeServiceCapability.RPC
        kinds = (rpc.STAGE_UNSTAGE_VOLUME, rpc.GET_VOLUME_STATS, rpc.EXPAND_VOLUME, rpc.SINGLE_NODE_MULTI_WRITER)
        found = [pb.NodeServiceCapability(rpc=rpc(type=each)) for each in kinds]
        return pb.NodeGetCapabilitiesResponse(capabilities=found)

    async def NodeStageVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, staging_target_path=request.staging_target_path)
        check([request.volume_capability])
        record = self._store.volume(request.volume_id)
        if record.block:
            await asyncio.to_thread(mounts.loop_for, self._store.path(record))
        else:
            await asyncio.to_thread(mounts.show, self._store.path(record), Path(request.staging_target_path))
        return pb.NodeStageVolumeResponse()

    async def NodeUnstageVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, staging_target_path=request.staging_target_path)
        await asyncio.to_thread(mounts.hide, Path(request.staging_target_path))
        try:
            record = self._store.volume(request.volume_id)
        except store.NoSuchThing:
            record = None
        if record is not None and record.block:
            await asyncio.to_thread(mounts.free_loop, self._store.path(record))
        return pb.NodeUnstageVolumeResponse()

    async def NodePublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, target_path=request.target_path)
        check([request.volume_capability])
        target = Path(request.target_path)
        if request.volume_context.get("csi.storage.k8s.io/ephemeral") == "true":
            # An inline volume is made by being published, and lives as long as its pod.
            made = await asyncio.to_thread(
                self._store.create, request.volume_id, DEFAULT_SIZE, block=False, origin=None, source="inline"
            )
            source = self._store.path(made)
        else:
            record = self._store.volume(request.volume_id)
            if record.block:
                device = await asyncio.to_thread(mounts.loop_for, self._store.path(record))
                await asyncio.to_thread(mounts.show, device, target)
                return pb.NodePublishVolumeResponse()
            source = Path(request.staging_target_path)
        await asyncio.to_thread(mounts.show, source, target, read_only=request.readonly)
        return pb.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, target_path=request.target_path)
        await asyncio.to_thread(mounts.hide, Path(request.target_path))
        inline = store.id_of("vol", request.volume_id)
        if any(each.id == inline and each.source == "inline" for each in self._store.volumes()):
            await asyncio.to_thread(self._store.delete, inline)
        return pb.NodeUnpublishVolumeResponse()

    async def NodeGetVolumeStats(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, volume_path=request.volume_path)
        try:
            record = self._store.volume(request.volume_id)
        except store.NoSuchThing:
            record = self._store.volume(store.id_of("vol", request.volume_id))
        if not await asyncio.to_thread(os.path.exists, request.volume_path):
            raise Failed(grpc.StatusCode.NOT_FOUND, f"nothing is published at {request.volume_path}")
        used, inodes = await asyncio.to_thread(store.usage, self._store.path(record))
        units = pb.VolumeUsage
        found = [
            units(unit=units.BYTES, total=record.size, used=used, available=max(0, record.size - used)),
            units(unit=units.INODES, used=inodes),
        ]
        return pb.NodeGetVolumeStatsResponse(usage=found)

    async def NodeExpandVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, volume_path=request.volume_path)
        record = self._store.volume(request.volume_id)
        if record.block:
            await asyncio.to_thread(mounts.refresh_loop, self._store.path(record))
        return pb.NodeExpandVolumeResponse(capacity_bytes=record.size)


def check(capabilities: Sequence[Any]) -> None:
    """Directories of one node, and disks of one machine at a time, cannot be had by several."""
    modes = pb.VolumeCapability.AccessMode
    several = (modes.MULTI_NODE_READER_ONLY, modes.MULTI_NODE_SINGLE_WRITER, modes.MULTI_NODE_MULTI_WRITER)
    for each in capabilities:
        if each.WhichOneof("access_type") is None or each.access_mode.mode == modes.UNKNOWN:
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, "a volume capability needs an access type and a mode")
        if each.access_mode.mode in several:
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, "a volume of this driver is for one node at a time")


def size_of(asked: Any) -> int:
    """How many bytes a new volume is to have by that CapacityRange."""
    size: int = asked.required_bytes or min(DEFAULT_SIZE, asked.limit_bytes or DEFAULT_SIZE)
    if asked.limit_bytes and size > asked.limit_bytes:
        raise Failed(grpc.StatusCode.OUT_OF_RANGE, "required_bytes is above limit_bytes")
    return size


def validated(request: Any, *, block: bool) -> Any:
    """The answer to ValidateVolumeCapabilities for a volume of that mode."""
    try:
        check(request.volume_capabilities)
    except Failed as error:
        return pb.ValidateVolumeCapabilitiesResponse(message=str(error))
    if any(each.HasField("block") != block for each in request.volume_capabilities):
        return pb.ValidateVolumeCapabilitiesResponse(message="the volume is of another mode")
    confirmed = pb.ValidateVolumeCapabilitiesResponse.Confirmed(
        volume_context=request.volume_context, volume_capabilities=request.volume_capabilities, parameters=request.parameters
    )
    return pb.ValidateVolumeCapabilitiesResponse(confirmed=confirmed)


def paged(found: list[Any], request: Any) -> tuple[list[Any], str]:
    """A page of a sorted list; tokens are the last id before it."""
    if request.starting_token and not any(each.id == request.starting_token for each in found):
        raise Failed(grpc.StatusCode.ABORTED, "starting_token is not valid any more")
    rest = [each for each in found if each.id > request.starting_token]
    size = min(request.max_entries or _PAGE, _PAGE)
    return rest[:size], rest[size - 1].id if len(rest) > size else ""


def snapshot(record: store.Record) -> Any:
    when = Timestamp()
    when.FromNanoseconds(int(record.made * 1e9))
    return pb.Snapshot(
        snapshot_id=record.id, source_volume_id=record.source, size_bytes=record.size, creation_time=when, ready_to_use=True
    )
