"""external-attacher's part: what VolumeAttachments ask for is asked of the driver, and its answer written into them.

Attachments drift: somebody takes a volume from its machine behind our back. So once a minute, while there are any, the driver is asked what is attached where, and
what should be and is not, is attached again.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from sidecar import TIMEOUT, Context, Obj, capability, words

from kubeling.api.meta import add_finalizer, annotations_of, copy_json, is_deleting, remove_finalizer, spec_of, status_of
from kubeling.api.resources import CSI_NODES, PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.proto import csi_pb2 as pb

log = get_logger("csi.attacher")

NODE_ID = "csi.alpha.kubernetes.io/node-id"
#: upstream's --reconcile-sync
RESYNC_SECONDS = 60.0


class Attacher:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._finalizer = f"external-attacher/{ctx.driver.replace('.', '-')}"
        self._attachments = ctx.informers.informer(VOLUME_ATTACHMENTS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._drifted: set[Request] = set()
        self._loop = Reconciler("attacher", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._attachments, self._ours)
        self._loop.needs(self._volumes)

    async def run(self) -> None:
        async with Supervisor(self._ctx.clock) as parts:
            parts.start("resync", self._resync)
            await self._loop.run()

    def _ours(self, attachment: Obj) -> Iterable[Request]:
        spec = spec_of(attachment)
        here = spec.get("attacher") == self._ctx.driver and self._ctx.node in ("", spec.get("nodeName"))
        return (request_for(attachment),) if here else ()

    async def reconcile(self, request: Request) -> float | None:
        attachment = self._attachments.store.get(request.name)
        if attachment is None or not list(self._ours(attachment)):
            self._drifted.discard(request)
            self._ctx.patience.done(request)
            return None
        problem = "detachError" if is_deleting(attachment) else "attachError"
        try:
            await (self._detach(attachment) if is_deleting(attachment) else self._attach(attachment))
        except grpc.aio.AioRpcError as error:
            said = {"time": format_time(self._ctx.clock.now()), "message": words(error)}
            old = (status_of(attachment).get(problem) or {}).get("message")
            if old != said["message"]:
                status = {"attached": False, **status_of(attachment), problem: said}
                await self._ctx.client.update_status(VOLUME_ATTACHMENTS, {**attachment, "status": status})
            return self._ctx.patience.later(request)
        self._ctx.patience.done(request)
        self._drifted.discard(request)
        return None

    async def _resync(self) -> None:
        capabilities = await self._ctx.controller.ControllerGetCapabilities(
            pb.ControllerGetCapabilitiesRequest(), timeout=TIMEOUT
        )
        wanted = pb.ControllerServiceCapability.RPC.LIST_VOLUMES_PUBLISHED_NODES
        if not any(each.rpc.type == wanted for each in capabilities.capabilities):
            return
        while True:
            await self._ctx.clock.sleep(RESYNC_SECONDS)
            try:
                await self.compare()
            except grpc.aio.AioRpcError as error:
                log.warning("the driver does not list its volumes", error=words(error))

    async def compare(self) -> None:
        """Attach again what should be attached and is not."""
        claimed = [
            (request, str(spec_of(volume)["csi"]["volumeHandle"]), annotations_of(each).get(NODE_ID))
            for each in self._attachments.store
            for request in self._ours(each)
            if status_of(each).get("attached") and not is_deleting(each)
            if (volume := self._volumes.store.get(_volume_name(each))) is not None
        ]
        if not claimed:
            return
        published: dict[str, set[str]] = {}
        token = ""
        while True:
            page = await self._ctx.controller.ListVolumes(pb.ListVolumesRequest(starting_token=token), timeout=TIMEOUT)
            published |= {each.volume.volume_id: set(each.status.published_node_ids) for each in page.entries}
            token = page.next_token
            if not token:
                break
        for request, handle, node in claimed:
            if node and node not in published.get(handle, set()):
                log.warning("a volume is not attached where it should be", volume=handle, node=node)
                self._drifted.add(request)
                self._loop.queue.add(request)

    async def _attach(self, attachment: Obj) -> None:
        if status_of(attachment).get("attached") and request_for(attachment) not in self._drifted:
            return
        changed = copy_json(attachment)
        node = await self._node_id(attachment)
        named = annotations_of(attachment).get(NODE_ID) == node
        changed["metadata"].setdefault("annotations", {})[NODE_ID] = node
        if add_finalizer(changed, self._finalizer) or not named:
            attachment = await self._ctx.client.update(VOLUME_ATTACHMENTS, changed)
        volume = await self._ctx.client.get(PERSISTENT_VOLUMES, _volume_name(attachment))
        source = spec_of(volume)["csi"]
        answer = await self._ctx.controller.ControllerPublishVolume(
            pb.ControllerPublishVolumeRequest(
                volume_id=source["volumeHandle"],
                node_id=node,
                volume_capability=capability(volume, source.get("fsType") or ""),
                volume_context=source.get("volumeAttributes") or {},
            ),
            timeout=TIMEOUT,
        )
        status = {"attached": True, "attachmentMetadata": dict(answer.publish_context)}
        await self._ctx.client.update_status(VOLUME_ATTACHMENTS, {**attachment, "status": status})

    async def _detach(self, attachment: Obj) -> None:
        volume = await self._ctx.find(PERSISTENT_VOLUMES, _volume_name(attachment))
        if volume is not None:
            wanted = pb.ControllerUnpublishVolumeRequest(
                volume_id=spec_of(volume)["csi"]["volumeHandle"], node_id=await self._node_id(attachment)
            )
            await self._ctx.controller.ControllerUnpublishVolume(wanted, timeout=TIMEOUT)
        changed = copy_json(attachment)
        if remove_finalizer(changed, self._finalizer):
            await self._ctx.client.update(VOLUME_ATTACHMENTS, changed)

    async def _node_id(self, attachment: Obj) -> str:
        """What the driver calls the node: as it was when we attached, for the node may be gone since."""
        if known := annotations_of(attachment).get(NODE_ID):
            return known
        node = str(spec_of(attachment)["nodeName"])
        drivers = spec_of(await self._ctx.find(CSI_NODES, node) or {}).get("drivers") or ()
        return next((str(each["nodeID"]) for each in drivers if each["name"] == self._ctx.driver), node)


def _volume_name(attachment: Obj) -> str:
    return str((spec_of(attachment).get("source") or {}).get("persistentVolumeName") or "-")
