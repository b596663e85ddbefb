"""external-provisioner's part: claims that name the driver get a volume, and volumes that are released under the policy Delete go.

A claim whose class waits for its first consumer is this node's where the scheduler selected it. One that does not wait is taken by the node that has its source (a
snapshot, or a volume to be cloned), or else by the first that sets the annotation: the apiserver lets only one do so. Central sidecars take them all, and tell
the driver which of the nodes' topologies a volume may be in: the selected node's, or those that the class allows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import grpc
from sidecar import CONTENTS, FINAL, PROVISIONED_BY, SNAPSHOTS, TIMEOUT, Context, Obj, binary, capability, words

from kubeling.api import quantity
from kubeling.api.errors import ApiError, is_already_exists, is_not_found
from kubeling.api.meta import (
    annotations_of,
    copy_json,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    remove_finalizer,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.resources import (
    CSI_NODES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
)
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.proto import csi_pb2 as pb

PROVISIONER = "volume.kubernetes.io/storage-provisioner"
SELECTED = "volume.kubernetes.io/selected-node"
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
_PREFIX = "csi.storage.k8s.io/"


class Refused(Exception):
    """The claim cannot be served as it is; the text goes into its events."""


class Provisioner:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = ctx.informers.informer(PERSISTENT_VOLUMES)
        self._classes = ctx.informers.informer(STORAGE_CLASSES)
        self._attachments = ctx.informers.informer(VOLUME_ATTACHMENTS)
        self._loop = Reconciler("provisioner", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._claims, self._ours)
        self._loop.watches(self._volumes, lambda volume: (request_for(volume),) if ctx.is_here(volume) else ())
        self._loop.watches(self._attachments, _volume_of)
        self._loop.needs(self._classes)
        self.run = self._loop.run

    def _ours(self, claim: Obj) -> Iterable[Request]:
        named = annotations_of(claim).get(PROVISIONER) == self._ctx.driver
        return (request_for(claim),) if named and not spec_of(claim).get("volumeName") and not is_deleting(claim) else ()

    async def reconcile(self, request: Request) -> float | None:
        if request.namespace:
            claim = self._claims.store.get(request.name, request.namespace)
            if claim is not None and list(self._ours(claim)):
                return await self._provide(claim, request)
            self._ctx.patience.done(request)
            return None
        volume = self._volumes.store.get(request.name)
        if volume is not None and self._ctx.is_here(volume):
            await self._take_away(volume)
        return None

    # -- making ------------------------------------------------------------------------------------------------------------------------

    async def _provide(self, claim: Obj, request: Request) -> float | None:
        storage_class = self._classes.store.get(str(spec_of(claim).get("storageClassName") or ""))
        if storage_class is None or storage_class.get("provisioner") != self._ctx.driver:
            return None
        waits = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        selected = annotations_of(claim).get(SELECTED)
        if self._ctx.node and selected and selected != self._ctx.node:
            return None
        if not self._ctx.node and waits and not selected:
            return None
        try:
            source = await self._source(claim)
            if not selected and self._ctx.node:
                if not waits and (source is None or await self._has(source)):
                    await self._mark(claim, self._ctx.node)
                return None
            await self._create(claim, storage_class, source)
        except Refused as error:
            self._event(
                claim,
                "Warning",
                "ProvisioningFailed",
                f'failed to provision volume with StorageClass "{name_of(storage_class)}": {error}',
            )
            return self._ctx.patience.later(request)
        self._ctx.patience.done(request)
        return None

    async def _create(self, claim: Obj, storage_class: Obj, source: Any) -> None:
        parameters = dict(storage_class.get("parameters") or {})
        fs_type = parameters.get(f"{_PREFIX}fstype", "")
        name = f"pvc-{uid_of(claim)}"
        asked = quantity.units(spec_of(claim)["resources"]["requests"]["storage"])
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=asked),
            volume_capabilities=[capability(claim, fs_type)],
            parameters={k: v for k, v in parameters.items() if not k.startswith(_PREFIX)},
            secrets=await self._ctx.secret(
                parameters.get(f"{_PREFIX}provisioner-secret-name", ""),
                parameters.get(f"{_PREFIX}provisioner-secret-namespace", ""),
            ),
            volume_content_source=source,
            accessibility_requirements=await self._requirement(claim, storage_class),
        )
        self._event(
            claim,
            "Normal",
            "Provisioning",
            f'External provisioner is provisioning volume for claim "{namespace_of(claim)}/{name_of(claim)}"',
        )
        try:
            made = (await self._ctx.controller.CreateVolume(request, timeout=TIMEOUT)).volume
        except grpc.aio.AioRpcError as error:
            if error.code() in FINAL and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
                # Another node may have room, or the source.
                await self._mark(claim, None)
            raise Refused(words(error)) from error
        source_spec: Obj = {
            "driver": self._ctx.driver,
            "volumeHandle": made.volume_id,
            "volumeAttributes": dict(made.volume_context),
        }
        if fs_type:
            source_spec["fsType"] = fs_type
        terms = [
            {"matchExpressions": [{"key": k, "operator": "In", "values": [v]} for k, v in each.segments.items()]}
            for each in made.accessible_topology
            if each.segments
        ]
        # As a cloud's volumes have always had them; what counts is the affinity.
        places = [dict(each.segments) for each in made.accessible_topology]
        labels = {key: value for key, value in places[0].items() if key in (ZONE, REGION)} if len(places) == 1 else {}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                **({"labels": labels} if labels else {}),
                "annotations": {PROVISIONED_BY: self._ctx.driver},
                "finalizers": [FINALIZER],
            },
            "spec": {
                "capacity": {"storage": binary(made.capacity_bytes or asked)},
                "accessModes": list(spec_of(claim).get("accessModes") or ()),
                "volumeMode": spec_of(claim).get("volumeMode") or "Filesystem",
                "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
                "storageClassName": name_of(storage_class),
                "mountOptions": list(storage_class.get("mountOptions") or ()),
                "csi": source_spec,
                **({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if terms else {}),
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": namespace_of(claim),
                    "name": name_of(claim),
                    "uid": uid_of(claim),
                },
            },
        }
        try:
            await self._ctx.client.create(PERSISTENT_VOLUMES, volume)
        except ApiError as error:
            if not is_already_exists(error):
                raise
        self._event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")

    async def _requirement(self, claim: Obj, storage_class: Obj) -> Any:
        """Where the volume may be, the likeliest place first; None where that does not matter."""
        if self._ctx.node:
            places = [{self._ctx.topology_key: self._ctx.node}]
        else:
            places = await self._places(annotations_of(claim).get(SELECTED))
            allowed = storage_class.get("allowedTopologies") or ()
            if allowed:
                places = [each for each in places if any(_fits(each, term) for term in allowed)]
                if not places:
                    raise Refused("no node is in a topology that the StorageClass allows")
        if not places:
            return None
        first = zlib.crc32(uid_of(claim).encode()) % len(places)
        topologies = [pb.Topology(segments=each) for each in places[first:] + places[:first]]
        return pb.TopologyRequirement(requisite=topologies, preferred=topologies)

    async def _places(self, selected: str | None) -> list[dict[str, str]]:
        """The topologies of the nodes that have the driver, or of one of them."""
        found: list[dict[str, str]] = []
        listed = (
            [await self._ctx.client.get(CSI_NODES, selected)] if selected else (await self._ctx.client.list(CSI_NODES))["items"]
        )
        for each in listed:
            drivers = spec_of(each).get("drivers") or ()
            keys = next((one.get("topologyKeys") or () for one in drivers if one["name"] == self._ctx.driver), ())
            node = await self._ctx.find(NODES, name_of(each)) if keys else None
            segments = {key: labels_of(node)[key] for key in keys if key in labels_of(node)} if node else {}
            if segments and segments not in found:
                found.append(segments)
        return sorted(found, key=lambda each: sorted(each.items()))

    async def _source(self, claim: Obj) -> Any:
        """What the new volume is a copy of: the claim's data source as CSI names it."""
        reference = spec_of(claim).get("dataSourceRef") or spec_of(claim).get("dataSource")
        if not reference:
            return None
        namespace, name = namespace_of(claim), reference["name"]
        if reference.get("kind") == "VolumeSnapshot":
            found = await self._ctx.find(SNAPSHOTS, name, namespace)
            content = await self._ctx.find(CONTENTS, str(status_of(found or {}).get("boundVolumeSnapshotContentName") or "-"))
            handle = status_of(content or {}).get("snapshotHandle")
            if not handle or not status_of(found or {}).get("readyToUse"):
                raise Refused(f"snapshot {name} is not ready")
            return pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=handle))
        if reference.get("kind") == "PersistentVolumeClaim":
            other = self._claims.store.get(name, namespace)
            volume = self._volumes.store.get(str(spec_of(other or {}).get("volumeName") or "-"))
            if volume is None or (spec_of(volume).get("csi") or {}).get("driver") != self._ctx.driver:
                raise Refused(f"claim {name} is not bound to a volume of this driver")
            handle = spec_of(volume)["csi"]["volumeHandle"]
            return pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=handle))
        raise Refused(f"{reference.get('kind')} is no data source of this driver")

    async def _has(self, source: Any) -> bool:
        """Whether this node's driver has the source."""
        try:
            if source.HasField("snapshot"):
                wanted = pb.ListSnapshotsRequest(snapshot_id=source.snapshot.snapshot_id)
                return bool((await self._ctx.controller.ListSnapshots(wanted, timeout=TIMEOUT)).entries)
            await self._ctx.controller.ControllerGetVolume(
                pb.ControllerGetVolumeRequest(volume_id=source.volume.volume_id), timeout=TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise Refused(words(error)) from error
        return True

    async def _mark(self, claim: Obj, node: str | None) -> None:
        changed = copy_json(claim)
        marks = changed["metadata"].setdefault("annotations", {})
        marks.pop(SELECTED, None)
        if node:
            marks[SELECTED] = node
        await self._ctx.client.update(PERSISTENT_VOLUME_CLAIMS, changed)

    # -- taking away -------------------------------------------------------------------------------------------------------------------

    async def _take_away(self, volume: Obj) -> None:
        released = status_of(volume).get("phase") == "Released"
        delete = spec_of(volume).get("persistentVolumeReclaimPolicy") == "Delete"
        if annotations_of(volume).get(PROVISIONED_BY) != self._ctx.driver:
            return
        if not released or not delete:
            if is_deleting(volume) and status_of(volume).get("phase") != "Bound":
                await self._let_go(volume)
            return
        if any(_volume_name(each) == name_of(volume) for each in self._attachments.store):
            return  # Its end wakes us.
        handle = spec_of(volume)["csi"]["volumeHandle"]
        try:
            await self._ctx.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=handle), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            self._event(volume, "Warning", "VolumeFailedDelete", words(error))
            raise
        volume = await self._let_go(volume)
        try:
            await self._ctx.client.delete(PERSISTENT_VOLUMES, name_of(volume), uid=uid_of(volume))
        except ApiError as error:
            if not is_not_found(error):
                raise

    async def _let_go(self, volume: Obj) -> Obj:
        changed = copy_json(volume)
        return await self._ctx.client.update(PERSISTENT_VOLUMES, changed) if remove_finalizer(changed, FINALIZER) else volume

    def _event(self, obj: Obj, kind: Any, reason: str, message: str) -> None:
        named = "PersistentVolumeClaim" if namespace_of(obj) else "PersistentVolume"
        self._ctx.events.event({"apiVersion": "v1", "kind": named, **obj}, kind, reason, message)


def _fits(segments: dict[str, str], term: Obj) -> bool:
    return all(segments.get(each["key"]) in each["values"] for each in term.get("matchLabelExpressions") or ())


def _volume_name(attachment: Obj) -> str:
    return str((spec_of(attachment).get("source") or {}).get("persistentVolumeName") or "")


def _volume_of(attachment: Obj) -> Iterable[Request]:
    name = _volume_name(attachment)
    return (Request("", name),) if name else ()
