"""From a pod's claim, or its inline CSI volume, to a path on this node.

A node may read the claims, volumes, attachments and secrets of its pods, but not watch them. What they say about a mounted volume is settled, but for its size: a
driver that can make a volume larger on the node, or wants to be asked again (`requiresRepublish`), is looked at once a minute.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kubeling.api import quantity
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, metadata_of, name_of, namespace_of, spec_of, status_of, uid_of
from kubeling.api.resources import (
    CSI_DRIVERS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    SECRETS,
    VOLUME_ATTACHMENTS,
    Resource,
)
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet import hostmounts
from kubeling.kubelet.csi_client import Access
from kubeling.kubelet.csi_volumes import CSIVolume, CSIVolumes, attachment_name, inline_handle
from kubeling.kubelet.hostpaths import VolumeProblem, host_path, local_path
from kubeling.kubelet.tokens import TokenSource

log = get_logger("kubelet.claims")

#: How long a pod waits for its volume to be attached before it says so.
_ATTACH_SECONDS = 120.0
_LOOK_AGAIN = timedelta(seconds=60)
_INFO = "csi.storage.k8s.io/"


@dataclass(slots=True)
class Held:
    """A volume that a pod has. `again` is when its driver is to be asked next, None for never."""

    path: Path
    csi: CSIVolume | None = None
    claim: str = ""
    again: datetime | None = None
    block: bool = False
    read_only: bool = False
    republish: bool = False


def unique_name(driver: str, handle: str) -> str:
    """How Node.status calls an attached volume."""
    return f"kubernetes.io/csi/{driver}^{handle}"


class Claims:
    def __init__(
        self,
        client: Client,
        csi: CSIVolumes,
        tokens: TokenSource,
        node: Callable[[], Object | None],
        node_name: str,
        clock: Clock,
        *,
        mounting: bool = True,
    ) -> None:
        self._client = client
        self._csi = csi
        self._tokens = tokens
        self._node = node
        self._node_name = node_name
        self._clock = clock
        self._mounting = mounting
        self._attached = asyncio.Event()
        self._left_alone: set[asyncio.Task[Path]] = set()
        #: Called when the node has a volume more or less.
        self.use_changed: Callable[[], None] = lambda: None
        self.event: Callable[[Object, str, str], None] = lambda pod, reason, message: None

    def node_changed(self) -> None:
        """The Node is new: something may be attached."""
        self._attached.set()
        self._attached = asyncio.Event()

    def in_use(self) -> list[str]:
        """For Node.status.volumesInUse."""
        return [unique_name(*each) for each in self._csi.in_use()]

    async def claim(self, pod: Object, name: str, *, read_only: bool = False) -> Held:
        """The volume of a claim. VolumeProblem, OSError or ApiError where it cannot be had now."""
        claim, volume = await self._bound(pod, name)
        spec = spec_of(volume)
        if spec.get("csi"):
            found = await self._persistent(pod, volume, read_only)
            held = await self._publish(pod, found)
            held.claim, held.block, held.read_only = name, found.access.block, found.read_only
            await self._grow(pod, claim, volume, held)
            return held
        if spec.get("hostPath"):
            path = host_path(spec["hostPath"]["path"], spec["hostPath"].get("type") or "DirectoryOrCreate")
        elif spec.get("local"):
            path = await asyncio.to_thread(local_path, volume)
        else:
            kind = next((key for key in spec if key.lower().endswith(("disk", "volume", "fs", "iscsi", "rbd", "fc"))), "this")
            raise VolumeProblem(f"no volume plugin matched: this node has no support for {kind} volumes; use a CSI driver")
        group = fs_group(pod)
        if group is not None and spec.get("local") and spec.get("volumeMode") != "Block":
            await self._give(pod, path, group, read_only=False)
        return Held(path, claim=name, block=spec.get("volumeMode") == "Block", read_only=read_only)

    async def inline(self, pod: Object, volume: Mapping[str, Any]) -> Held:
        """An inline CSI volume (`csi` in the pod's own volumes)."""
        source = volume["csi"]
        found = await self._driver_object(source["driver"])
        if "Ephemeral" not in (spec_of(found).get("volumeLifecycleModes") or ["Persistent"]):
            raise VolumeProblem(
                f'volume mode "Ephemeral" not supported by driver {source["driver"]} (only supports ["Persistent"])'
            )
        attributes = {**(source.get("volumeAttributes") or {}), **await self._pod_info(pod, found, ephemeral=True)}
        made = CSIVolume(
            volume["name"],
            source["driver"],
            inline_handle(uid_of(pod), volume["name"]),
            Access(fs_type=source.get("fsType") or ""),
            read_only=bool(source.get("readOnly")),
            ephemeral=True,
            attributes=attributes,
            publish_secrets=await self._secret(source.get("nodePublishSecretRef"), namespace_of(pod)),
        )
        return await self._publish(pod, made)

    async def look_again(self, pod: Object, held: Held) -> None:
        """What the driver of a mounted volume is to be asked from time to time."""
        # Further away than that it can only be by a clock that was set back.
        if held.again is None or held.csi is None or timedelta(0) < held.again - self._clock.now() <= _LOOK_AGAIN:
            return
        held.again = self._clock.now() + _LOOK_AGAIN
        if held.republish:
            found = await self._driver_object(held.csi.driver)
            fresh = await self._pod_info(pod, found, ephemeral=held.csi.ephemeral)
            held.csi = replace(held.csi, attributes={**held.csi.attributes, **fresh})
            await self._csi.publish(uid_of(pod), held.csi, fs_group(pod))
        if held.claim:
            claim, volume = await self._bound(pod, held.claim)
            await self._grow(pod, claim, volume, held)

    # -- what a volume is ------------------------------------------------------------------------------------------------------------

    async def _bound(self, pod: Object, name: str) -> tuple[Object, Object]:
        claim = await self._read(PERSISTENT_VOLUME_CLAIMS, namespace_of(pod), name)
        if claim is None:
            raise VolumeProblem(f'persistentvolumeclaim "{name}" not found')
        bound = spec_of(claim).get("volumeName")
        if not bound or status_of(claim).get("phase") != "Bound":
            raise VolumeProblem(f'persistentvolumeclaim "{name}" is not bound')
        volume = await self._read(PERSISTENT_VOLUMES, "", bound)
        if volume is None:
            raise VolumeProblem(f'persistentvolume "{bound}" not found')
        if (spec_of(volume).get("claimRef") or {}).get("uid") != uid_of(claim):
            raise VolumeProblem(f'persistentvolume "{bound}" is bound to another claim')
        return claim, volume

    async def _persistent(self, pod: Object, volume: Object, read_only: bool) -> CSIVolume:
        spec, source = spec_of(volume), spec_of(volume)["csi"]
        driver = await self._driver_object(source["driver"])
        access = Access(
            block=spec.get("volumeMode") == "Block",
            fs_type=source.get("fsType") or "",
            options=tuple(spec.get("mountOptions") or ()),
            modes=tuple(spec.get("accessModes") or ()),
        )
        made = CSIVolume(
            name_of(volume),
            source["driver"],
            source["volumeHandle"],
            access,
            read_only=read_only or bool(source.get("readOnly")),
            attachable=spec_of(driver).get("attachRequired") is not False,
            attributes={**(source.get("volumeAttributes") or {}), **await self._pod_info(pod, driver, ephemeral=False)},
        )
        if self._csi.is_published(uid_of(pod), made):
            return made
        return replace(
            made,
            published=await self._attachment(made) if made.attachable else {},
            stage_secrets=await self._secret(source.get("nodeStageSecretRef")),
            publish_secrets=await self._secret(source.get("nodePublishSecretRef")),
        )

    async def _driver_object(self, name: str) -> Object:
        """The CSIDriver; upstream's defaults where there is none."""
        return await self._read(CSI_DRIVERS, "", name) or {"metadata": {"name": name}, "spec": {}}

    async def _pod_info(self, pod: Object, driver: Object, *, ephemeral: bool) -> dict[str, str]:
        """What the driver wants to know about the pod."""
        found: dict[str, str] = {}
        spec = spec_of(driver)
        if spec.get("podInfoOnMount"):
            found = {
                f"{_INFO}pod.name": str(metadata_of(pod)["name"]),
                f"{_INFO}pod.namespace": namespace_of(pod),
                f"{_INFO}pod.uid": uid_of(pod),
                f"{_INFO}serviceAccount.name": str(spec_of(pod).get("serviceAccountName") or "default"),
                f"{_INFO}ephemeral": "true" if ephemeral else "false",
            }
        tokens: dict[str, dict[str, str]] = {}
        for each in spec.get("tokenRequests") or ():
            audience = each.get("audience") or ""
            token = await self._tokens.get(pod, audience, int(each.get("expirationSeconds") or 0))
            tokens[audience] = {"token": token.text, "expirationTimestamp": token.expires}
        if tokens:
            found[f"{_INFO}serviceAccount.tokens"] = json.dumps(tokens)
        return found

    async def _attachment(self, volume: CSIVolume) -> dict[str, str]:
        """Wait until the volume is attached here; what the attacher has to say to the driver."""
        name = unique_name(volume.driver, volume.handle)
        try:
            async with asyncio.timeout(_ATTACH_SECONDS):
                while not self._is_attached(name):
                    await self._attached.wait()
        except TimeoutError as error:
            raise VolumeProblem("timed out waiting for the volume to be attached to this node") from error
        found = await self._read(VOLUME_ATTACHMENTS, "", attachment_name(volume.handle, volume.driver, self._node_name))
        if found is None or not status_of(found).get("attached"):
            raise VolumeProblem(f"volume {volume.handle} has no VolumeAttachment that is attached to this node")
        return dict(status_of(found).get("attachmentMetadata") or {})

    def _is_attached(self, name: str) -> bool:
        node = self._node()
        return node is not None and any(each.get("name") == name for each in status_of(node).get("volumesAttached") or ())

    async def _secret(self, reference: Mapping[str, Any] | None, namespace: str = "") -> dict[str, str]:
        if not reference or not reference.get("name"):
            return {}
        where, name = reference.get("namespace") or namespace, reference["name"]
        found = await self._read(SECRETS, where, name)
        if found is None:
            raise VolumeProblem(f'secret "{where}/{name}" not found')
        return {
            key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in (found.get("data") or {}).items()
        }

    # -- having it -------------------------------------------------------------------------------------------------------------------

    async def _publish(self, pod: Object, volume: CSIVolume) -> Held:
        if not self._mounting:
            raise VolumeProblem("this node shares its host's mounts and must leave none there, so it has no CSI volumes")
        uid, group = uid_of(pod), fs_group(pod)
        driver = await self._driver_object(volume.driver)
        if not self._csi.is_published(uid, volume):
            # What a driver has begun it shall end, even if the pod is deleted meanwhile.
            task = asyncio.ensure_future(self._csi.publish(uid, volume, group))
            try:
                path = await asyncio.shield(task)
            except asyncio.CancelledError:
                self._left_alone.add(task)
                task.add_done_callback(self._ended_alone)
                raise
            self.use_changed()
            if group is not None and wants_group(driver, volume) and not self._csi.takes_group(volume.driver):
                await self._give(pod, path, group, read_only=volume.read_only)
        republish = bool(spec_of(driver).get("requiresRepublish"))
        again = self._clock.now() + _LOOK_AGAIN if republish or not volume.ephemeral else None
        return Held(self._csi.target(uid, volume), volume, again=again, republish=republish)

    def _ended_alone(self, task: asyncio.Task[Path]) -> None:
        """Nobody waits for it any more. What it has left is taken back at the end of the pod."""
        self._left_alone.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a volume could not be published, and its pod does not wait for it any more", error=str(error))

    async def _give(self, pod: Object, path: Path, group: int, *, read_only: bool) -> None:
        """The files become the fsGroup's, unless it is enough that the folder is and the pod says so."""
        info = os.stat(path)
        lazy = (spec_of(pod).get("securityContext") or {}).get("fsGroupChangePolicy") == "OnRootMismatch"
        bits = stat.S_ISGID | (0o550 if read_only else 0o770)
        if lazy and info.st_gid == group and info.st_mode & bits == bits:
            return
        await asyncio.to_thread(hostmounts.give_to_group, path, group, read_only=read_only)

    async def _grow(self, pod: Object, claim: Object, volume: Object, held: Held) -> None:
        """The node's part of a volume's growth, and the end of it: the claim's new capacity."""
        wanted = (spec_of(volume).get("capacity") or {}).get("storage")
        has = (status_of(claim).get("capacity") or {}).get("storage")
        if held.csi is None or wanted is None or has is None or quantity.compare(has, wanted) >= 0:
            return
        if await self._csi.expand(uid_of(pod), held.csi, quantity.units(wanted)) is not None:
            message = f'MountVolume.NodeExpandVolume succeeded for volume "{name_of(volume)}"'
            self.event(pod, "FileSystemResizeSuccessful", message)
        status = status_of(claim)
        kept = [each for each in status.get("conditions") or () if each["type"] not in ("Resizing", "FileSystemResizePending")]
        body: dict[str, Any] = {"capacity": {"storage": wanted}, "conditions": kept or None, "allocatedResourceStatuses": None}
        meta = {"uid": uid_of(claim)}
        await self._client.patch(
            PERSISTENT_VOLUME_CLAIMS,
            name_of(claim),
            {"metadata": meta, "status": body},
            namespace_of(claim),
            subresource="status",
        )

    async def _read(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return await self._client.get(resource, name, namespace or None)
        except ApiError as error:
            if error.code == 404:
                return None
            raise


def wants_group(driver: Object, volume: CSIVolume) -> bool:
    """Whether the files of a volume are to become the pod's fsGroup's (KEP-1682)."""
    policy = spec_of(driver).get("fsGroupPolicy") or "ReadWriteOnceWithFSType"
    if volume.access.block or policy == "None":
        return False
    return policy == "File" or (bool(volume.access.fs_type) and "ReadWriteOnce" in volume.access.modes)


def fs_group(pod: Object) -> int | None:
    group = (spec_of(pod).get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)
