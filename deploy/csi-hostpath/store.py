"""The volumes and snapshots of one node: directories, each with a record beside it.

    <root>/volumes/<id>/          what is in the volume (a directory), or <id>.img (a file, for block volumes)
    <root>/volumes/<id>.json      name, size, where it came from
    <root>/snapshots/<id>/  .json the same for snapshots

A record is written (atomically) when what it speaks of is complete, so that a driver that was killed finds a volume either whole or not at all. Ids follow from the
names that the caller chose, which is what makes repeated calls harmless.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


class NoSuchThing(KeyError):
    """There is no volume or snapshot of that id."""


class Taken(Exception):
    """The name is that of something else."""


@dataclass(frozen=True, slots=True)
class Record:
    """A volume, or a snapshot (whose `source` is its volume). Sizes in bytes, times in seconds since 1970."""

    id: str
    name: str
    size: int
    block: bool = False
    source: str = ""
    made: float = 0.0


def id_of(kind: str, name: str) -> str:
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


class Store:
    """One per driver process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for kind in ("volumes", "snapshots"):
            (root / kind).mkdir(parents=True, exist_ok=True)

    # -- volumes -----------------------------------------------------------------------------------------------------------------------

    def volume(self, volume_id: str) -> Record:
        return self._read("volumes", volume_id)

    def volumes(self) -> list[Record]:
        return sorted(self._all("volumes"), key=lambda each: each.id)

    def path(self, record: Record) -> Path:
        """Where the content of a volume lies."""
        return self._root / "volumes" / (f"{record.id}.img" if record.block else record.id)

    def create(self, name: str, size: int, *, block: bool, origin: Path | None, source: str) -> Record:
        """Make a volume, with the content at `origin` if that is given. Taken where one of that name is otherwise."""
        wanted = Record(id_of("vol", name), name, size, block, source)
        try:
            found = self.volume(wanted.id)
        except NoSuchThing:
            pass
        else:
            if (found.block, found.source) != (block, source) or found.size < size:
                raise Taken(f"volume {name} exists already, with another size, mode or source")
            return found
        path = self.path(wanted)
        _remove(path)
        if block:
            if origin is not None:
                shutil.copyfile(origin, path)
            with open(path, "ab") as file:
                file.truncate(size)
        elif origin is not None:
            copy_tree(origin, path)
        else:
            path.mkdir(mode=0o777)
            path.chmod(0o777)
        self._write("volumes", wanted)
        return wanted

    def grow(self, volume_id: str, size: int) -> Record:
        """Volumes never shrink."""
        found = self.volume(volume_id)
        if size <= found.size:
            return found
        if found.block:
            os.truncate(self.path(found), size)
        grown = Record(**{**asdict(found), "size": size})
        self._write("volumes", grown)
        return grown

    def delete(self, volume_id: str) -> None:
        try:
            found = self.volume(volume_id)
        except NoSuchThing:
            return
        _remove(self.path(found))
        self._record("volumes", volume_id).unlink(missing_ok=True)

    # -- snapshots ---------------------------------------------------------------------------------------------------------------------

    def snapshot(self, snapshot_id: str) -> Record:
        return self._read("snapshots", snapshot_id)

    def snapshots(self) -> list[Record]:
        return sorted(self._all("snapshots"), key=lambda each: each.id)

    def snapshot_path(self, record: Record) -> Path:
        return self._root / "snapshots" / (f"{record.id}.img" if record.block else record.id)

    def take(self, name: str, volume_id: str, now: float) -> Record:
        """Copy a volume as it is. Taken where the name is that of a snapshot of another volume."""
        source = self.volume(volume_id)
        wanted = Record(id_of("snap", name), name, source.size, source.block, volume_id, now)
        try:
            found = self.snapshot(wanted.id)
        except NoSuchThing:
            pass
        else:
            if found.source != volume_id:
                raise Taken(f"snapshot {name} exists already, of another volume")
            return found
        path = self.snapshot_path(wanted)
        _remove(path)
        if source.block:
            shutil.copyfile(self.path(source), path)
        else:
            copy_tree(self.path(source), path)
        self._write("snapshots", wanted)
        return wanted

    def drop(self, snapshot_id: str) -> None:
        try:
            found = self.snapshot(snapshot_id)
        except NoSuchThing:
            return
        _remove(self.snapshot_path(found))
        self._record("snapshots", snapshot_id).unlink(missing_ok=True)

    # -- records -----------------------------------------------------------------------------------------------------------------------

    def _record(self, kind: str, thing: str) -> Path:
        # Ids come from callers: none may lead elsewhere.
        if not thing or "/" in thing or thing.startswith("."):
            raise NoSuchThing(thing)
        return self._root / kind / f"{thing}.json"

    def _read(self, kind: str, thing: str) -> Record:
        try:
            return Record(**json.loads(self._record(kind, thing).read_bytes()))
        except FileNotFoundError as error:
            raise NoSuchThing(thing) from error

    def _all(self, kind: str) -> Iterator[Record]:
        for path in (self._root / kind).glob("*.json"):
            try:
                yield Record(**json.loads(path.read_bytes()))
            except FileNotFoundError:
                continue

    def _write(self, kind: str, record: Record) -> None:
        path = self._record(kind, record.id)
        fresh = path.with_suffix(".new")
        with open(fresh, "w", encoding="utf-8") as out:
            json.dump(asdict(record), out)
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(path)

    def free(self) -> int:
        """Bytes that are left for volumes."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize


def copy_tree(source: Path, target: Path) -> None:
    """A copy with owners, modes, times and links. What is no file, folder or link is left out."""
    shutil.copytree(source, target, symlinks=True, ignore=_special)
    for folder, folders, files in os.walk(source):
        inside = target / Path(folder).relative_to(source)
        _own(Path(folder), inside)
        for name in (*folders, *files):
            _own(Path(folder) / name, inside / name)


def _own(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        info = source.lstat()
        try:
            os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
        except PermissionError:
            return  # An ordinary user's files are all that user's.
        if not stat.S_ISLNK(info.st_mode):
            os.chmod(target, stat.S_IMODE(info.st_mode))


def _special(folder: str, names: list[str]) -> set[str]:
    def plain(name: str) -> bool:
        mode = os.lstat(os.path.join(folder, name)).st_mode
        return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)

    return {each for each in names if not plain(each)}


def usage(path: Path) -> tuple[int, int]:
    """Bytes on disk and inodes of a tree."""
    size = inodes = 0
    seen: set[int] = set()
    for folder, folders, files in os.walk(path):
        for name in (".", *files, *(each for each in folders if os.path.islink(os.path.join(folder, each)))):
            try:
                info = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            if info.st_ino not in seen:
                seen.add(info.st_ino)
                size += info.st_blocks * 512
                inodes += 1
    return size, inodes


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
