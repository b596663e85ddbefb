"""What stands in the replicated log: a batch of operations, each a kind and the client's own request bytes.

A batch is: format (u8, always 0), session (u64, chosen by the process that proposes and waits for the result), number (u64, counted within the
session), then for each operation kind (u8), length
(u32) and the encoded request; all big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from kubeling.proto import etcd_pb2 as pb

_HEAD = struct.Struct(">BQQ")
_OP = struct.Struct(">BI")


class Kind(IntEnum):
    """The kinds of operations; the numbers are on disk and never change their meaning."""

    PUT = 1
    DELETE_RANGE = 2
    TXN = 3
    COMPACT = 4
    LEASE_GRANT = 5
    LEASE_REVOKE = 6
    ALARM = 7
    #: A member says its name and where clients find it.
    PUBLISH = 8


REQUESTS: dict[int, Any] = {
    Kind.PUT: pb.PutRequest,
    Kind.DELETE_RANGE: pb.DeleteRangeRequest,
    Kind.TXN: pb.TxnRequest,
    Kind.COMPACT: pb.CompactionRequest,
    Kind.LEASE_GRANT: pb.LeaseGrantRequest,
    Kind.LEASE_REVOKE: pb.LeaseRevokeRequest,
    Kind.ALARM: pb.AlarmRequest,
    Kind.PUBLISH: pb.Member,
}


def encode_batch(session: int, number: int, operations: list[tuple[int, bytes]]) -> bytes:
    """The log entry for `operations`, each a kind and the encoded request."""
    parts = [_HEAD.pack(0, session, number)]
    for kind, raw in operations:
        parts.append(_OP.pack(kind, len(raw)))
        parts.append(raw)
    return b"".join(parts)


def batch_id(data: bytes) -> tuple[int, int]:
    """The session that proposed the batch, and its number there."""
    _, session, number = _HEAD.unpack_from(data)
    return session, number


def decode_batch(data: bytes) -> Iterator[tuple[int, Any]]:
    """The operations of a batch: kind and parsed request."""
    at, end = _HEAD.size, len(data)
    unpack, requests = _OP.unpack_from, REQUESTS
    while at < end:
        kind, length = unpack(data, at)
        at += _OP.size
        yield kind, requests[kind].FromString(data[at : at + length])
        at += length
