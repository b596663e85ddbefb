"""What can be said about a request without looking at the data: is it well-formed? The errors are etcd's, in etcd's order."""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.etcdlite.errors import (
    DUPLICATE_KEY,
    EMPTY_KEY,
    INVALID_SORT,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
)
from kubeling.etcdlite.mvcc import UNBOUNDED
from kubeling.proto import etcd_pb2 as pb

MAX_TXN_OPS = 128


def check_range(request: pb.RangeRequest) -> None:
    if not request.key:
        raise EMPTY_KEY
    if not (0 <= request.sort_order <= 2 and 0 <= request.sort_target <= 4):
        raise INVALID_SORT


def check_put(request: pb.PutRequest) -> None:
    if not request.key:
        raise EMPTY_KEY
    if request.ignore_value and request.value:
        raise VALUE_PROVIDED
    if request.ignore_lease and request.lease:
        raise LEASE_PROVIDED


def check_delete(request: pb.DeleteRangeRequest) -> None:
    if not request.key:
        raise EMPTY_KEY


def check_txn(request: pb.TxnRequest) -> None:
    """Check a transaction and all that is nested in it."""
    _check_operations(request)
    _check_overlaps(request.success)
    _check_overlaps(request.failure)


def is_write(request: pb.TxnRequest) -> bool:
    """Whether either branch may write."""
    for op in (*request.success, *request.failure):
        kind = op.WhichOneof("request")
        if kind in ("request_put", "request_delete_range") or (kind == "request_txn" and is_write(op.request_txn)):
            return True
    return False


def puts(request: pb.TxnRequest) -> bool:
    """Whether either branch may put: deleting stays allowed when space is out."""
    for op in (*request.success, *request.failure):
        kind = op.WhichOneof("request")
        if kind == "request_put" or (kind == "request_txn" and puts(op.request_txn)):
            return True
    return False


def is_serializable(request: pb.TxnRequest) -> bool:
    """Whether a transaction that only reads may be answered from this member's own data: all of its ranges say so."""
    for op in (*request.success, *request.failure):
        kind = op.WhichOneof("request")
        if kind == "request_range" and not op.request_range.serializable:
            return False
        if kind == "request_txn" and not is_serializable(op.request_txn):
            return False
    return True


def _check_operations(request: pb.TxnRequest) -> None:
    if max(len(request.compare), len(request.success), len(request.failure)) > MAX_TXN_OPS:
        raise TOO_MANY_OPS
    for compare in request.compare:
        if not compare.key:
            raise EMPTY_KEY
    for op in (*request.success, *request.failure):
        kind = op.WhichOneof("request")
        if kind == "request_range":
            check_range(op.request_range)
        elif kind == "request_put":
            check_put(op.request_put)
        elif kind == "request_delete_range":
            check_delete(op.request_delete_range)
        elif kind == "request_txn":
            _check_operations(op.request_txn)
        else:
            # An operation without a body is answered as one without a key.
            raise EMPTY_KEY


Interval = tuple[bytes, bytes]


def _check_overlaps(ops: Iterable[pb.RequestOp]) -> tuple[set[bytes], list[Interval]]:
    """The keys put and the ranges deleted by `ops`; a key written twice on one path is refused, as no order among them is promised."""
    written: set[bytes] = set()
    deletes: list[Interval] = []
    nested: list[tuple[set[bytes], list[Interval]]] = []
    for op in ops:
        kind = op.WhichOneof("request")
        if kind == "request_put":
            if op.request_put.key in written:
                raise DUPLICATE_KEY
            written.add(op.request_put.key)
        elif kind == "request_delete_range":
            deletes.append((op.request_delete_range.key, op.request_delete_range.range_end))
        elif kind == "request_txn":
            # Only one branch of a nested transaction is done, so its two branches may write the same key.
            then = _check_overlaps(op.request_txn.success)
            other = _check_overlaps(op.request_txn.failure)
            nested.append((then[0] | other[0], then[1] + other[1]))
    _refuse_overlap(written, deletes)
    for inner_puts, inner_deletes in nested:
        if inner_puts & written:
            raise DUPLICATE_KEY
        _refuse_overlap(inner_puts, deletes)
        _refuse_overlap(written, inner_deletes)
        written |= inner_puts
        deletes = deletes + inner_deletes
    return written, deletes


def _refuse_overlap(puts: set[bytes], deletes: list[Interval]) -> None:
    for start, end in deletes:
        for key in puts:
            if covers(start, end, key):
                raise DUPLICATE_KEY


def covers(start: bytes, end: bytes, key: bytes) -> bool:
    """Whether `key` is in the range of a request."""
    if not end:
        return key == start
    return key >= start and (end == UNBOUNDED or key < end)
