"""What pods use: memory and writable layers as the runtime counts them, logs and emptyDirs by looking at the files.

Looking at files costs, so it is done only for pods whose limits must be enforced, and for all of them when the disk runs short; and after a look that took
long nobody looks for ten times as long again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kubeling.api.meta import Object, spec_of, uid_of
from kubeling.kubelet.convert import log_directory
from kubeling.kubelet.podstate import CONTAINER_NAME, POD_UID
from kubeling.kubelet.ranking import Usage

if TYPE_CHECKING:
    from kubeling.kubelet.context import Context

#: Beyond this many files a pod is not looked at any further: what was found until then counts.
MAX_FILES = 1_000_000


def disk_usage(folder: str) -> tuple[int, int]:
    """Bytes and inodes that the tree under `folder` takes up on its own file system. What vanishes meanwhile is not counted."""
    size, count, seen = 0, 0, set()
    try:
        device = os.lstat(folder).st_dev
    except OSError:
        return 0, 0
    stack = [folder]
    while stack and count < MAX_FILES:
        try:
            entries = os.scandir(stack.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    info = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if info.st_dev != device:
                    continue
                count += 1
                if info.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if info.st_ino in seen:
                        continue
                    seen.add(info.st_ino)
                size += info.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return size, count


class UsageReader:
    """Measures pods."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def measure(self, pods: Iterable[Object], *, disk: bool) -> dict[str, Usage]:
        """The usage of each pod by its uid; the files of those are looked at with `disk`. Raises RuntimeFailure."""
        wanted = {uid_of(each): each for each in pods}
        found = {uid: Usage() for uid in wanted}
        for stats in await self._context.runtime.container_stats():
            labels = stats.attributes.labels
            usage = found.get(labels.get(POD_UID, ""))
            if usage is None:
                continue
            name = labels.get(CONTAINER_NAME, "")
            if stats.HasField("memory"):
                usage.memory[name] = usage.memory.get(name, 0) + stats.memory.working_set_bytes.value
            if stats.HasField("writable_layer"):
                usage.disk[name] = usage.disk.get(name, 0) + stats.writable_layer.used_bytes.value
                usage.inodes += stats.writable_layer.inodes_used.value
        for uid, pod in wanted.items():
            found[uid].pids = self._context.cgroups.pids(pod)
            if disk:
                await asyncio.to_thread(self._files, pod, found[uid])
        return found

    def _files(self, pod: Object, usage: Usage) -> None:
        config = self._context.config
        volumes = config.pods_dir / uid_of(pod) / "volumes" / "kubernetes.io~empty-dir"
        for volume in spec_of(pod).get("volumes") or ():
            if volume.get("emptyDir") is not None:
                size, inodes = disk_usage(str(volumes / volume["name"]))
                if (volume["emptyDir"] or {}).get("medium") in (None, ""):
                    usage.inodes += inodes
                    usage.volumes[volume["name"]] = size
        logs = Path(log_directory(str(config.logs_dir), pod))
        if logs.is_dir():
            for folder in logs.iterdir():
                size, inodes = disk_usage(str(folder))
                usage.disk[folder.name] = usage.disk.get(folder.name, 0) + size
                usage.inodes += inodes
