"""Static pods: the pods of a folder of manifests, which run with no apiserver and whatever the apiserver says.

The folder is read at the start and whenever inotify tells of a change. A file that cannot be read as a pod is reported once and leaves the pod that it
was before running, since it may be half written; only a file that is gone takes its pod away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeling.api.meta import Object, key_of, metadata_of
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet.filewatch import FolderWatch
from kubeling.kubelet.manifests import ManifestProblem, static_pod

log = get_logger("kubelet.static")

MAX_FILES = 1024


@dataclass(slots=True)
class _File:
    data: bytes
    pod: Object | None


class ManifestFolder:
    """`apply` is called with all static pods, by `namespace/name`, whenever they have changed; first as soon as they are known."""

    def __init__(self, folder: Path, node_name: str, clock: Clock, apply: Callable[[Mapping[str, Object]], None]) -> None:
        self._folder = folder
        self._node_name = node_name
        self._clock = clock
        self._apply = apply
        self._files: dict[str, _File] = {}

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        backoff = Backoff(base=0.5, limit=20.0)
        while True:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with FolderWatch(self._folder) as watch:
                    backoff.reset()
                    await self._follow(watch)
            except OSError as error:
                log.warning("the folder of static pods cannot be read", folder=str(self._folder), error=str(error))
            await self._clock.sleep(backoff.next())

    async def _follow(self, watch: FolderWatch) -> None:
        """Until the folder is no more."""
        first = True
        while self._folder.is_dir():
            watch.changed.clear()
            if await asyncio.to_thread(self._read) or first:
                self._apply(self.pods())
            first = False
            await watch.changed.wait()

    def pods(self) -> dict[str, Object]:
        """What the files say now. Of two files with the same pod the first by name counts."""
        found: dict[str, Object] = {}
        for name, each in sorted(self._files.items()):
            if each.pod is None:
                continue
            if key_of(each.pod) in found:
                log.warning("two files describe the same static pod, the later one is left out", file=name, pod=key_of(each.pod))
                continue
            found[key_of(each.pod)] = each.pod
        return found

    def _read(self) -> bool:
        """Read the folder anew; whether anything has changed."""
        paths = [each for each in sorted(self._folder.iterdir()) if not each.name.startswith(".") and each.is_file()]
        if len(paths) > MAX_FILES:
            log.warning("too many files, the rest is left out", folder=str(self._folder), limit=MAX_FILES)
        changed = False
        names = {each.name for each in paths[:MAX_FILES]}
        for gone in set(self._files) - names:
            changed = self._files.pop(gone).pod is not None or changed
        for path in paths[:MAX_FILES]:
            changed = self._one(path) or changed
        return changed

    def _one(self, path: Path) -> bool:
        before = self._files.get(path.name)
        try:
            data = path.read_bytes()
        except OSError as error:
            log.warning("a manifest cannot be read", file=str(path), error=str(error))
            return False
        if before is not None and before.data == data:
            return False
        kept = before.pod if before is not None else None
        try:
            pod = static_pod(data, str(path), self._node_name, self._clock.now())
        except ManifestProblem as problem:
            log.warning("a file is not a static pod", file=str(path), error=str(problem))
            self._files[path.name] = _File(data, kept)
            return False
        self._files[path.name] = _File(data, pod)
        if kept is not None and metadata_of(kept)["uid"] == metadata_of(pod)["uid"]:
            self._files[path.name].pod = kept
            return False
        return True
