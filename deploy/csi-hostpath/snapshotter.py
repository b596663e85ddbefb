"""The snapshot controller's and external-snapshotter's parts in one: VolumeSnapshots become VolumeSnapshotContents, and those snapshots of the driver.

The node that has the claim's volume makes the content and labels it as its own; only that node calls the driver for it. Both objects carry finalizers, so that a
snapshot under the policy Delete takes its copy with it, and one under Retain leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import grpc
from sidecar import CLASSES, CONTENTS, NODE_LABEL, SNAPSHOTS, TIMEOUT, Context, Obj, binary, owner_node, words

from kubeling.api.errors import ApiError, is_already_exists, is_not_found
from kubeling.api.meta import (
    add_finalizer,
    annotations_of,
    copy_json,
    is_deleting,
    name_of,
    namespace_of,
    remove_finalizer,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.proto import csi_pb2 as pb

_DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"
_SNAPSHOT_FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"
_CONTENT_FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"


class Snapshotter:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._snapshots = ctx.informers.informer(SNAPSHOTS)
        self._contents = ctx.informers.informer(CONTENTS)
        self._classes = ctx.informers.informer(CLASSES)
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._loop = Reconciler("snapshotter", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._snapshots)
        self._loop.watches(self._contents, _content_and_snapshot)
        self._loop.watches(self._claims, self._snapshots_of_claim)
        self._loop.needs(self._classes, self._volumes)

    async def run(self) -> None:
        """Once there is a class of this driver, work until cancelled."""
        await self._classes.synced.wait()
        if not any(each.get("driver") == self._ctx.driver for each in self._classes.store):
            made = {
                "apiVersion": CLASSES.group_version,
                "kind": "VolumeSnapshotClass",
                "metadata": {"name": "csi-hostpath", "annotations": {_DEFAULT: "true"}},
                "driver": self._ctx.driver,
                "deletionPolicy": "Delete",
            }
            try:
                await self._ctx.client.create(CLASSES, made)
            except ApiError as error:
                if not is_already_exists(error):
                    raise
        await self._loop.run()

    def _snapshots_of_claim(self, claim: Obj) -> Iterable[Request]:
        """A snapshot may be asked for before its claim is bound."""
        for each in self._snapshots.store.in_namespace(namespace_of(claim)):
            if spec_of(each)["source"].get("persistentVolumeClaimName") == name_of(claim) and not status_of(each).get(
                "readyToUse"
            ):
                yield request_for(each)

    async def reconcile(self, request: Request) -> float | None:
        if request.namespace:
            snapshot = self._snapshots.store.get(request.name, request.namespace)
            if snapshot is not None:
                await (self._end(snapshot) if is_deleting(snapshot) else self._begin(snapshot))
            return None
        content = self._contents.store.get(request.name)
        if content is None or spec_of(content).get("driver") != self._ctx.driver or owner_node(content) != self._ctx.node:
            return None
        return await (self._remove(content) if is_deleting(content) else self._copy(content))

    # -- the snapshot ------------------------------------------------------------------------------------------------------------------

    def _class_of(self, snapshot: Obj) -> Obj | None:
        name = spec_of(snapshot).get("volumeSnapshotClassName")
        if name:
            return self._classes.store.get(name)
        marked = [each for each in self._classes.store if annotations_of(each).get(_DEFAULT) == "true"]
        return next((each for each in marked if each.get("driver") == self._ctx.driver), None)

    async def _begin(self, snapshot: Obj) -> None:
        source = spec_of(snapshot)["source"]
        if source.get("volumeSnapshotContentName"):
            content = self._contents.store.get(source["volumeSnapshotContentName"])
            if content is not None and self._is_mine(content):
                await self._bind(snapshot, content)
            return
        content = self._contents.store.get(f"snapcontent-{uid_of(snapshot)}")
        if content is not None:
            if self._is_mine(content):
                await self._bind(snapshot, content)
            return
        claim = self._claims.store.get(source.get("persistentVolumeClaimName") or "", namespace_of(snapshot))
        volume = self._volumes.store.get(str(spec_of(claim or {}).get("volumeName") or "-"))
        snapshot_class = self._class_of(snapshot)
        if (
            volume is None
            or not self._ctx.is_here(volume)
            or snapshot_class is None
            or snapshot_class.get("driver") != self._ctx.driver
        ):
            return
        changed = copy_json(snapshot)
        if add_finalizer(changed, _SNAPSHOT_FINALIZER):
            snapshot = await self._ctx.client.update(SNAPSHOTS, changed)
        self._event(
            snapshot,
            "Normal",
            "CreatingSnapshot",
            f"Waiting for a snapshot {namespace_of(snapshot)}/{name_of(snapshot)} to be created by the CSI driver.",
        )
        made = {
            "apiVersion": CONTENTS.group_version,
            "kind": "VolumeSnapshotContent",
            "metadata": {
                "name": f"snapcontent-{uid_of(snapshot)}",
                "labels": {NODE_LABEL: self._ctx.node},
                "finalizers": [_CONTENT_FINALIZER],
            },
            "spec": {
                "driver": self._ctx.driver,
                "deletionPolicy": snapshot_class.get("deletionPolicy") or "Delete",
                "volumeSnapshotClassName": name_of(snapshot_class),
                "source": {"volumeHandle": spec_of(volume)["csi"]["volumeHandle"]},
                "volumeSnapshotRef": _reference(snapshot),
            },
        }
        try:
            await self._ctx.client.create(CONTENTS, made)
        except ApiError as error:
            if not is_already_exists(error):
                raise

    def _is_mine(self, content: Obj) -> bool:
        return bool(spec_of(content).get("driver") == self._ctx.driver and owner_node(content) == self._ctx.node)

    async def _bind(self, snapshot: Obj, content: Obj) -> None:
        """The snapshot shows what its content has come to."""
        changed = copy_json(snapshot)
        if add_finalizer(changed, _SNAPSHOT_FINALIZER):
            snapshot = await self._ctx.client.update(SNAPSHOTS, changed)
        reference = spec_of(content).get("volumeSnapshotRef") or {}
        if not reference.get("uid"):
            held = copy_json(content)
            held["spec"]["volumeSnapshotRef"] = _reference(snapshot)
            content = await self._ctx.client.update(CONTENTS, held)
        elif reference["uid"] != uid_of(snapshot):
            self._event(
                snapshot,
                "Warning",
                "SnapshotContentMisbound",
                f"VolumeSnapshotContent [{name_of(content)}] is bound to a different VolumeSnapshot",
            )
            return
        told = status_of(content)
        status: Obj = {"boundVolumeSnapshotContentName": name_of(content), "readyToUse": bool(told.get("readyToUse"))}
        if told.get("creationTime"):
            status["creationTime"] = format_time(datetime.fromtimestamp(int(told["creationTime"]) / 1e9, UTC))
        if told.get("restoreSize") is not None:
            status["restoreSize"] = binary(int(told["restoreSize"]))
        if told.get("error"):
            status["error"] = told["error"]
        if status != status_of(snapshot):
            await self._ctx.client.update_status(SNAPSHOTS, {**snapshot, "status": status})
            if status["readyToUse"] and not status_of(snapshot).get("readyToUse"):
                self._event(
                    snapshot, "Normal", "SnapshotReady", f"Snapshot {namespace_of(snapshot)}/{name_of(snapshot)} is ready to use."
                )

    async def _end(self, snapshot: Obj) -> None:
        """Its content goes first, unless that is to be kept."""
        name = status_of(snapshot).get("boundVolumeSnapshotContentName") or f"snapcontent-{uid_of(snapshot)}"
        content = await self._ctx.find(CONTENTS, name)
        if content is not None:
            if not self._is_mine(content):
                return
            if spec_of(content).get("deletionPolicy") == "Delete":
                if not is_deleting(content):
                    await self._ctx.client.delete(CONTENTS, name, uid=uid_of(content))
                return  # Its end wakes us.
        changed = copy_json(snapshot)
        if remove_finalizer(changed, _SNAPSHOT_FINALIZER):
            await self._write_last(SNAPSHOTS, changed)

    # -- the content -------------------------------------------------------------------------------------------------------------------

    async def _copy(self, content: Obj) -> float | None:
        if status_of(content).get("readyToUse"):
            return None
        source = spec_of(content)["source"]
        try:
            if source.get("snapshotHandle"):
                wanted = pb.ListSnapshotsRequest(snapshot_id=source["snapshotHandle"])
                found = (await self._ctx.controller.ListSnapshots(wanted, timeout=TIMEOUT)).entries
                if not found:
                    return 10.0
                made = found[0].snapshot
            else:
                reference = spec_of(content)["volumeSnapshotRef"]
                asked = pb.CreateSnapshotRequest(source_volume_id=source["volumeHandle"], name=f"snapshot-{reference['uid']}")
                made = (await self._ctx.controller.CreateSnapshot(asked, timeout=600.0)).snapshot
        except grpc.aio.AioRpcError as error:
            said = {"time": format_time(self._ctx.clock.now()), "message": words(error)}
            if (status_of(content).get("error") or {}).get("message") != said["message"]:
                status = {"readyToUse": False, **status_of(content), "error": said}
                await self._ctx.client.update_status(CONTENTS, {**content, "status": status})
            return 10.0
        status = {
            "snapshotHandle": made.snapshot_id,
            "creationTime": made.creation_time.ToNanoseconds(),
            "restoreSize": made.size_bytes,
            "readyToUse": made.ready_to_use,
        }
        await self._ctx.client.update_status(CONTENTS, {**content, "status": status})
        return None

    async def _remove(self, content: Obj) -> float | None:
        reference = spec_of(content).get("volumeSnapshotRef") or {}
        snapshot = await self._ctx.find(SNAPSHOTS, reference.get("name") or "-", reference.get("namespace") or "")
        if snapshot is not None and uid_of(snapshot) == reference.get("uid") and not is_deleting(snapshot):
            return None  # It is in use.
        handle = status_of(content).get("snapshotHandle")
        if handle and spec_of(content).get("deletionPolicy") == "Delete":
            await self._ctx.controller.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=handle), timeout=TIMEOUT)
        changed = copy_json(content)
        if remove_finalizer(changed, _CONTENT_FINALIZER):
            await self._write_last(CONTENTS, changed)
        return None

    async def _write_last(self, resource: Any, changed: Obj) -> None:
        try:
            await self._ctx.client.update(resource, changed)
        except ApiError as error:
            if not is_not_found(error):
                raise

    def _event(self, snapshot: Obj, kind: Any, reason: str, message: str) -> None:
        named = {"apiVersion": SNAPSHOTS.group_version, "kind": "VolumeSnapshot", **snapshot}
        self._ctx.events.event(named, kind, reason, message)


def _reference(snapshot: Obj) -> Obj:
    return {
        "apiVersion": SNAPSHOTS.group_version,
        "kind": "VolumeSnapshot",
        "namespace": namespace_of(snapshot),
        "name": name_of(snapshot),
        "uid": uid_of(snapshot),
    }


def _content_and_snapshot(content: Obj) -> Iterable[Request]:
    yield request_for(content)
    reference = spec_of(content).get("volumeSnapshotRef") or {}
    if reference.get("namespace"):
        yield Request(reference["namespace"], reference["name"])
