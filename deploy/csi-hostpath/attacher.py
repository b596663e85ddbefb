"""external-attacher's part: what VolumeAttachments ask for is asked of the driver, and its answer written into them."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from sidecar import TIMEOUT, Context, Obj, capability, words

from kubeling.api.meta import add_finalizer, copy_json, is_deleting, remove_finalizer, spec_of, status_of
from kubeling.api.resources import CSI_NODES, PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.proto import csi_pb2 as pb


class Attacher:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._finalizer = f"external-attacher/{ctx.driver.replace('.', '-')}"
        self._attachments = ctx.informers.informer(VOLUME_ATTACHMENTS)
        self._loop = Reconciler("attacher", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._attachments, self._ours)
        self.run = self._loop.run

    def _ours(self, attachment: Obj) -> Iterable[Request]:
        spec = spec_of(attachment)
        here = spec.get("attacher") == self._ctx.driver and spec.get("nodeName") == self._ctx.node
        return (request_for(attachment),) if here else ()

    async def reconcile(self, request: Request) -> float | None:
        attachment = self._attachments.store.get(request.name)
        if attachment is None or not list(self._ours(attachment)):
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
            return 5.0
        return None

    async def _attach(self, attachment: Obj) -> None:
        if status_of(attachment).get("attached"):
            return
        changed = copy_json(attachment)
        if add_finalizer(changed, self._finalizer):
            attachment = await self._ctx.client.update(VOLUME_ATTACHMENTS, changed)
        volume = await self._ctx.client.get(PERSISTENT_VOLUMES, spec_of(attachment)["source"]["persistentVolumeName"])
        source = spec_of(volume)["csi"]
        answer = await self._ctx.controller.ControllerPublishVolume(
            pb.ControllerPublishVolumeRequest(
                volume_id=source["volumeHandle"],
                node_id=await self._node_id(),
                volume_capability=capability(volume, source.get("fsType") or ""),
                volume_context=source.get("volumeAttributes") or {},
            ),
            timeout=TIMEOUT,
        )
        status = {"attached": True, "attachmentMetadata": dict(answer.publish_context)}
        await self._ctx.client.update_status(VOLUME_ATTACHMENTS, {**attachment, "status": status})

    async def _detach(self, attachment: Obj) -> None:
        volume = await self._ctx.find(PERSISTENT_VOLUMES, spec_of(attachment)["source"]["persistentVolumeName"])
        if volume is not None:
            wanted = pb.ControllerUnpublishVolumeRequest(
                volume_id=spec_of(volume)["csi"]["volumeHandle"], node_id=await self._node_id()
            )
            await self._ctx.controller.ControllerUnpublishVolume(wanted, timeout=TIMEOUT)
        changed = copy_json(attachment)
        if remove_finalizer(changed, self._finalizer):
            await self._ctx.client.update(VOLUME_ATTACHMENTS, changed)

    async def _node_id(self) -> str:
        found = await self._ctx.client.get(CSI_NODES, self._ctx.node)
        drivers = spec_of(found).get("drivers") or ()
        return next((str(each["nodeID"]) for each in drivers if each["name"] == self._ctx.driver), self._ctx.node)
