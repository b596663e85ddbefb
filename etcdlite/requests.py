"""What can be said about a request without looking at the data: is it well-formed? The errors are etcd's, in etcd's order."""

from __future__ import annotations

from collections.abc import Sequence

from kubeling.etcdlite.errors import (
    DUPLICATE_KEY,
    EMPTY_KEY,
    INVALID_SORT,
    KEY_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
)
from kubeling.etcdlite.mvcc import UNBOUNDED
from kubeling.proto import etcd_pb2 as pb


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


def check_txn(request: pb.TxnRequest, max_ops: int) -> None:
    """Check a transaction and all that is nested in it; `max_ops` is for each of its parts."""
    _check_operations(request, max_ops)
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


def _check_operations(request: pb.TxnRequest, max_ops: int) -> None:
    if max(len(request.compare), len(request.success), len(request.failure)) > max_ops:
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
            _check_operations(op.request_txn, max_ops)
        else:
            # An operation without a body; the words are etcd's.
            raise KEY_NOT_FOUND


Interval = tuple[bytes, bytes]


#: The keys that a transaction puts, each with whether the put keeps something of what is there.
Puts = dict[bytes, bool]


def _check_overlaps(ops: Sequence[pb.RequestOp]) -> tuple[Puts, list[Interval]]:
    """What `ops` put and which ranges they delete; a key written twice on one path is refused, as no order among them is promised.

    As etcd does it: a put that stands in an earlier nested transaction than a delete is not seen.
    """
    deletes = [_interval(op.request_delete_range) for op in ops if op.HasField("request_delete_range")]
    written: Puts = {}
    for op in ops:
        if op.HasField("request_txn"):
            # Only one branch of a nested transaction is done, so its two branches may write the same key.
            then, then_deletes = _check_overlaps(op.request_txn.success)
            other, other_deletes = _check_overlaps(op.request_txn.failure)
            both = {**then, **other} | {key: True for key in then if then[key]}
            _refuse_twice(both, written, deletes)
            written |= both
            deletes += then_deletes + other_deletes
    for op in ops:
        if op.HasField("request_put"):
            put = op.request_put
            one = {put.key: put.ignore_value or put.ignore_lease}
            _refuse_twice(one, written, deletes)
            written |= one
    return written, deletes


def _interval(request: pb.DeleteRangeRequest) -> Interval:
    return request.key, request.range_end


def _refuse_twice(puts: Puts, written: Puts, deletes: list[Interval]) -> None:
    if puts.keys() & written.keys():
        raise DUPLICATE_KEY
    for start, end in deletes:
        for key, keeps in puts.items():
            if covers(start, end, key) and (keeps or end != UNBOUNDED):
                # etcd takes the end of a range without an end literally in this one place, and lets it pass. Not so where the put needs what
                # the delete takes away: real etcd dies of that.
                raise DUPLICATE_KEY


def covers(start: bytes, end: bytes, key: bytes) -> bool:
    """Whether `key` is in the range of a request."""
    if not end:
        return key == start
    return key >= start and (end == UNBOUNDED or key < end)
