"""Volumes of CSI drivers: staged once on the node, published to each pod, and taken back in the reverse order.

What has been done stands on disk and nowhere else, in upstream's places: `pods/<uid>/volumes/kubernetes.io~csi/<volume>/vol_data.json` is written before the driver
is called for the first time, and deleted when it has taken everything back. So a kubelet that was killed in between finds what it has to undo, and a volume that is
published already needs no driver to be used again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubeling.kubelet import hostmounts
from kubeling.kubelet.csi_client import Access, CSIFailure, Usage
from kubeling.kubelet.csi_drivers import CSIDrivers, Driver

PLUGIN = "kubernetes.io~csi"
DATA = "vol_data.json"
#: Of a vol_data.json that we have written.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CSIVolume:
    """One volume for one pod. `name` is the PersistentVolume's, or the pod's volume where it is an inline one."""

    name: str
    driver: str
    handle: str
    access: Access
    read_only: bool = False
    ephemeral: bool = False
    attachable: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    #: What the attacher said, for volumes that are attached.
    published: Mapping[str, str] = field(default_factory=dict)
    stage_secrets: Mapping[str, str] = field(default_factory=dict)
    publish_secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Record:
    """A vol_data.json."""

    folder: Path
    driver: str
    handle: str
    ephemeral: bool
    block: bool
    attachable: bool


def inline_handle(uid: str, volume: str) -> str:
    """The handle of an inline volume, which lives and dies with its pod."""
    return "csi-" + hashlib.sha256((uid + volume).encode()).hexdigest()


def attachment_name(handle: str, driver: str, node: str) -> str:
    """The name of the VolumeAttachment of a volume to a node."""
    return "csi-" + hashlib.sha256(f"{handle}{driver}{node}".encode()).hexdigest()


class CSIVolumes:
    def __init__(self, root: Path, pods_dir: Path, drivers: CSIDrivers, node_name: str) -> None:
        self._plugins = root / "plugins" / "kubernetes.io" / "csi"
        self._pods_dir = pods_dir
        self._drivers = drivers
        self._node_name = node_name
        #: One at a time for each volume of the node: the second pod waits until the first has it staged.
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    # -- places ----------------------------------------------------------------------------------------------------------------------

    def folder(self, uid: str, name: str) -> Path:
        return self._pods_dir / uid / "volumes" / PLUGIN / name

    def target(self, uid: str, volume: CSIVolume) -> Path:
        """Where the driver is to show the volume to the pod."""
        if volume.access.block:
            return self._plugins / "volumeDevices" / "publish" / volume.name / uid
        return self.folder(uid, volume.name) / "mount"

    def staging(self, driver: str, handle: str, *, block: bool = False) -> Path:
        """Where the driver keeps the volume for all pods of the node."""
        digest = hashlib.sha256(handle.encode()).hexdigest()
        if block:
            return self._plugins / "volumeDevices" / "staging" / driver / digest
        return self._plugins / driver / digest / "globalmount"

    # -- in --------------------------------------------------------------------------------------------------------------------------

    def is_published(self, uid: str, volume: CSIVolume) -> bool:
        """Whether the pod has the volume already, from before a restart perhaps."""
        found = _read(self.folder(uid, volume.name))
        if found is None or found.handle != volume.handle:
            return False
        target = self.target(uid, volume)
        return target.is_block_device() if volume.access.block else os.path.ismount(target)

    async def publish(self, uid: str, volume: CSIVolume, group: int | None = None) -> Path:
        """Stage (unless that is done) and publish. CSIFailure where the driver cannot. Repeating it does no harm."""
        driver = self._drivers.get(volume.driver)
        async with self._lock(volume.driver, volume.handle):
            self._note(uid, volume)
            staging = ""
            access = volume.access
            if group is not None and driver.abilities.mount_group and not access.block:
                access = Access(access.block, access.fs_type, access.options, access.modes, str(group))
            several = driver.abilities.single_node_multi_writer
            if driver.abilities.stage and not volume.ephemeral:
                staging = str(self.staging(volume.driver, volume.handle, block=access.block))
                os.makedirs(staging, mode=0o750, exist_ok=True)
                await driver.client.stage(
                    volume.handle, staging, access, several, volume.published, volume.attributes, volume.stage_secrets
                )
            target = self.target(uid, volume)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            await driver.client.publish(
                volume.handle,
                staging,
                str(target),
                access,
                several,
                read_only=volume.read_only,
                published=volume.published,
                attributes=volume.attributes,
                secrets=volume.publish_secrets,
            )
        return target

    def takes_group(self, driver: str) -> bool:
        """Whether the driver itself sees to the fsGroup."""
        return self._drivers.get(driver).abilities.mount_group

    async def expand(self, uid: str, volume: CSIVolume, size: int) -> int | None:
        """Have the driver make the volume on this node as large as its disk; None where it has no such call."""
        driver = self._drivers.get(volume.driver)
        if not driver.abilities.expand:
            return None
        async with self._lock(volume.driver, volume.handle):
            staging = str(self.staging(volume.driver, volume.handle, block=volume.access.block)) if driver.abilities.stage else ""
            several = driver.abilities.single_node_multi_writer
            target = str(self.target(uid, volume))
            return (
                await driver.client.expand(volume.handle, target, staging, volume.access, several, size, volume.stage_secrets)
                or size
            )

    async def usage(self, uid: str, name: str) -> Usage | None:
        """What the driver says about a volume of a pod (by the name of :class:`CSIVolume`); None where it does not."""
        found = _read(self.folder(uid, name))
        if found is None or found.block:
            return None
        driver = self._drivers.get(found.driver)
        if not driver.abilities.stats:
            return None
        staging = str(self.staging(found.driver, found.handle)) if driver.abilities.stage and not found.ephemeral else ""
        return await driver.client.usage(found.handle, str(found.folder / "mount"), staging)

    # -- out -------------------------------------------------------------------------------------------------------------------------

    async def take_back(self, uid: str) -> None:
        """Unpublish all that the pod has, and unstage what no other pod needs. CSIFailure where that cannot be: to be tried again."""
        problem: CSIFailure | None = None
        for record in self._records(uid):
            try:
                async with self._lock(record.driver, record.handle):
                    await self._unpublish(uid, record)
            except CSIFailure as error:
                problem = error
        if problem is not None:
            raise problem

    async def _unpublish(self, uid: str, record: _Record) -> None:
        driver = self._drivers.get(record.driver)
        block = self._plugins / "volumeDevices" / "publish" / record.folder.name / uid
        target = block if record.block else record.folder / "mount"
        await driver.client.unpublish(record.handle, str(target))
        await asyncio.to_thread(_clear, target)
        if driver.abilities.stage and not record.ephemeral and not self._others(uid, record):
            await self._unstage(driver, record)
        for name in (DATA, f".{DATA}"):
            (record.folder / name).unlink(missing_ok=True)
        record.folder.rmdir()

    async def _unstage(self, driver: Driver, record: _Record) -> None:
        staging = self.staging(record.driver, record.handle, block=record.block)
        await driver.client.unstage(record.handle, str(staging))
        await asyncio.to_thread(_clear, staging)
        if not record.block:
            staging.parent.rmdir()

    def _others(self, uid: str, record: _Record) -> bool:
        """Whether another pod of the node has the same volume."""
        same = (record.driver, record.handle)
        return any((each.driver, each.handle) == same for pod, each in self._all() if pod != uid)

    def in_use(self) -> list[tuple[str, str]]:
        """(driver, handle) of all attached volumes that pods of this node have, or had and have not given back."""
        return sorted({(each.driver, each.handle) for _, each in self._all() if each.attachable})

    # -- records ---------------------------------------------------------------------------------------------------------------------

    def _lock(self, driver: str, handle: str) -> asyncio.Lock:
        if len(self._locks) > 1024:
            self._locks = {key: lock for key, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault((driver, handle), asyncio.Lock())

    def _note(self, uid: str, volume: CSIVolume) -> None:
        folder = self.folder(uid, volume.name)
        if _read(folder) is not None:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        data = {
            "specVolID": volume.name,
            "volumeHandle": volume.handle,
            "driverName": volume.driver,
            "nodeName": self._node_name,
            "attachmentID": attachment_name(volume.handle, volume.driver, self._node_name),
            "volumeLifecycleMode": "Ephemeral" if volume.ephemeral else "Persistent",
            "attachRequired": volume.attachable,
            "volumeMode": "Block" if volume.access.block else "Filesystem",
        }
        fresh = folder / f".{DATA}"
        with open(fresh, "w", encoding="utf-8") as out:
            json.dump(data, out)
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(folder / DATA)

    def _all(self) -> Iterator[tuple[str, _Record]]:
        """(uid, record) of every pod of the node."""
        return ((pod.name, each) for pod in _listed(self._pods_dir) for each in self._records(pod.name))

    def _records(self, uid: str) -> list[_Record]:
        """What a pod has of CSI. A folder without a readable record was made by a kubelet that died before it called a driver."""
        records = (_read(folder) for folder in _listed(self._pods_dir / uid / "volumes" / PLUGIN))
        return [each for each in records if each is not None]


def _listed(folder: Path) -> list[Path]:
    """What is in the folder, nothing where it has gone: those of pods that end go at any moment."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(folder: Path) -> _Record | None:
    try:
        with open(folder / DATA, "rb") as file:
            data = json.loads(file.read(_MOST_BYTES))
        return _Record(
            folder,
            str(data["driverName"]),
            str(data["volumeHandle"]),
            ephemeral=data.get("volumeLifecycleMode") == "Ephemeral",
            block=data.get("volumeMode") == "Block",
            attachable=bool(data.get("attachRequired")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _clear(target: Path) -> None:
    """Take away an empty mount point, or what a driver has left of its device. OSError where something is still mounted there."""
    left = hostmounts.mounts_under(str(target))
    if left:
        raise CSIFailure("FAILED_PRECONDITION", f"still mounted after the driver took it back: {', '.join(left)}")
    try:
        if target.is_dir() and not target.is_symlink():
            target.rmdir()
        else:
            target.unlink(missing_ok=True)
    except OSError as error:
        raise CSIFailure("FAILED_PRECONDITION", f"cannot remove {target}: {error.strerror}") from error
