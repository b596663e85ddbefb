"""The vocabulary on the wire: requests and answers of `operations` as etcd's messages."""

from __future__ import annotations

from typing import Any

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import mvcc_pb2

from .operations import (
    KV,
    Compare,
    Delete,
    DeleteBody,
    Event,
    Put,
    PutBody,
    Range,
    RangeBody,
    Txn,
    TxnBody,
    WatchOpen,
    WatchResponse,
)

_RESULTS = {"=": pb.Compare.EQUAL, "!=": pb.Compare.NOT_EQUAL, "<": pb.Compare.LESS, ">": pb.Compare.GREATER}
_TARGETS = {
    "value": (pb.Compare.VALUE, "value"),
    "version": (pb.Compare.VERSION, "version"),
    "create": (pb.Compare.CREATE, "create_revision"),
    "mod": (pb.Compare.MOD, "mod_revision"),
}
_FILTERS = {"noput": pb.WatchCreateRequest.NOPUT, "nodelete": pb.WatchCreateRequest.NODELETE}


def put(request: Put) -> pb.PutRequest:
    return pb.PutRequest(key=request.key.encode(), value=request.value.encode(), lease=request.lease, prev_kv=True)


def get(request: Range) -> pb.RangeRequest:
    return pb.RangeRequest(
        key=request.key.encode(),
        range_end=request.end.encode(),
        revision=request.revision,
        limit=request.limit,
        serializable=request.serializable,
    )


def delete(request: Delete) -> pb.DeleteRangeRequest:
    return pb.DeleteRangeRequest(key=request.key.encode(), range_end=request.end.encode(), prev_kv=True)


def txn(request: Txn) -> pb.TxnRequest:
    return pb.TxnRequest(
        compare=[_compare(one) for one in request.compares],
        success=[_part(one) for one in request.success],
        failure=[_part(one) for one in request.failure],
    )


def _part(request: Put | Range | Delete) -> pb.RequestOp:
    if isinstance(request, Put):
        return pb.RequestOp(request_put=put(request))
    if isinstance(request, Range):
        return pb.RequestOp(request_range=get(request))
    return pb.RequestOp(request_delete_range=delete(request))


def _compare(compare: Compare) -> pb.Compare:
    target, field = _TARGETS[compare.target]
    operand: Any = compare.operand.encode() if isinstance(compare.operand, str) else compare.operand
    return pb.Compare(key=compare.key.encode(), result=_RESULTS[compare.operator], target=target, **{field: operand})


def watch(request: WatchOpen) -> pb.WatchRequest:
    return pb.WatchRequest(
        create_request=pb.WatchCreateRequest(
            key=request.key.encode(),
            range_end=request.end.encode(),
            start_revision=request.start,
            prev_kv=request.previous,
            progress_notify=request.progress,
            filters=[_FILTERS[one] for one in request.filters],
        )
    )


def kv_from(kv: mvcc_pb2.KeyValue) -> KV:
    return KV(kv.key.decode(), kv.value.decode(), kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def put_body(answer: pb.PutResponse) -> PutBody:
    return PutBody(kv_from(answer.prev_kv) if answer.HasField("prev_kv") else None)


def range_body(answer: pb.RangeResponse) -> RangeBody:
    return RangeBody(tuple(map(kv_from, answer.kvs)), answer.count, answer.more)


def delete_body(answer: pb.DeleteRangeResponse) -> DeleteBody:
    return DeleteBody(answer.deleted, tuple(map(kv_from, answer.prev_kvs)))


def txn_body(answer: pb.TxnResponse) -> TxnBody:
    bodies: list[PutBody | RangeBody | DeleteBody] = []
    for one in answer.responses:
        if one.HasField("response_put"):
            bodies.append(put_body(one.response_put))
        elif one.HasField("response_range"):
            bodies.append(range_body(one.response_range))
        else:
            bodies.append(delete_body(one.response_delete_range))
    return TxnBody(answer.succeeded, tuple(bodies))


def watch_response(at: int, answer: pb.WatchResponse) -> WatchResponse:
    events = []
    for one in answer.events:
        kv = kv_from(one.kv)
        event = Event(kv.key, kv.mod, None if one.type == mvcc_pb2.Event.DELETE else kv)
        events.append((event, kv_from(one.prev_kv) if one.HasField("prev_kv") else None))
    return WatchResponse(
        at,
        answer.header.revision,
        tuple(events),
        answer.created,
        answer.canceled,
        answer.compact_revision,
        answer.cancel_reason,
    )
