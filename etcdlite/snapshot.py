"""Snapshot files: the whole state at one log index, checksummed, written beside the running daemon.

A file is: magic, then blocks of length (u32), CRC-32 (u32) and payload. The first block is JSON: log index and term, revisions, leases, alarms, sessions, and how
many records follow; the blocks after it hold encoded ``mvccpb.KeyValue`` messages, each after its length (u32). A block of length 0 ends it, and
zeros fill the last page. ``etcdctl snapshot save`` and a
follower that is far behind are sent these same bytes.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from kubeling.etcdlite.frames import CorruptLog
from kubeling.etcdlite.journal import sync_directory
from kubeling.etcdlite.mvcc import Record

MAGIC = b"kledsnp1"
_BLOCK = struct.Struct(">II")
_LENGTH = struct.Struct(">I")
_BLOCK_BYTES = 256 << 10
_SYNC_BYTES = 1 << 20
#: etcdctl tells a snapshot with its checksum from one without by the size: pages of this, and then the checksum.
_PAGE = 512


@dataclass(slots=True)
class Meta:
    """What a snapshot says beside the records.

    Subs are (position of a record, its place in its transaction) where that is not the first; leases are (id, ttl), alarms (member, kind), sessions (id, recent numbers), published (member, name, client URLs); `configuration` is that of the
    consensus at `index`, encoded and in hex, `removed` the members that are none any more. `auth` is what :meth:`.auth.AuthStore.describe` says, tokens are
    (digest, user).
    """

    index: int
    term: int
    revision: int
    compact_revision: int
    records: int = 0
    subs: list[tuple[int, int]] = field(default_factory=list)
    leases: list[tuple[int, int]] = field(default_factory=list)
    alarms: list[tuple[int, int]] = field(default_factory=list)
    sessions: list[tuple[int, list[int]]] = field(default_factory=list)
    published: list[tuple[int, str, list[str]]] = field(default_factory=list)
    configuration: str = ""
    removed: list[int] = field(default_factory=list)
    auth: dict[str, Any] = field(default_factory=dict)
    tokens: list[tuple[str, str]] = field(default_factory=list)

    def encode(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Meta:
        fields: dict[str, Any] = json.loads(data)
        fields["leases"] = [(one[0], one[1]) for one in fields["leases"]]
        fields["alarms"] = [(one[0], one[1]) for one in fields["alarms"]]
        fields["sessions"] = [(one[0], one[1]) for one in fields["sessions"]]
        fields["subs"] = [(one[0], one[1]) for one in fields.get("subs", ())]
        fields["published"] = [(one[0], one[1], one[2]) for one in fields.get("published", ())]
        fields["tokens"] = [(one[0], one[1]) for one in fields.get("tokens", ())]
        return cls(**fields)


def encode(meta: Meta, records: list[Record]) -> Iterator[bytes]:
    """The bytes of a snapshot, in pieces of a quarter of a megabyte."""
    meta.records = len(records)
    meta.subs = [(at, record.sub) for at, record in enumerate(records) if record.sub]
    head = MAGIC + _block(meta.encode())
    yield head
    written = len(head)
    gathered: list[bytes] = []
    size = 0
    for record in records:
        gathered += (_LENGTH.pack(len(record.wire)), record.wire)
        size += len(record.wire) + _LENGTH.size
        if size >= _BLOCK_BYTES:
            block = _block(b"".join(gathered))
            written += len(block)
            yield block
            gathered, size = [], 0
    tail = _block(b"".join(gathered)) if gathered else b""
    written += len(tail) + _BLOCK.size
    yield tail + bytes(_BLOCK.size + -written % _PAGE)


def decode(data: bytes, name: str) -> tuple[Meta, Iterator[bytes]]:
    """The meta data and the encoded records of a snapshot. Raises CorruptLog, also while the records are being taken."""
    if data[: len(MAGIC)] != MAGIC:
        raise CorruptLog(f"{name} is not a snapshot of etcdlite")
    blocks = _blocks(data, name)
    meta = Meta.decode(next(blocks, b"{}"))
    return meta, _records(blocks, meta.records, name)


def _blocks(data: bytes, name: str) -> Iterator[bytes]:
    at = len(MAGIC)
    while True:
        if at + _BLOCK.size > len(data):
            raise CorruptLog(f"{name} is cut off at offset {at}")
        length, checksum = _BLOCK.unpack_from(data, at)
        if not length:
            return
        payload = data[at + _BLOCK.size : at + _BLOCK.size + length]
        if len(payload) != length or zlib.crc32(payload) != checksum:
            raise CorruptLog(f"{name} is damaged at offset {at}: restore this member from a backup or let it join anew")
        yield payload
        at += _BLOCK.size + length


def _records(blocks: Iterable[bytes], expected: int, name: str) -> Iterator[bytes]:
    count = 0
    for block in blocks:
        at = 0
        while at < len(block):
            (length,) = _LENGTH.unpack_from(block, at)
            at += _LENGTH.size
            yield block[at : at + length]
            at += length
            count += 1
    if count != expected:
        raise CorruptLog(f"{name} holds {count} of its {expected} records")


def _block(payload: bytes) -> bytes:
    return _BLOCK.pack(len(payload), zlib.crc32(payload)) + payload


def read_meta(path: Path) -> Meta:
    """What a snapshot file says beside the records. Raises CorruptLog and OSError."""
    with open(path, "rb") as file:
        head = file.read(len(MAGIC) + _BLOCK.size)
        if head[: len(MAGIC)] != MAGIC or len(head) < len(MAGIC) + _BLOCK.size:
            raise CorruptLog(f"{path.name} is not a snapshot of etcdlite")
        return Meta.decode(next(_blocks(head + file.read(_BLOCK.unpack_from(head, len(MAGIC))[0]), path.name), b"{}"))


def check(file: BinaryIO, path: Path) -> Meta:
    """Put a file that has been written on disk and look whether it is a whole, sound snapshot, blocking. Raises CorruptLog and OSError."""
    with file:
        file.flush()
        os.fsync(file.fileno())
    meta, records = decode(path.read_bytes(), "the leader's snapshot")
    for _ in records:
        pass
    return meta


class SnapshotDirectory:
    """The snapshots of one member; the newest counts, and the one before it is deleted when the new one is durable."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> tuple[Meta, Iterator[bytes]] | None:
        """The newest snapshot, or None. A half-written one has another name and is deleted."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for unfinished in self._directory.glob("*.tmp"):
            unfinished.unlink()
        paths = sorted(self._directory.glob("*.snap"))
        if not paths:
            return None
        return decode(paths[-1].read_bytes(), paths[-1].name)

    def newest(self) -> Path | None:
        """The file of the newest snapshot."""
        return max(self._directory.glob("*.snap"), default=None)

    @property
    def incoming(self) -> Path:
        """Where a snapshot of the leader is kept until it is wanted."""
        return self._directory / "incoming.tmp"

    def claim(self, index: int) -> Path:
        """What came in is wanted: out of the way of the next one, and then to be adopted."""
        path = self._directory / f"{index:016x}.tmp"
        os.rename(self.incoming, path)
        return path

    def save(self, index: int, pieces: Iterable[bytes]) -> None:
        """Write a snapshot durably, blocking; raises OSError (then the directory is as it was)."""
        unfinished = self._directory / f"{index:016x}.tmp"
        try:
            with open(unfinished, "wb") as file:
                unsynced = 0
                for piece in pieces:
                    file.write(piece)
                    unsynced += len(piece)
                    if unsynced >= _SYNC_BYTES:
                        # All at once at the end would keep the log's own writes waiting, since they share the disk's queue.
                        file.flush()
                        os.fdatasync(file.fileno())
                        unsynced = 0
                file.flush()
                os.fsync(file.fileno())
            self.adopt(unfinished, index)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def adopt(self, path: Path, index: int) -> None:
        """Make a file that is on disk the newest snapshot, durably. Raises OSError."""
        final = self._directory / f"{index:016x}.snap"
        os.rename(path, final)
        sync_directory(self._directory)
        for older in self._directory.glob("*.snap"):
            if older.name < final.name:
                older.unlink()
