"""external-resizer's part: a bound claim that asks for more gets a larger volume. What is left to do on the node, the kubelet does."""

from __future__ import annotations

from typing import Any

import grpc
from sidecar import TIMEOUT, Context, Obj, binary, capability, words

from kubeling.api import quantity
from kubeling.api.conditions import set_condition
from kubeling.api.meta import copy_json, is_deleting, name_of, namespace_of, spec_of, status_of
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from kubeling.client.controller import Reconciler, Request
from kubeling.proto import csi_pb2 as pb


class Resizer:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._loop = Reconciler("resizer", self.reconcile, workers=1, clock=ctx.clock)
        self._loop.watches(self._claims)
        self._loop.needs(self._volumes)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        claim = self._claims.store.get(request.name, request.namespace)
        if claim is None or is_deleting(claim) or status_of(claim).get("phase") != "Bound":
            return None
        volume = self._volumes.store.get(str(spec_of(claim).get("volumeName") or "-"))
        if volume is None or not self._ctx.is_here(volume):
            return None
        asked = quantity.units(spec_of(claim)["resources"]["requests"]["storage"])
        has = quantity.units((status_of(claim).get("capacity") or {}).get("storage"))
        size = quantity.units(spec_of(volume)["capacity"]["storage"])
        if asked <= has or asked <= size:
            return None  # Where the volume has grown already the kubelet has the rest to do.
        claim = await self._status(claim, "Resizing", "ControllerResizeInProgress")
        self._event(claim, "Normal", "Resizing", f"External resizer is resizing volume {name_of(volume)}")
        try:
            answer = await self._ctx.controller.ControllerExpandVolume(
                pb.ControllerExpandVolumeRequest(
                    volume_id=spec_of(volume)["csi"]["volumeHandle"],
                    capacity_range=pb.CapacityRange(required_bytes=asked),
                    volume_capability=capability(volume),
                ),
                timeout=TIMEOUT,
            )
        except grpc.aio.AioRpcError as error:
            message = f'resize volume "{name_of(volume)}" by resizer "{self._ctx.driver}" failed: {words(error)}'
            self._event(claim, "Warning", "VolumeResizeFailed", message)
            return self._ctx.patience.later(("resize", request))
        self._ctx.patience.done(("resize", request))
        changed = copy_json(volume)
        changed["spec"]["capacity"]["storage"] = binary(answer.capacity_bytes or asked)
        await self._ctx.client.update(PERSISTENT_VOLUMES, changed)
        if answer.node_expansion_required:
            await self._status(claim, "FileSystemResizePending", "NodeResizePending")
            message = "Require file system resize of volume on node"
            self._event(claim, "Normal", "FileSystemResizeRequired", message)
        else:
            status = {**status_of(claim), "conditions": [], "allocatedResourceStatuses": {}}
            status["capacity"] = dict(changed["spec"]["capacity"])
            await self._ctx.client.update_status(PERSISTENT_VOLUME_CLAIMS, {**claim, "status": status})
            self._event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")
        return None

    async def _status(self, claim: Obj, condition: str, stage: str) -> Obj:
        status = copy_json(status_of(claim))
        conditions = [each for each in status.get("conditions") or [] if each["type"] in (condition, "ModifyingVolume")]
        message = (
            "Waiting for user to (re-)start a pod to finish file system resize of volume on node."
            if stage == "NodeResizePending"
            else ""
        )
        set_condition(conditions, condition, "True", self._ctx.clock.now(), message=message)
        status |= {"conditions": conditions, "allocatedResourceStatuses": {"storage": stage}}
        status["allocatedResources"] = {"storage": spec_of(claim)["resources"]["requests"]["storage"]}
        return await self._ctx.client.update_status(PERSISTENT_VOLUME_CLAIMS, {**claim, "status": status})

    def _event(self, claim: Obj, kind: Any, reason: str, message: str) -> None:
        named = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
        assert namespace_of(claim)
        self._ctx.events.event(named, kind, reason, message)
