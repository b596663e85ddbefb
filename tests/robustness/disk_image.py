"""A disk that knows what it has promised: beside what programs see it keeps what would be left after the power fails. Pure: no kernel in it.

Written data is durable once its file is fsynced, a name once its directory is (POSIX promises no more than that). What lies between is lost in a
power failure: all of it, or, as real disks do it too, some of it, torn at sectors and in any order. A failed fsync leaves programs seeing data that will
never get to the disk, as Linux does it: the pages count as clean afterwards, and a second fsync succeeds without having written them.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

ROOT = 1
_SECTOR = 512


class DiskError(OSError):
    """With the errno that the program is to see."""


def _fail(number: int) -> DiskError:
    return DiskError(number, os.strerror(number))


@dataclass
class Change:
    """Data at an offset, or where `data` is None, a new size."""

    offset: int
    data: bytes | None = None


class File:
    """Contents twice: as seen, and as durable; between the two the changes that no fsync has covered."""

    def __init__(self, number: int, mode: int) -> None:
        self.number, self.mode, self.mtime = number, mode, 0.0
        self._seen = os.memfd_create(f"seen-{number}", os.MFD_CLOEXEC)
        self._durable = os.memfd_create(f"durable-{number}", os.MFD_CLOEXEC)
        self.size = 0
        self.pending: list[Change] = []

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._seen, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        self._apply(self._seen, change := Change(offset, bytes(data)))
        self.size = max(self.size, offset + len(data))
        self.pending.append(change)

    def resize(self, size: int) -> None:
        self._apply(self._seen, change := Change(size))
        self.size = size
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            self._apply(self._durable, change)
        self.pending = []

    def forget_pending(self) -> None:
        """What a failed fsync does: it is seen, and will never be durable."""
        self.pending = []

    def power_failure(self, rng: random.Random | None) -> None:
        """Only what is durable is left; with `rng`, and some of the rest."""
        for change in self.pending if rng else ():
            assert rng is not None
            if change.data is None:
                if rng.random() < 0.5:
                    self._apply(self._durable, change)
                continue
            for start, piece in _sectors(change):
                if rng.random() < 0.5:
                    self._apply(self._durable, Change(start, piece))
        self.pending = []
        size = self.size = os.fstat(self._durable).st_size
        os.ftruncate(self._seen, 0)
        os.ftruncate(self._seen, size)
        offset = 0
        while offset < size:
            offset += os.copy_file_range(self._durable, self._seen, size - offset, offset, offset)

    def close(self) -> None:
        os.close(self._seen)
        os.close(self._durable)

    @staticmethod
    def _apply(fd: int, change: Change) -> None:
        if change.data is None:
            os.ftruncate(fd, change.offset)
        else:
            os.pwrite(fd, change.data, change.offset)


def _sectors(change: Change) -> Iterator[tuple[int, bytes]]:
    """The change in pieces that a disk writes whole."""
    assert change.data is not None
    start, end = change.offset, change.offset + len(change.data)
    while start < end:
        stop = min(end, (start // _SECTOR + 1) * _SECTOR)
        yield start, change.data[start - change.offset : stop - change.offset]
        start = stop


@dataclass
class Directory:
    """Names; `older` are the forms that it had since the last fsync."""

    number: int
    mode: int
    mtime: float = 0.0
    names: dict[str, int] = field(default_factory=dict)
    durable: dict[str, int] = field(default_factory=dict)
    older: list[dict[str, int]] = field(default_factory=list)

    def change(self, name: str, number: int | None) -> None:
        self.names = {one: target for one, target in self.names.items() if one != name}
        if number is not None:
            self.names[name] = number
        self.older.append(self.names)

    def sync(self) -> None:
        self.durable, self.older = dict(self.names), []

    def power_failure(self, rng: random.Random | None) -> None:
        left = rng.choice([self.durable, *self.older]) if rng else self.durable
        self.names, self.durable, self.older = dict(left), dict(left), []


class Disk:
    """A tree of files. `capacity` bytes fit on it; `fsync_error` is what fsyncs answer (0: they work)."""

    def __init__(self, capacity: int = 1 << 40, *, names_follow_files: bool = False) -> None:
        self.capacity, self.fsync_error = capacity, 0
        #: As ext4 does it: to fsync a new file makes its name durable too.
        self.names_follow_files = names_follow_files
        self.nodes: dict[int, File | Directory] = {ROOT: Directory(ROOT, 0o755)}
        self._next = ROOT + 1
        self.fsyncs = self.lost = 0

    def directory(self, number: int) -> Directory:
        node = self.nodes[number]
        if not isinstance(node, Directory):
            raise _fail(errno.ENOTDIR)
        return node

    def file(self, number: int) -> File:
        node = self.nodes[number]
        if not isinstance(node, File):
            raise _fail(errno.EISDIR)
        return node

    def lookup(self, parent: int, name: str) -> File | Directory:
        number = self.directory(parent).names.get(name)
        if number is None:
            raise _fail(errno.ENOENT)
        return self.nodes[number]

    def create(self, parent: int, name: str, mode: int, *, directory: bool = False) -> File | Directory:
        names = self.directory(parent)
        if name in names.names:
            raise _fail(errno.EEXIST)
        number, self._next = self._next, self._next + 1
        node: File | Directory = Directory(number, mode) if directory else File(number, mode)
        self.nodes[number] = node
        names.change(name, number)
        return node

    def remove(self, parent: int, name: str, *, directory: bool = False) -> None:
        node = self.lookup(parent, name)
        if isinstance(node, Directory) != directory:
            raise _fail(errno.ENOTDIR if directory else errno.EISDIR)
        if isinstance(node, Directory) and node.names:
            raise _fail(errno.ENOTEMPTY)
        self.directory(parent).change(name, None)

    def rename(self, parent: int, name: str, to: int, new: str, *, replace: bool = True) -> None:
        node = self.lookup(parent, name)
        other = self.directory(to).names.get(new)
        if other is not None and not replace:
            raise _fail(errno.EEXIST)
        if other is not None and isinstance(self.nodes[other], Directory) and self.directory(other).names:
            raise _fail(errno.ENOTEMPTY)
        # In one directory it is one change: no power failure shows neither name.
        if parent == to:
            target = self.directory(to)
            names = {one: number for one, number in target.names.items() if one not in (name, new)}
            target.names = names | {new: node.number}
            target.older.append(target.names)
        else:
            self.directory(to).change(new, node.number)
            self.directory(parent).change(name, None)

    def write(self, number: int, offset: int, data: bytes) -> None:
        node = self.file(number)
        self._room(offset + len(data) - node.size)
        node.write(offset, data)

    def resize(self, number: int, size: int) -> None:
        node = self.file(number)
        self._room(size - node.size)
        node.resize(size)

    def _room(self, more: int) -> None:
        if more > 0 and self.used + more > self.capacity:
            raise _fail(errno.ENOSPC)

    @property
    def used(self) -> int:
        return sum(node.size for node in self.nodes.values() if isinstance(node, File))

    def sync(self, number: int) -> None:
        """fsync of a file or a directory."""
        node = self.nodes[number]
        self.fsyncs += 1
        if self.fsync_error:
            if isinstance(node, File):
                node.forget_pending()
            raise _fail(self.fsync_error)
        node.sync()
        if isinstance(node, File) and self.names_follow_files:
            for one in self.nodes.values():
                if isinstance(one, Directory):
                    one.sync()
        self.sweep()

    def sweep(self, in_use: frozenset[int] = frozenset()) -> None:
        """Let go of files that have no name any more, neither seen nor durable."""
        self.in_use = in_use or getattr(self, "in_use", frozenset())
        named = {ROOT, *self.in_use}
        for node in self.nodes.values():
            if isinstance(node, Directory):
                for names in (node.names, node.durable, *node.older):
                    named.update(names.values())
        for number in [number for number in self.nodes if number not in named]:
            node = self.nodes.pop(number)
            if isinstance(node, File):
                node.close()

    def power_failure(self, rng: random.Random | None = None) -> None:
        """What was not fsynced is lost (with `rng`: any part of it)."""
        for node in list(self.nodes.values()):
            self.lost += bool(node.pending if isinstance(node, File) else node.older)
            node.power_failure(rng)
        self.in_use = frozenset()
        self.sweep()
