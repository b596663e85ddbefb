"""Requests of the KV service, done against the store. Deterministic: every member that applies the same requests makes the same answers.

Answers are bytes without their outer header (see :mod:`.wire`), since the records in them are ready-made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kubeling.etcdlite import wire
from kubeling.etcdlite.errors import KEY_NOT_FOUND, LEASE_NOT_FOUND
from kubeling.etcdlite.lease import Lessor
from kubeling.etcdlite.mvcc import Record, Store
from kubeling.proto import etcd_pb2 as pb

_SORT_KEYS: dict[int, Callable[[Record], Any]] = {
    0: lambda record: record.key,
    1: lambda record: record.version,
    2: lambda record: record.create,
    3: lambda record: record.mod,
    4: lambda record: record.value,
}


class Evaluator:
    """Reads and writes `store`, and keeps `leases` informed of which keys they hold."""

    def __init__(self, store: Store, leases: Lessor) -> None:
        self._store = store
        self._leases = leases

    # Reading.

    def range(self, request: pb.RangeRequest) -> bytes:
        """A ``RangeResponse``. `count` counts the whole range at that revision, whatever limit and filters say."""
        order, target, limit = request.sort_order, request.sort_target, request.limit
        if request.range_end and (request.count_only or (limit > 0 and _plain(request))):
            chosen, count = self._store.first(
                request.key, request.range_end, 0 if request.count_only else limit, request.revision
            )
            return _body(request, chosen, not request.count_only and count > limit, count)
        found = self._store.range(request.key, request.range_end, request.revision)
        count = len(found)
        if request.count_only:
            return wire.range_body((), False, count)
        chosen = _filtered(request, found)
        if order or target:
            # Keys come in ascending order already; a target without an order means ascending, but then etcd sorts what the limit has left, and one more.
            if limit > 0 and _unfiltered(request) and not order:
                chosen = chosen[: limit + 1]
            chosen = sorted(chosen, key=_SORT_KEYS[target], reverse=order == pb.RangeRequest.DESCEND)
        more = 0 < limit < len(chosen)
        return _body(request, chosen[:limit] if more else chosen, more, count)

    def compares(self, request: pb.TxnRequest) -> bool:
        """Whether all comparisons hold."""
        return all(self._holds(compare) for compare in request.compare)

    def read_txn(self, request: pb.TxnRequest) -> bytes:
        """A transaction that writes nothing."""
        return self._branch(request, self._path(request))

    def _holds(self, compare: pb.Compare) -> bool:
        found = self._store.range(compare.key, compare.range_end)
        if not found:
            # A missing key has version, revisions and lease 0, and no value that anything could be compared with.
            return compare.target != pb.Compare.VALUE and _compare(compare, None)
        return all(_compare(compare, record) for record in found)

    # Writing: what is checked first changes nothing, what comes after cannot fail.

    def put(self, request: pb.PutRequest) -> bytes:
        self._check_lease(request)
        self._check_kept(request)
        return self._put(request)

    def delete_range(self, request: pb.DeleteRangeRequest) -> bytes:
        gone = self._store.delete_range(request.key, request.range_end)
        for record in gone:
            if record.lease:
                self._leases.detach(record.lease, record.key)
        return wire.delete_body(len(gone), [record.wire for record in gone] if request.prev_kv else ())

    def txn(self, request: pb.TxnRequest) -> bytes:
        """All comparisons, also the nested ones, look at the data as it was before the transaction."""
        path = self._path(request)
        # First all puts, then all ranges: which of several errors is told is seen by clients.
        for kind in ("request_put", "request_range"):
            self._check_path(request, iter(path), kind)
        return self._branch(request, path)

    def _put(self, request: pb.PutRequest) -> bytes:
        key, value, lease = request.key, request.value, request.lease
        if request.ignore_value or request.ignore_lease:
            current = self._store.get(key)
            if current is None:
                raise KEY_NOT_FOUND
            value = current.value if request.ignore_value else value
            lease = current.lease if request.ignore_lease else lease
        record = self._store.put(key, value, lease)
        prev = record.live_prev
        if prev is not None and prev.lease and prev.lease != lease:
            self._leases.detach(prev.lease, record.key)
        if lease:
            self._leases.attach(lease, record.key)
        return wire.put_body(prev.wire if request.prev_kv and prev is not None else None)

    def _check_lease(self, request: pb.PutRequest) -> None:
        if request.lease and request.lease not in self._leases:
            raise LEASE_NOT_FOUND

    def _check_kept(self, request: pb.PutRequest) -> None:
        if (request.ignore_value or request.ignore_lease) and self._store.get(request.key) is None:
            raise KEY_NOT_FOUND

    def _path(self, request: pb.TxnRequest) -> list[bool]:
        """Which branch is taken, here and in each nested transaction of that branch, in the order in which they are done."""
        succeeded = self.compares(request)
        path = [succeeded]
        for op in request.success if succeeded else request.failure:
            if op.WhichOneof("request") == "request_txn":
                path += self._path(op.request_txn)
        return path

    def _check_path(self, request: pb.TxnRequest, steps: Iterator[bool], checked: str) -> None:
        for op in request.success if next(steps) else request.failure:
            kind = op.WhichOneof("request")
            if kind == "request_txn":
                self._check_path(op.request_txn, steps, checked)
            elif kind == checked == "request_put":
                # In a transaction etcd looks at these in the other order than with a put alone.
                self._check_kept(op.request_put)
                self._check_lease(op.request_put)
            elif kind == checked == "request_range":
                self._store.check_revision(op.request_range.revision)

    def _branch(self, request: pb.TxnRequest, path: Iterable[bool]) -> bytes:
        steps = iter(path)
        succeeded = next(steps)
        responses: list[bytes] = []
        for op in request.success if succeeded else request.failure:
            kind = op.WhichOneof("request")
            if kind == "request_put":
                responses.append(wire.message(b"\x12", self._headed(self._put(op.request_put))))
            elif kind == "request_range":
                responses.append(wire.message(b"\x0a", self._headed(self.range(op.request_range))))
            elif kind == "request_delete_range":
                responses.append(wire.message(b"\x1a", self._headed(self.delete_range(op.request_delete_range))))
            else:
                # etcd leaves the header of a nested transaction empty.
                responses.append(wire.message(b"\x22", wire.EMPTY_HEADER + self._branch(op.request_txn, steps)))
        return wire.txn_body(succeeded, responses)

    def _headed(self, body: bytes) -> bytes:
        return wire.inner_header(self._store.pending_revision) + body


def _plain(request: pb.RangeRequest) -> bool:
    """Whether the answer is the keys in their own order and without a filter."""
    return not (request.sort_order or request.sort_target) and _unfiltered(request)


def _unfiltered(request: pb.RangeRequest) -> bool:
    return not (
        request.min_mod_revision or request.max_mod_revision or request.min_create_revision or request.max_create_revision
    )


def _body(request: pb.RangeRequest, records: list[Record], more: bool, count: int) -> bytes:
    if request.keys_only:
        return wire.range_body([wire.key_value(r.key, r.create, r.mod, r.version, b"", r.lease) for r in records], more, count)
    return wire.range_body([record.wire for record in records], more, count)


def _filtered(request: pb.RangeRequest, records: list[Record]) -> list[Record]:
    low_mod, high_mod = request.min_mod_revision, request.max_mod_revision
    low_create, high_create = request.min_create_revision, request.max_create_revision
    if low_mod:
        records = [record for record in records if record.mod >= low_mod]
    if high_mod:
        records = [record for record in records if record.mod <= high_mod]
    if low_create:
        records = [record for record in records if record.create >= low_create]
    if high_create:
        records = [record for record in records if record.create <= high_create]
    return records


def _compare(compare: pb.Compare, record: Record | None) -> bool:
    actual: Any
    expected: Any
    target = compare.target
    if target == pb.Compare.MOD:
        actual, expected = record.mod if record else 0, compare.mod_revision
    elif target == pb.Compare.VERSION:
        actual, expected = record.version if record else 0, compare.version
    elif target == pb.Compare.CREATE:
        actual, expected = record.create if record else 0, compare.create_revision
    elif target == pb.Compare.LEASE:
        actual, expected = record.lease if record else 0, compare.lease
    else:
        actual, expected = record.value if record else b"", compare.value
    result = compare.result
    if result == pb.Compare.EQUAL:
        return bool(actual == expected)
    if result == pb.Compare.GREATER:
        return bool(actual > expected)
    if result == pb.Compare.LESS:
        return bool(actual < expected)
    return bool(actual != expected)
