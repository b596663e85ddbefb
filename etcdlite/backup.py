"""Backups in etcd's own format: what ``snapshot save`` gets, ``etcdctl snapshot status|restore`` and real etcd read, and :mod:`.backup_tool` restores.

A backup is a bbolt database (see :mod:`.bolt`) and behind it the SHA-256 of it. Bucket ``key`` holds every version of every key under its revision
(main u64, ``_``, sub u64, big-endian; and a ``t`` for a deletion), ``meta`` the compacted revision, ``lease`` the leases with their times to live in seconds,
``authUsers`` and ``authRoles`` the users and roles by name.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kubeling.etcdlite import bolt, wire
from kubeling.etcdlite.castagnoli import crc32c
from kubeling.etcdlite.mvcc import Record
from kubeling.etcdlite.snapshot import Meta
from kubeling.proto import mvcc_pb2
from kubeling.proto.auth_pb2 import Role, User

_REVISION = struct.Struct(">QcQ")
_ID = struct.Struct(">Q")
_TOMBSTONE = b"t"
_ENABLED, _AUTH_REVISION = b"authEnabled", b"authRevision"
_DIGEST = hashlib.sha256().digest_size
#: The buckets that real etcd has in every database.
_BUCKETS = (
    b"alarm",
    b"auth",
    b"authRoles",
    b"authUsers",
    b"cluster",
    b"key",
    b"lease",
    b"members",
    b"members_removed",
    b"meta",
)


class BackupError(Exception):
    """The file is not a backup, or is damaged."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a backup holds; as ``etcdctl snapshot status`` shows it."""

    hash: int
    revision: int
    keys: int
    size: int


class _Versions:
    """Records, sorted by their revisions, as the items of the bucket ``key``."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[bolt.Item]:
        return map(item, self._records)


def item(record: Record) -> bolt.Item:
    """A record as it is in the bucket ``key``."""
    name = _REVISION.pack(record.mod, b"_", record.sub)
    if record.version:
        return name, record.wire
    return name + _TOMBSTONE, mvcc_pb2.KeyValue(key=record.key).SerializeToString()


def encode(meta: Meta, records: Iterable[Record]) -> bolt.Database:
    """The database, without the checksum behind it."""
    items = _Versions(sorted(records, key=lambda one: (one.mod, one.sub)))
    facts = [(b"consistent_index", _ID.pack(meta.index))]
    if meta.compact_revision >= 0:
        compacted = _REVISION.pack(meta.compact_revision, b"_", 0)
        facts += [(b"finishedCompactRev", compacted), (b"scheduledCompactRev", compacted)]
    auth = meta.auth
    users = [User.FromString(bytes.fromhex(one)) for one in auth.get("users", ())]
    roles = [Role.FromString(bytes.fromhex(one)) for one in auth.get("roles", ())]
    filled: dict[bytes, Iterable[bolt.Item]] = {
        b"auth": [(_ENABLED, b"\x01")] * auth.get("enabled", False) + [(_AUTH_REVISION, _ID.pack(auth.get("revision", 1)))],
        b"authUsers": sorted((one.name, one.SerializeToString()) for one in users),
        b"authRoles": sorted((one.name, one.SerializeToString()) for one in roles),
        b"key": items,
        b"meta": facts,
        b"lease": [(_ID.pack(number), _lease(number, ttl)) for number, ttl in sorted(meta.leases)],
    }
    return bolt.Database({name: filled.get(name, []) for name in _BUCKETS})


def hash_of(records: Iterable[Record]) -> int:
    """etcd's hash of a key space: of the bucket's name and these items of it."""
    crc = crc32c(b"key")
    for record in records:
        key, value = item(record)
        crc = crc32c(value, crc32c(key, crc))
    return crc


def _lease(number: int, ttl: int) -> bytes:
    """A ``leasepb.Lease``."""
    return wire.integer(b"\x08", number) + wire.integer(b"\x10", ttl)


def check(data: bytes, name: str, *, skip_hash: bool = False) -> bytes:
    """The database of the backup file `name` that has these bytes. Raises BackupError where its checksum is wrong, or missing and not to be skipped."""
    if len(data) % 512 == _DIGEST:
        body, digest = data[:-_DIGEST], data[-_DIGEST:]
        if not skip_hash and hashlib.sha256(body).digest() != digest:
            raise BackupError(
                f"{name} is damaged: its SHA-256 is not the one at its end. Take another backup, or give --skip-hash-check"
            )
        return body
    if not skip_hash:
        raise BackupError(
            f"{name} has no checksum at its end: for a database copied from a data directory give --skip-hash-check"
        )
    return data


def decode(data: bytes, name: str) -> tuple[Meta, list[bytes]]:
    """Meta data and encoded records of a database. Raises BackupError."""
    try:
        facts = dict(bolt.read(data, b"meta"))
        compacted = facts.get(b"finishedCompactRev")
        compact_revision = _REVISION.unpack(compacted)[0] if compacted else -1
        records: list[bytes] = []
        subs: list[tuple[int, int]] = []
        revision = max(1, compact_revision)
        for key, value in bolt.read(data, b"key"):
            main, _, sub = _REVISION.unpack_from(key)
            revision = max(revision, main)
            if sub:
                subs.append((len(records), sub))
            records.append(_record(key, value))
        auth = _auth(data)
        leases = [_ttl(key, value) for key, value in bolt.read(data, b"lease")]
    except (bolt.BoltError, struct.error, ValueError) as error:
        raise BackupError(f"{name} is not a backup of etcd, or is damaged: {error}") from None
    meta = Meta(index=0, term=0, revision=revision, compact_revision=compact_revision, leases=leases, auth=auth, subs=subs)
    return meta, records


def _auth(data: bytes) -> dict[str, Any]:
    """Users and roles, as :meth:`.auth.AuthStore.describe` says them."""
    facts = dict(bolt.read(data, b"auth"))
    return {
        "enabled": facts.get(_ENABLED) == b"\x01",
        "revision": _ID.unpack(facts[_AUTH_REVISION])[0] if _AUTH_REVISION in facts else 1,
        "users": [value.hex() for _, value in bolt.read(data, b"authUsers")],
        "roles": [value.hex() for _, value in bolt.read(data, b"authRoles")],
    }


def _record(key: bytes, value: bytes) -> bytes:
    if not key.endswith(_TOMBSTONE) or len(key) == _REVISION.size:
        return value
    kv = mvcc_pb2.KeyValue.FromString(value)
    return wire.key_value(kv.key, 0, _ID.unpack_from(key)[0], 0, b"", 0)


def _ttl(key: bytes, value: bytes) -> tuple[int, int]:
    """Id and time to live: field 2 of a ``leasepb.Lease``."""
    at, fields = 0, {}
    while at < len(value):
        tag, number, shift = value[at] >> 3, 0, 0
        at += 1
        while True:
            number |= (value[at] & 0x7F) << shift
            shift += 7
            at += 1
            if value[at - 1] < 0x80:
                break
        fields[tag] = number
    return _ID.unpack(key)[0], fields.get(2, 0)


def status(data: bytes, name: str) -> Status:
    """A summary of a database. Raises BackupError."""
    total, revision, crc = 0, 0, 0
    try:
        for bucket in bolt.names(data):
            crc = crc32c(bucket, crc)
            for key, value in bolt.read(data, bucket):
                crc = crc32c(value, crc32c(key, crc))
                total += 1
                if bucket == b"key":
                    revision = max(revision, _ID.unpack_from(key)[0])
    except (bolt.BoltError, struct.error) as error:
        raise BackupError(f"{name} is not a backup of etcd, or is damaged: {error}") from None
    return Status(crc, revision, total, len(data))
