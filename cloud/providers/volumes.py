"""The disks of the local cloud: directories (or, for block volumes, files) in a folder of the cluster, which any one of its machines can have at a time.

    <folder>/volumes/<id>/               what is on the disk, or <id>.img
    <folder>/volumes/<id>.json           what it is
    <folder>/machines/<node>/<id>        a link: it is attached there

A record is written when its disk is complete and goes after it, so whoever is killed in between leaves something that the same call finishes. An attachment is
its link. Ids follow from names, which makes calls repeatable, and a lock on the folder keeps two controllers apart.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from kubeling.cloud.provider import Conflicting, Exhausted, Missing, ProviderError, Volume

Result = TypeVar("Result")
#: Names and ids become parts of paths.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_FULL = {errno.ENOSPC, errno.EDQUOT}


class LocalVolumes:
    """See :class:`kubeling.cloud.provider.Volumes`."""

    def __init__(self, folder: Path) -> None:
        self._disks, self._machines = folder / "volumes", folder / "machines"

    async def list(self) -> Sequence[Volume]:
        return await self._do(self._list)

    async def find(self, volume: str) -> Volume:
        return await self._do(lambda: self._find(volume))

    async def create(self, name: str, size: int, *, block: bool = False, zone: str = "", region: str = "") -> Volume:
        made = Volume("vol-" + hashlib.sha256(name.encode()).hexdigest()[:32], name, size, block, zone, region)
        return await self._do(lambda: self._create(made))

    async def expand(self, volume: str, size: int) -> Volume:
        return await self._do(lambda: self._expand(volume, size))

    async def delete(self, volume: str) -> None:
        await self._do(lambda: self._delete(volume))

    async def attach(self, volume: str, node: str) -> Mapping[str, str]:
        return await self._do(lambda: self._attach(volume, node))

    async def detach(self, volume: str, node: str) -> None:
        await self._do(lambda: self._detach(volume, node))

    # -- what is done in a thread, one at a time ---------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], Result]) -> Result:
        def alone() -> Result:
            with self._locked():
                return work()

        try:
            return await asyncio.to_thread(alone)
        except OSError as error:
            raise (Exhausted if error.errno in _FULL else ProviderError)(str(error)) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        for each in (self._disks, self._machines):
            each.mkdir(parents=True, exist_ok=True)
        with open(self._disks / ".lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _list(self) -> Sequence[Volume]:
        return [self._find(each.stem) for each in sorted(self._disks.glob("*.json"))]

    def _find(self, volume: str) -> Volume:
        try:
            found = json.loads((self._disks / f"{_plain(volume)}.json").read_bytes())
        except FileNotFoundError as error:
            raise Missing(f"there is no volume {volume}") from error
        nodes = sorted(each.parent.name for each in self._machines.glob(f"*/{volume}"))
        return replace(Volume(**{**found, "nodes": ()}), nodes=tuple(nodes))

    def _path(self, volume: Volume) -> Path:
        return self._disks / (f"{volume.id}.img" if volume.block else volume.id)

    def _create(self, wanted: Volume) -> Volume:
        try:
            found = self._find(wanted.id)
        except Missing:
            pass
        else:
            if found.size < wanted.size or replace(found, size=wanted.size, nodes=()) != wanted:
                raise Conflicting(f"there is a volume {wanted.name} already, of another size, mode or zone")
            return found
        path = self._path(wanted)
        _remove(path)
        if wanted.block:
            with open(path, "wb") as file:
                file.truncate(wanted.size)
        else:
            path.mkdir()
            path.chmod(0o777)
        self._write(wanted)
        return wanted

    def _expand(self, volume: str, size: int) -> Volume:
        found = self._find(volume)
        if size <= found.size:
            return found
        if found.block:
            os.truncate(self._path(found), size)
        grown = replace(found, size=size)
        self._write(grown)
        return grown

    def _delete(self, volume: str) -> None:
        try:
            found = self._find(volume)
        except Missing:
            return
        if found.nodes:
            raise Conflicting(f"volume {volume} is attached to {', '.join(found.nodes)}")
        _remove(self._path(found))
        (self._disks / f"{volume}.json").unlink()

    def _attach(self, volume: str, node: str) -> Mapping[str, str]:
        found = self._find(volume)
        if others := [each for each in found.nodes if each != node]:
            raise Conflicting(f"volume {volume} is attached to {', '.join(others)}")
        link = self._machines / _plain(node) / volume
        if not found.nodes:
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(Path("..", "..", self._disks.name, self._path(found).name))
        return {"machine": node}

    def _detach(self, volume: str, node: str) -> None:
        link = self._machines / _plain(node) / _plain(volume)
        link.unlink(missing_ok=True)
        if link.parent.is_dir() and not any(link.parent.iterdir()):
            link.parent.rmdir()

    def _write(self, volume: Volume) -> None:
        path = self._disks / f"{volume.id}.json"
        fresh = path.with_suffix(".new")
        with open(fresh, "w", encoding="utf-8") as out:
            json.dump(asdict(replace(volume, nodes=())), out)
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(path)


def attached(folder: Path, node: str, volume: str) -> tuple[Volume, Path]:
    """A disk as the machine sees it that it is attached to, and where its content is. Missing where it is not attached there."""
    link = folder / "machines" / _plain(node) / _plain(volume)
    try:
        path = link.resolve(strict=True)
        found = json.loads(path.with_name(f"{volume}.json").read_bytes())
    except FileNotFoundError as error:
        raise Missing(f"volume {volume} is not attached to {node}") from error
    return Volume(**{**found, "nodes": (node,)}), path


def _plain(name: str) -> str:
    """Whatever a caller names must not lead elsewhere."""
    if not _PLAIN.fullmatch(name):
        raise Missing(f"there is no {name!r}")
    return name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
