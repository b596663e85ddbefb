"""Rotating container logs by size: the file is renamed, the runtime is told to open a new one, old ones are compressed and then deleted."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import gzip
import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kubeling.daemon.log import get_logger
from kubeling.kubelet.context import Context
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.podstate import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

log = get_logger("kubelet.logs")

CHECK_SECONDS = 10.0
#: The shortest time between two looks, while a log grows so fast that it would be full before the next one.
BUSY_SECONDS = 0.2


_STAMP = re.compile(r"\d{8}-\d{6}-\d{6,}")


class LogRotator:
    """Looks at the sizes every ten seconds while there are logs, a stat for each container; sooner while one of them grows fast."""

    def __init__(self, context: Context, max_size: int, max_files: int) -> None:
        self._context = context
        self._max_size = max_size
        self._max_files = max_files
        self._sizes: dict[str, int] = {}

    async def run(self) -> None:
        pause = CHECK_SECONDS
        while True:
            await self._context.clock.sleep(pause)
            pause = self._next_look(pause)
            if any(size > self._max_size for size in self._sizes.values()):
                await self.check()

    def _next_look(self, since: float) -> float:
        """See how large the logs are, `since` seconds after the last time: when the one that grows fastest will be full."""
        before, self._sizes = self._sizes, self._look()
        rate = max((size - before.get(path, 0) for path, size in self._sizes.items()), default=0) / since
        return min(max(self._max_size / rate, BUSY_SECONDS), CHECK_SECONDS) if rate > 0 else CHECK_SECONDS

    def _look(self) -> dict[str, int]:
        """The sizes of the logs, without asking the runtime, so that a quiet node costs nothing."""
        found = {}
        # Not Path.glob: that one raises where a folder goes while it is looked through.
        for each in glob.iglob(f"{glob.escape(str(self._context.config.logs_dir))}/*/*/*.log"):
            with contextlib.suppress(FileNotFoundError):
                found[each] = os.stat(each).st_size
        return found

    async def check(self) -> None:
        """Rotate what has grown too big."""
        try:
            containers = await self._context.runtime.list_containers()
        except RuntimeFailure as error:
            log.debug("cannot list containers for log rotation", error=str(error))
            return
        for each in containers:
            path = self._path(each)
            if each.state == 1 and _size(path) > self._max_size:
                await self.rotate(each.id, path)
                self._sizes[str(path)] = 0

    def _path(self, container: cri_pb2.Container) -> Path:
        labels = container.labels
        folder = f"{labels.get(POD_NAMESPACE, '')}_{labels.get(POD_NAME, '')}_{labels.get(POD_UID, '')}"
        name = labels.get(CONTAINER_NAME, "")
        return self._context.config.logs_dir / folder / name / f"{container.metadata.attempt}.log"

    async def rotate(self, container_id: str, path: Path) -> None:
        """One log. Where the runtime will not open a new file, the old one gets its name back."""
        try:
            aside = path.with_name(f"{path.name}.{_after(_stamp(self._context.clock.now()), path)}")
            os.rename(path, aside)
            try:
                await self._context.runtime.reopen_log(container_id)
            except RuntimeFailure as error:
                log.warning("a log could not be rotated", path=str(path), error=str(error))
                _put_back(aside, path)
                return
            old = _rotated(path)
            kept = old[max(0, len(old) - (self._max_files - 1)) :]
            for each in path.parent.glob(f"{path.name}.*"):
                # What is half compressed was left by a kubelet that died.
                if each not in kept:
                    each.unlink(missing_ok=True)
            # The newest stays as it is: somebody may be reading it to its end.
            for each in kept:
                if each != aside and each.suffix != ".gz":
                    await asyncio.to_thread(self._shrink, each)
        except OSError as error:
            log.warning("a log could not be rotated", path=str(path), error=str(error))

    def _shrink(self, path: Path) -> None:
        """Compress it; what a flood has made larger than all files together may be goes instead: it would take longer than the next one takes to come."""
        if _size(path) > self._max_size * self._max_files:
            path.unlink(missing_ok=True)
        else:
            _compress(path)


def _rotated(path: Path) -> list[Path]:
    """What was rotated away of a log, the oldest first."""
    return sorted(each for each in path.parent.glob(f"{path.name}.*") if each.suffix != ".tmp")


def _after(stamp: str, path: Path) -> str:
    """`stamp`, or by a clock that was set back the next one after the newest, since their order is that of their names."""
    stamps = (each.name[len(path.name) + 1 :].removesuffix(".gz") for each in _rotated(path))
    newest = max((each for each in stamps if _STAMP.fullmatch(each)), default="")
    if stamp > newest:
        return stamp
    head, _, last = newest.rpartition("-")
    return f"{head}-{int(last) + 1:06d}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _put_back(aside: Path, path: Path) -> None:
    if not path.exists():
        aside.rename(path)


def _stamp(now: datetime) -> str:
    return now.strftime("%Y%m%d-%H%M%S-%f")


def _compress(path: Path) -> None:
    part = path.with_name(path.name + ".tmp")
    try:
        with open(path, "rb") as source, gzip.open(part, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target)
        part.rename(path.with_name(path.name + ".gz"))
    except OSError:
        part.unlink(missing_ok=True)  # The disk is full: it stays as it is.
        raise
    path.unlink(missing_ok=True)
