"""How full the volumes of pods are, for `/stats/summary`: a CSI driver is asked, folders are counted, and what was found is good for a minute."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubeling.api.times import format_time
from kubeling.daemon.clock import Clock
from kubeling.kubelet.claims import Held
from kubeling.kubelet.csi_volumes import CSIVolumes

_GOOD_FOR = 60.0


class VolumeStats:
    """Keeps the last answers, one a pod."""

    def __init__(self, csi: CSIVolumes, clock: Clock) -> None:
        self._csi = csi
        self._clock = clock
        self._known: dict[str, tuple[float, list[dict[str, Any]]]] = {}

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)

    async def of_pod(self, uid: str, namespace: str, paths: Mapping[str, Path], held: Mapping[str, Held]) -> list[dict[str, Any]]:
        """The `volume` list of a pod."""
        known = self._known.get(uid)
        if (
            known is not None
            and self._clock.monotonic() - known[0] < _GOOD_FOR
            and {each["name"] for each in known[1]} <= set(paths)
        ):
            return known[1]
        found = []
        for name, path in paths.items():
            numbers = await self._measure(uid, path, held.get(name))
            if numbers is not None:
                stats: dict[str, Any] = {"time": format_time(datetime.now(UTC)), "name": name, **numbers}
                if name in held and held[name].claim:
                    stats["pvcRef"] = {"name": held[name].claim, "namespace": namespace}
                found.append(stats)
        self._known[uid] = (self._clock.monotonic(), found)
        return found

    async def _measure(self, uid: str, path: Path, held: Held | None) -> dict[str, Any] | None:
        # Down here, as it knows of the whole kubelet and that of us.
        from kubeling.kubelet.usage import disk_usage

        try:
            if held is not None and held.csi is not None:
                return await self._ask(uid, held)
            if held is not None or await asyncio.to_thread(os.path.ismount, path):
                return _whole(path)
            used, inodes = await asyncio.to_thread(disk_usage, str(path))
            return {**_whole(path), "usedBytes": used, "inodesUsed": inodes}
        except OSError:
            return None  # It is being taken away, or its driver is not there: nothing is known of it now.

    async def _ask(self, uid: str, held: Held) -> dict[str, Any] | None:
        assert held.csi is not None
        usage = await self._csi.usage(uid, held.csi.name)
        if usage is None:
            return None
        fields = {
            "availableBytes": usage.available,
            "capacityBytes": usage.total,
            "usedBytes": usage.used,
            "inodesFree": usage.inodes_free,
            "inodes": usage.inodes,
            "inodesUsed": usage.inodes_used,
        }
        found: dict[str, Any] = {key: value for key, value in fields.items() if value is not None}
        found["volumeHealthStats"] = {"abnormal": bool(usage.abnormal)}
        return found


def _whole(path: Path) -> dict[str, Any]:
    """The file system that the path is in."""
    found = os.statvfs(path)
    return {
        "availableBytes": found.f_bavail * found.f_frsize,
        "capacityBytes": found.f_blocks * found.f_frsize,
        "usedBytes": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "inodesFree": found.f_ffree,
        "inodes": found.f_files,
        "inodesUsed": found.f_files - found.f_ffree,
    }


_METRICS = (
    ("available_bytes", "availableBytes", "Number of available bytes in the volume"),
    ("capacity_bytes", "capacityBytes", "Capacity in bytes of the volume"),
    ("used_bytes", "usedBytes", "Number of used bytes in the volume"),
    ("inodes", "inodes", "Maximum number of inodes in the volume"),
    ("inodes_free", "inodesFree", "Number of free inodes in the volume"),
    ("inodes_used", "inodesUsed", "Number of used inodes in the volume"),
)


def metrics(volumes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The lines of `/metrics` about the claims of pods, each once, however many pods have it. Input as :meth:`VolumeStats.of_pod` gives it."""
    claims = {(each["pvcRef"]["namespace"], each["pvcRef"]["name"]): each for each in volumes if "pvcRef" in each}
    lines: list[str] = []
    for name, field, words in _METRICS:
        found = [(key, each[field]) for key, each in sorted(claims.items()) if field in each]
        if found:
            lines += [f"# HELP kubelet_volume_stats_{name} {words}", f"# TYPE kubelet_volume_stats_{name} gauge"]
        for (namespace, claim), value in found:
            lines.append(f'kubelet_volume_stats_{name}{{namespace="{namespace}",persistentvolumeclaim="{claim}"}} {value}')
    return lines
