"""A file system for the kernel, out of a :class:`Disk`: the FUSE protocol, spoken over /dev/fuse without a library.

One request is answered after another, so what a program has been told was fsynced has been. The numbers are the kernel's (linux/fuse.h).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections import Counter
from collections.abc import Callable

from kubeling.linux import syscalls

from .disk_image import ROOT, Directory, Disk, DiskError, File

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_ENTRY = struct.Struct("<4Q2I")
_SETATTR = struct.Struct("<IIQQQ3Q3I5I")
_READ = struct.Struct("<QQIIQII")
_DIRENT = struct.Struct("<QQII")
_KEEP_SECONDS = 3600
_MAX_WRITE = 1 << 20
_SIZE_VALID, _MODE_VALID = 8, 1
_NOREPLACE = 1


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


class Mount:
    """One mount of a disk. After a power failure it is closed, and a new one made: the kernel's caches are gone with it."""

    def __init__(self, disk: Disk, path: str, fsync_seconds: Callable[[], float] = lambda: 0.0) -> None:
        self._disk, self._path, self._fsync_seconds = disk, path, fsync_seconds
        self._known: Counter[int] = Counter()
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        syscalls.mount(
            "lossy", path, "fuse", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"fd={self.fd},rootmode=40000,user_id=0,group_id=0"
        )
        self._handlers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: lambda node, _: self._attributes(node),
            4: self._set_attributes,
            8: lambda node, data: self._make(node, data[16:], struct.unpack_from("<I", data)[0]),
            9: lambda node, data: self._make(node, data[8:], struct.unpack_from("<I", data)[0], directory=True),
            10: lambda node, data: self._remove(node, data, directory=False),
            11: lambda node, data: self._remove(node, data, directory=True),
            12: lambda node, data: self._rename(node, data, 8),
            14: lambda node, _: bytes(16),
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: lambda node, _: b"",
            20: self._fsync,
            25: lambda node, _: b"",
            26: self._init,
            27: lambda node, _: bytes(16),
            28: self._readdir,
            29: lambda node, _: b"",
            30: self._fsync,
            35: lambda node, data: self._make(node, data[16:], struct.unpack_from("<II", data)[1] | stat.S_IFREG) + bytes(16),
            43: self._fallocate,
            45: lambda node, data: self._rename(node, data, 16),
        }

    def close(self) -> None:
        """Take it away, whoever may still use it: they get errors."""
        syscalls.umount(self._path, syscalls.MNT_DETACH)
        os.close(self.fd)

    def serve_one(self) -> None:
        """Read a request and answer it."""
        try:
            raw = os.read(self.fd, _MAX_WRITE + 4096)
        except OSError as error:
            # The request was taken back meanwhile.
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return
            raise
        _, opcode, unique, node, *_ = _IN.unpack_from(raw)
        data = raw[_IN.size :]
        if opcode in (2, 42):
            self._forget(opcode, node, data)
            return
        if opcode in (36, 38):
            return
        error_number, answer = 0, b""
        handler = self._handlers.get(opcode)
        try:
            if handler is None:
                raise DiskError(errno.ENOSYS, "not here")
            answer = handler(node, data)
        except DiskError as error:
            error_number = -(error.errno or errno.EIO)
        try:
            os.write(self.fd, _OUT.pack(_OUT.size + len(answer), error_number, unique) + answer)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _init(self, _: int, data: bytes) -> bytes:
        _, _, read_ahead, flags = struct.unpack_from("<4I", data)
        wanted = flags & (1 << 5 | 1 << 22)  # Big writes; more than 32 pages at once.
        return struct.pack("<4IHHIIHHI7I", 7, 31, read_ahead, wanted, 12, 10, _MAX_WRITE, 1, _MAX_WRITE // 4096, 0, *([0] * 8))

    def _forget(self, opcode: int, node: int, data: bytes) -> None:
        if opcode == 2:
            self._known[node] -= struct.unpack_from("<Q", data)[0]
        else:
            for index in range(struct.unpack_from("<I", data)[0]):
                number, count = struct.unpack_from("<QQ", data, 8 + 16 * index)
                self._known[number] -= count
        self._known = +self._known
        self._disk.sweep(frozenset(self._known) | {ROOT})

    # Names.

    def _lookup(self, parent: int, data: bytes) -> bytes:
        return self._entry(self._disk.lookup(parent, _text(data)))

    def _make(self, parent: int, data: bytes, mode: int, *, directory: bool = False) -> bytes:
        return self._entry(self._disk.create(parent, _text(data), stat.S_IMODE(mode), directory=directory))

    def _remove(self, parent: int, data: bytes, *, directory: bool) -> bytes:
        self._disk.remove(parent, _text(data), directory=directory)
        return b""

    def _rename(self, parent: int, data: bytes, head: int) -> bytes:
        to, flags = struct.unpack_from("<QI", data) if head == 16 else (*struct.unpack_from("<Q", data), 0)
        if flags & ~_NOREPLACE:
            raise DiskError(errno.EINVAL, "exchange")
        old, new = data[head:].split(b"\0")[:2]
        self._disk.rename(parent, _text(old), to, _text(new), replace=not flags & _NOREPLACE)
        return b""

    def _readdir(self, node: int, data: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", data)
        entries = [(".", node), ("..", node), *sorted(self._disk.directory(node).names.items())]
        answer = b""
        for position, (name, number) in enumerate(entries[offset:], offset + 1):
            raw = name.encode("utf-8", "surrogateescape")
            kind = 4 if isinstance(self._disk.nodes[number], Directory) else 8
            entry = _DIRENT.pack(number, position, len(raw), kind) + raw + bytes(-len(raw) % 8)
            if len(answer) + len(entry) > size:
                break
            answer += entry
        return answer

    # Attributes.

    def _entry(self, node: File | Directory) -> bytes:
        self._known[node.number] += 1
        self._disk.in_use = frozenset(self._known) | {ROOT}
        return _ENTRY.pack(node.number, 0, _KEEP_SECONDS, _KEEP_SECONDS, 0, 0) + self._stat(node)

    def _attributes(self, number: int) -> bytes:
        return struct.pack("<QII", _KEEP_SECONDS, 0, 0) + self._stat(self._disk.nodes[number])

    @staticmethod
    def _stat(node: File | Directory) -> bytes:
        size = node.size if isinstance(node, File) else 4096
        kind = stat.S_IFREG if isinstance(node, File) else stat.S_IFDIR
        when = int(node.mtime)
        blocks = -(-size // 512)
        return _ATTR.pack(node.number, size, blocks, when, when, when, 0, 0, 0, kind | node.mode, 1, 0, 0, 0, 4096, 0)

    def _set_attributes(self, number: int, data: bytes) -> bytes:
        valid, _, _, size, *rest = _SETATTR.unpack_from(data)
        node = self._disk.nodes[number]
        if valid & _SIZE_VALID:
            self._disk.resize(number, size)
        if valid & _MODE_VALID:
            node.mode = stat.S_IMODE(rest[7])
        node.mtime = time.time()
        return self._attributes(number)

    def _statfs(self, _: int, __: bytes) -> bytes:
        total, free = self._disk.capacity // 4096, max(0, self._disk.capacity - self._disk.used) // 4096
        return struct.pack("<5Q10I", total, free, free, 1 << 20, 1 << 20, 4096, 255, 4096, *([0] * 7))

    # Data.

    def _read(self, node: int, data: bytes) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(data)
        return self._disk.file(node).read(offset, size)

    def _write(self, node: int, data: bytes) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(data)
        self._disk.write(node, offset, data[_READ.size : _READ.size + size])
        self._disk.nodes[node].mtime = time.time()
        return struct.pack("<II", size, 0)

    def _fallocate(self, node: int, data: bytes) -> bytes:
        _, offset, length, mode = struct.unpack_from("<QQQI", data)
        if mode:
            raise DiskError(errno.EOPNOTSUPP, "only plain allocation")
        if offset + length > self._disk.file(node).size:
            self._disk.resize(node, offset + length)
        return b""

    def _fsync(self, node: int, _: bytes) -> bytes:
        if seconds := self._fsync_seconds():
            time.sleep(seconds)
        self._disk.sync(node)
        return b""
