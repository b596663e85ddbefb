"""What members say to each other, as bytes: fixed fields and counted strings, so that nothing that arrives can be more than data.

A message is: kind (u8), the sender's term (u64), and the kind's fields; all big-endian. PySyncObj's own messages are dicts, which it would pickle; they
are taken apart and put together here, field by field.
"""

from __future__ import annotations

import struct
from typing import Any

_HEAD = struct.Struct(">BQ")
_Q = struct.Struct(">Q")
_QQ = struct.Struct(">QQ")
_QQQ = struct.Struct(">QQQ")
_QQQQI = struct.Struct(">QQQQI")
_ITEM = struct.Struct(">QQI")
_NEXT = struct.Struct(">QBB")
_CHUNK = struct.Struct(">QQBB")
_LEASE = struct.Struct(">QBqq")

Message = dict[str, Any]

_KINDS = {
    "request_vote": 1,
    "response_vote": 2,
    "append_entries": 3,
    "snapshot": 4,
    "next_node_idx": 5,
    "apply_command": 6,
    "timeout_now": 7,
    "pre_vote": 8,
    "pre_vote_granted": 9,
    "term": 10,
    "lease_ask": 11,
    "lease_told": 12,
}
_NAMES = {number: name for name, number in _KINDS.items()}


class BadMessage(Exception):
    """Bytes that are no message."""


def encode(message: Message, stamp: int) -> bytes:
    """The bytes of a message, stamped with the sender's current term."""
    kind = message["type"]
    if kind == "append_entries" and "prevLogIdx" not in message:
        kind = "snapshot"
    body: bytes
    if kind in ("request_vote", "pre_vote"):
        body = _QQQ.pack(message["term"], message["last_log_index"], message["last_log_term"])
    elif kind == "append_entries":
        entries = message["entries"]
        parts = [
            _QQQQI.pack(message["term"], message["commit_index"], message["prevLogIdx"], message["prevLogTerm"], len(entries))
        ]
        for command, index, term in entries:
            parts.append(_ITEM.pack(index, term, len(command)))
            parts.append(command)
        body = b"".join(parts)
    elif kind == "snapshot":
        data, first, last = message["serialized"] or (b"", False, False)
        body = _CHUNK.pack(message["term"], message["commit_index"], first, last) + data
    elif kind == "next_node_idx":
        body = _NEXT.pack(message["next_node_idx"], message["reset"], message["success"])
    elif kind == "apply_command":
        body = message["command"]
    elif kind in ("lease_ask", "lease_told"):
        body = _LEASE.pack(message["request"], message["renew"], message["lease"], message["seconds"])
    elif kind == "term":
        body = b""
    else:
        body = _Q.pack(message["term"])
    return _HEAD.pack(_KINDS[kind], stamp) + body


def decode(data: bytes) -> tuple[Message, int]:
    """The message and the sender's term. Raises BadMessage."""
    try:
        number, stamp = _HEAD.unpack_from(data)
        kind = _NAMES[number]
        return _decode(kind, data[_HEAD.size :]) | {"type": "append_entries" if kind == "snapshot" else kind}, stamp
    except (struct.error, KeyError, IndexError) as error:
        raise BadMessage(str(error)) from None


def _decode(kind: str, body: bytes) -> Message:
    if kind in ("request_vote", "pre_vote"):
        term, index, last_term = _QQQ.unpack(body)
        return {"term": term, "last_log_index": index, "last_log_term": last_term}
    if kind == "append_entries":
        return _append_entries(body)
    if kind == "snapshot":
        term, _, first, last = _CHUNK.unpack_from(body)
        data = body[_CHUNK.size :]
        # While a snapshot is on its way nothing of the receiver's own log is known to be committed, whatever the leader has committed.
        return {"term": term, "commit_index": 0, "serialized": (data, bool(first), bool(last)) if data or first or last else None}
    if kind == "next_node_idx":
        index, reset, success = _NEXT.unpack(body)
        return {"next_node_idx": index, "reset": bool(reset), "success": bool(success)}
    if kind == "apply_command":
        return {"command": body}
    if kind in ("lease_ask", "lease_told"):
        request, renew, lease, seconds = _LEASE.unpack(body)
        return {"request": request, "renew": bool(renew), "lease": lease, "seconds": seconds}
    if kind == "term":
        return {}
    (term,) = _Q.unpack(body)
    return {"term": term}


def _append_entries(body: bytes) -> Message:
    term, commit, prev_index, prev_term, count = _QQQQI.unpack_from(body)
    at = _QQQQI.size
    entries: list[tuple[bytes, int, int]] = []
    for _ in range(count):
        index, entry_term, length = _ITEM.unpack_from(body, at)
        at += _ITEM.size
        if at + length > len(body):
            raise BadMessage("an entry is longer than its message")
        entries.append((body[at : at + length], index, entry_term))
        at += length
    return {"term": term, "commit_index": commit, "prevLogIdx": prev_index, "prevLogTerm": prev_term, "entries": entries}
