"""CSI's Controller service over the `Volumes` of a cloud provider: whatever cloud implements that interface has a CSI controller by it.

A call that the provider does not answer in time has failed, as has one whose volume is being worked on already; the sidecars ask again, later each time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
from provisioner import REGION, ZONE
from services import Failed, check, paged, required, size_of, validated

from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import Conflicting, Exhausted, Missing, Outdated, ProviderError, Volume, Volumes
from kubeling.proto import csi_pb2 as pb
from kubeling.proto import csi_pb2_grpc as pb_grpc

Result = TypeVar("Result")
#: Less than what the sidecars wait.
CALL_SECONDS = 50.0

_CODES = {
    Missing: grpc.StatusCode.NOT_FOUND,
    Conflicting: grpc.StatusCode.FAILED_PRECONDITION,
    Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Outdated: grpc.StatusCode.ABORTED,
}


class Controller(pb_grpc.ControllerServicer):
    """`seconds` limits each call of the provider."""

    def __init__(self, volumes: Volumes, *, seconds: float = CALL_SECONDS) -> None:
        self._volumes = volumes
        self.patience = Patience(call_seconds=seconds)
        self._busy: set[str] = set()

    async def _ask(self, work: Awaitable[Result]) -> Result:
        try:
            return await self.patience.call(work)
        except ProviderError as error:
            raise Failed(_CODES.get(type(error), grpc.StatusCode.UNAVAILABLE), str(error)) from error

    @contextlib.contextmanager
    def _alone(self, thing: str) -> Iterator[None]:
        if thing in self._busy:
            raise Failed(grpc.StatusCode.ABORTED, f"{thing} is being worked on")
        self._busy.add(thing)
        try:
            yield
        finally:
            self._busy.discard(thing)

    async def ControllerGetCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        rpc = pb.ControllerServiceCapability.RPC
        kinds = (
            rpc.CREATE_DELETE_VOLUME,
            rpc.PUBLISH_UNPUBLISH_VOLUME,
            rpc.LIST_VOLUMES,
            rpc.LIST_VOLUMES_PUBLISHED_NODES,
            rpc.EXPAND_VOLUME,
            rpc.GET_VOLUME,
            rpc.SINGLE_NODE_MULTI_WRITER,
        )
        found = [pb.ControllerServiceCapability(rpc=rpc(type=each)) for each in kinds]
        return pb.ControllerGetCapabilitiesResponse(capabilities=found)

    async def CreateVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(name=request.name, volume_capabilities=request.volume_capabilities)
        check(request.volume_capabilities)
        if request.HasField("volume_content_source"):
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, "volumes of this cloud are made empty")
        size = size_of(request.capacity_range)
        block = any(each.HasField("block") for each in request.volume_capabilities)
        demands = request.accessibility_requirements
        places = [dict(each.segments) for each in demands.preferred or demands.requisite] or [{}]
        with self._alone(request.name):
            made = await self._ask(self._create(request.name, size, block, places))
        return pb.CreateVolumeResponse(volume=shown(made))

    async def _create(self, name: str, size: int, block: bool, places: Sequence[dict[str, str]]) -> Volume:
        """In the first place that has room. An earlier try may have made it in another one."""
        problem: ProviderError | None = None
        for each in places:
            try:
                return await self._volumes.create(name, size, block=block, zone=each.get(ZONE, ""), region=each.get(REGION, ""))
            except (Conflicting, Exhausted) as error:
                problem = problem if isinstance(problem, Conflicting) else error
        if isinstance(problem, Conflicting):
            raise Failed(grpc.StatusCode.ALREADY_EXISTS, str(problem))
        assert problem is not None
        raise problem

    async def DeleteVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id)
        with self._alone(request.volume_id):
            await self._ask(self._volumes.delete(request.volume_id))
        return pb.DeleteVolumeResponse()

    async def ControllerPublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, node_id=request.node_id)
        check([request.volume_capability])
        with self._alone(request.volume_id):
            told = await self._ask(self._volumes.attach(request.volume_id, request.node_id))
        return pb.ControllerPublishVolumeResponse(publish_context=dict(told))

    async def ControllerUnpublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id)
        with self._alone(request.volume_id):
            nodes = [request.node_id] if request.node_id else (await self._ask(self._volumes.find(request.volume_id))).nodes
            for each in nodes:
                await self._ask(self._volumes.detach(request.volume_id, each))
        return pb.ControllerUnpublishVolumeResponse()

    async def ValidateVolumeCapabilities(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, volume_capabilities=request.volume_capabilities)
        found = await self._ask(self._volumes.find(request.volume_id))
        return validated(request, block=found.block)

    async def ListVolumes(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = sorted(await self._ask(self._volumes.list()), key=lambda each: each.id)
        page, token = paged(found, request)
        status = pb.ListVolumesResponse.VolumeStatus
        entries = [
            pb.ListVolumesResponse.Entry(volume=shown(each), status=status(published_node_ids=each.nodes)) for each in page
        ]
        return pb.ListVolumesResponse(entries=entries, next_token=token)

    async def ControllerGetVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id)
        found = await self._ask(self._volumes.find(request.volume_id))
        status = pb.ControllerGetVolumeResponse.VolumeStatus(published_node_ids=found.nodes)
        return pb.ControllerGetVolumeResponse(volume=shown(found), status=status)

    async def ControllerExpandVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        required(volume_id=request.volume_id, required_bytes=request.capacity_range.required_bytes)
        with self._alone(request.volume_id):
            grown = await self._ask(self._volumes.expand(request.volume_id, request.capacity_range.required_bytes))
        return pb.ControllerExpandVolumeResponse(capacity_bytes=grown.size, node_expansion_required=True)


def shown(volume: Volume) -> Any:
    """A volume in CSI's words; where it can be had are the nodes with its zone's labels."""
    segments = {key: value for key, value in ((ZONE, volume.zone), (REGION, volume.region)) if value}
    return pb.Volume(
        volume_id=volume.id,
        capacity_bytes=volume.size,
        volume_context={"name": volume.name},
        accessible_topology=[pb.Topology(segments=segments)] if segments else [],
    )
