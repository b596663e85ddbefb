"""etcdserverpb.Maintenance: what operators ask of one member."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from kubeling.etcdlite.backup import encode, hash_of
from kubeling.etcdlite.errors import COMPACTED, FUTURE_REVISION, NO_LEADER
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.mvcc import Record
from kubeling.etcdlite.ops import Kind
from kubeling.etcdlite.rpc import Context, Service, answer, server_stream, service, unary, unimplemented
from kubeling.etcdlite.snapshot import Meta
from kubeling.etcdlite.state import alarm_body
from kubeling.proto import etcd_pb2 as pb

#: The etcd release whose API this is; clients look at it to decide what they may ask for.
VERSION = "3.5.17"

#: What a message of a snapshot holds: small enough that others get their turn between two.
_BLOB_BYTES = 128 << 10


def handler(member: Member) -> Service:
    """The Maintenance service of `member`."""
    own = _Maintenance(member)
    maintenance = {
        "Alarm": unary(own.alarm),
        "Status": unary(own.status),
        "Defragment": unary(own.defragment),
        "Hash": unary(own.hash),
        "HashKV": unary(own.hash_kv),
        "Snapshot": server_stream(own.snapshot),
        "MoveLeader": unary(own.move_leader),
        "Downgrade": unimplemented("Downgrade"),
    }
    return service("etcdserverpb.Maintenance", maintenance)


class _Maintenance:
    def __init__(self, member: Member) -> None:
        self._member = member
        self._state = member.state

    def _header(self) -> bytes:
        return self._member.header(self._state.store.revision)

    async def alarm(self, raw: bytes, context: Context) -> bytes:
        request = pb.AlarmRequest.FromString(raw)
        if request.action != pb.AlarmRequest.GET:
            done = pb.AlarmResponse.FromString(answer(await self._member.proposer.submit(Kind.ALARM, raw, request)))
            # etcd gives no header here.
            done.ClearField("header")
            return done.SerializeToString()
        kinds = sorted(self._state.alarms)
        return alarm_body([one for one in kinds if request.alarm in (pb.NONE, one[1])])

    async def status(self, raw: bytes, context: Context) -> bytes:
        engine, store = self._member.engine, self._state.store
        names: dict[int, str] = {pb.NOSPACE: "NOSPACE", pb.CORRUPT: "CORRUPT"}
        errors = [
            f"memberID:{member} alarm:{names[pb.AlarmType.ValueType(kind)]} " for member, kind in sorted(self._state.alarms)
        ]
        if not engine.leader_id:
            errors.append(NO_LEADER.text)
        response = pb.StatusResponse(
            version=VERSION,
            dbSize=store.size,
            dbSizeInUse=store.size,
            leader=engine.leader_id,
            raftIndex=engine.last_index,
            raftTerm=engine.term,
            raftAppliedIndex=engine.applied_index,
            errors=errors,
            storageVersion="3.5",
            isLearner=engine.core.is_learner,
            dbSizeQuota=self._member.config.quota_bytes,
        )
        return self._header() + response.SerializeToString()

    async def defragment(self, raw: bytes, context: Context) -> bytes:
        # There are no holes in memory to close; what takes disk space is the log, and a snapshot shortens it.
        await self._member.snapshot_and_wait()
        return b""

    async def hash(self, raw: bytes, context: Context) -> bytes:
        header = self._header()
        return header + pb.HashResponse(hash=await self._hash_at(self._state.store.revision)).SerializeToString()

    async def hash_kv(self, raw: bytes, context: Context) -> bytes:
        store = self._state.store
        revision = pb.HashKVRequest.FromString(raw).revision or store.revision
        if revision > store.revision:
            raise FUTURE_REVISION
        if revision < store.compact_revision:
            raise COMPACTED
        header = self._header()
        response = pb.HashKVResponse(compact_revision=store.compact_revision, hash_revision=revision)
        response.hash = await self._hash_at(revision)
        return header + response.SerializeToString()

    async def _hash_at(self, revision: int) -> int:
        """The hash that etcd has for the same keys, values and revisions."""
        return await asyncio.get_running_loop().run_in_executor(None, hash_of, self._state.store.hashed(revision))

    async def snapshot(self, raw: bytes, context: Context) -> AsyncIterator[bytes]:
        """A backup in etcd's own format: the database, and after it its SHA-256."""
        meta, records = self._member.snapshot_meta(), self._state.store.records()
        loop = asyncio.get_running_loop()
        download = await loop.run_in_executor(None, _Download, meta, records, self._header())
        # Others get their turn between two messages, and a client that reads slowly has nothing made for it.
        while response := await loop.run_in_executor(None, download.next):
            yield response

    async def move_leader(self, raw: bytes, context: Context) -> bytes:
        await self._member.cluster.move_leader(pb.MoveLeaderRequest.FromString(raw).targetID)
        return self._header()


class _Download:
    """The messages of one backup, made one by one in a thread as they are wanted."""

    def __init__(self, meta: Meta, records: list[Record], header: bytes) -> None:
        database = encode(meta, records)
        self._pages = iter(database)
        self._header = header
        self._digest = hashlib.sha256()
        self._remaining = database.size + self._digest.digest_size

    def next(self) -> bytes:
        """The next message; nothing behind the last one, which holds the checksum."""
        if not self._remaining:
            return b""
        blob = b""
        while len(blob) < _BLOB_BYTES and (page := next(self._pages, None)):
            blob += page
        self._digest.update(blob)
        blob = blob or self._digest.digest()
        self._remaining -= len(blob)
        response = pb.SnapshotResponse(remaining_bytes=self._remaining, blob=blob, version=VERSION)
        return self._header + response.SerializeToString()
