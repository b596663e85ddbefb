"""Random requests to an etcd, from a seed: few keys, so that they meet; every option; and now and then something wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import mvcc_pb2

Request = (
    pb.RangeRequest
    | pb.PutRequest
    | pb.DeleteRangeRequest
    | pb.TxnRequest
    | pb.CompactionRequest
    | pb.LeaseGrantRequest
    | pb.LeaseRevokeRequest
    | pb.LeaseTimeToLiveRequest
    | pb.LeaseLeasesRequest
)

_KEYS = [b"a", b"a/1", b"a/2", b"a/2/x", b"b", b"b\x00", b"c", b"\xff", b"z"]
_ENDS = [b"", b"", b"\x00", b"b", b"a0", b"c\x00", b"a", b"\xff\xff"]
_LEASES = [0, 0, 0, 7, 8, 9]


class Requests:
    """An endless sequence of requests. `revision` is to be kept at the revision of the last answer, so that the past can be asked for."""

    def __init__(self, seed: int) -> None:
        self._rand = random.Random(seed)
        self.revision = 1

    def __iter__(self) -> Iterator[Request]:
        while True:
            yield self._next()

    def _next(self) -> Request:
        rand = self._rand
        kind = rand.choices(["range", "put", "delete", "txn", "lease", "compact"], [30, 35, 8, 20, 6, 1])[0]
        if kind == "range":
            return self._range()
        if kind == "put":
            return self._put()
        if kind == "delete":
            return self._delete()
        if kind == "txn":
            return self._txn(2)
        if kind == "compact":
            return pb.CompactionRequest(
                revision=self.revision + rand.choice([-9, -3, 0, 1, 5, -(10**6)]), physical=rand.random() < 0.5
            )
        return self._lease()

    def _key(self) -> bytes:
        return self._rand.choice(_KEYS) if self._rand.random() < 0.97 else b""

    def _end(self) -> bytes:
        return self._rand.choice(_ENDS)

    def _about(self) -> int:
        """A revision that is somewhere near, mostly in the past."""
        rand = self._rand
        return max(0, self.revision - rand.randrange(12)) if rand.random() < 0.95 else self.revision + 3

    def _range(self) -> pb.RangeRequest:
        rand = self._rand
        request = pb.RangeRequest(key=self._key(), range_end=self._end())
        if rand.random() < 0.4:
            request.revision = self._about()
        if rand.random() < 0.3:
            request.limit = rand.randrange(4)
        if rand.random() < 0.5:
            request.sort_order = rand.randrange(3)  # type: ignore[assignment]
            request.sort_target = rand.randrange(5)  # type: ignore[assignment]
        for name in ("serializable", "keys_only", "count_only"):
            setattr(request, name, rand.random() < 0.15)
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if rand.random() < 0.1:
                setattr(request, name, self._about())
        return request

    def _put(self) -> pb.PutRequest:
        rand = self._rand
        request = pb.PutRequest(key=self._key(), value=b"%d" % rand.randrange(5), prev_kv=rand.random() < 0.3)
        request.lease = rand.choice(_LEASES)
        if rand.random() < 0.1:
            request.ignore_value = True
            if rand.random() < 0.8:
                request.value = b""
        if rand.random() < 0.1:
            request.ignore_lease = True
            if rand.random() < 0.8:
                request.lease = 0
        return request

    def _delete(self) -> pb.DeleteRangeRequest:
        return pb.DeleteRangeRequest(key=self._key(), range_end=self._end(), prev_kv=self._rand.random() < 0.5)

    def _compare(self) -> pb.Compare:
        rand = self._rand
        compare = pb.Compare(key=self._key(), range_end=self._end(), result=rand.randrange(4))  # type: ignore[arg-type]
        target = rand.randrange(5)
        compare.target = target  # type: ignore[assignment]
        if rand.random() < 0.95:
            if target == pb.Compare.VERSION:
                compare.version = rand.randrange(3)
            elif target == pb.Compare.CREATE:
                compare.create_revision = rand.choice([0, self._about()])
            elif target == pb.Compare.MOD:
                compare.mod_revision = rand.choice([0, self._about()])
            elif target == pb.Compare.VALUE:
                compare.value = b"%d" % rand.randrange(5)
            else:
                compare.lease = rand.choice(_LEASES)
        return compare

    def _txn(self, depth: int) -> pb.TxnRequest:
        rand = self._rand
        request = pb.TxnRequest(compare=[self._compare() for _ in range(rand.randrange(3))])
        for branch in (request.success, request.failure):
            for _ in range(rand.randrange(4)):
                roll = rand.random()
                if roll < 0.4:
                    branch.add(request_range=self._range())
                elif roll < 0.75:
                    branch.add(request_put=self._put())
                elif roll < 0.88:
                    delete = self._delete()
                    if delete.range_end == b"\0":
                        # Real etcd dies of a put that keeps the value of what a delete without an end has just taken away.
                        delete.range_end = b"zz"
                    branch.add(request_delete_range=delete)
                elif depth and roll < 0.995:
                    branch.add(request_txn=self._txn(depth - 1))
                elif roll > 0.995:
                    branch.add()
        return request

    def _lease(self) -> Request:
        rand = self._rand
        number = rand.choice([7, 8, 9, 10])
        roll = rand.random()
        if roll < 0.5:
            return pb.LeaseGrantRequest(ID=number, TTL=rand.choice([100, 1000, 10**10]))
        if roll < 0.75:
            return pb.LeaseRevokeRequest(ID=number)
        if roll < 0.9:
            return pb.LeaseTimeToLiveRequest(ID=number, keys=rand.random() < 0.7)
        return pb.LeaseLeasesRequest()


def without_identity(answer: object) -> object:
    """`answer` without what two clusters cannot agree on: ids and terms."""
    for name in ("cluster_id", "member_id", "raft_term"):
        answer.header.ClearField(name)  # type: ignore[attr-defined]
    return answer


def events_of(answer: pb.WatchResponse) -> list[tuple[int, bytes, bytes, int, int, int, bytes]]:
    """What a watch told, flat."""
    return [
        (one.type, one.kv.key, one.kv.value, one.kv.mod_revision, one.kv.version, one.kv.lease, one.prev_kv.SerializeToString())
        for one in answer.events
        if one.type in (mvcc_pb2.Event.PUT, mvcc_pb2.Event.DELETE)
    ]
