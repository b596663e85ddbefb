"""Protocol-buffer answers put together from ready-made bytes.

A stored key is kept as the encoded ``mvccpb.KeyValue`` that clients will be sent. A Range of 500 keys or an event for 1,000 watchers is then a
join of bytes and builds no message objects. Only the few shapes that carry stored keys are written here; everything else uses the
generated classes.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.proto.mvcc_pb2 import KeyValue

_SMALL = [bytes([n]) for n in range(128)]


def varint(value: int) -> bytes:
    """`value` as a base-128 varint; a negative one as the 64-bit two's complement, as int64 fields are."""
    if 0 <= value < 128:
        return _SMALL[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


#: What stands before a stored key of each usual length in a ``RangeResponse``.
_HEADS = 2048
_KV_HEADS = [b"\x12" + varint(length) for length in range(_HEADS)]


def message(tag: bytes, body: bytes) -> bytes:
    """A length-delimited field; `tag` is its key byte(s)."""
    return b"%b%b%b" % (tag, varint(len(body)), body)


def integer(tag: bytes, value: int) -> bytes:
    """A varint field, left out where it is zero, as proto3 does."""
    return tag + varint(value) if value else b""


def key_value(key: bytes, create: int, mod: int, version: int, value: bytes, lease: int) -> bytes:
    """An encoded ``mvccpb.KeyValue``."""
    kv = KeyValue(key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease)
    return kv.SerializeToString()


def range_body(kvs: Iterable[bytes], more: bool, count: int) -> bytes:
    """A ``RangeResponse`` without its header."""
    parts: list[bytes] = []
    heads = _KV_HEADS
    for kv in kvs:
        length = len(kv)
        parts.append(heads[length] if length < _HEADS else b"\x12" + varint(length))
        parts.append(kv)
    if more:
        parts.append(b"\x18\x01")
    if count:
        parts += (b"\x20", varint(count))
    return b"".join(parts)


def put_body(prev: bytes | None) -> bytes:
    """A ``PutResponse`` without its header."""
    return b"" if prev is None else message(b"\x12", prev)


def delete_body(deleted: int, prevs: Iterable[bytes]) -> bytes:
    """A ``DeleteRangeResponse`` without its header."""
    return integer(b"\x10", deleted) + b"".join([message(b"\x1a", prev) for prev in prevs])


def txn_body(succeeded: bool, responses: Iterable[bytes]) -> bytes:
    """A ``TxnResponse`` without its header; each response is an encoded ``ResponseOp``."""
    return (b"\x10\x01" if succeeded else b"") + b"".join([message(b"\x1a", response) for response in responses])


def event(deleted: bool, kv: bytes, prev: bytes | None) -> bytes:
    """An encoded ``mvccpb.Event``."""
    head = b"\x08\x01" if deleted else b""
    tail = b"" if prev is None else message(b"\x1a", prev)
    return head + message(b"\x12", kv) + tail


#: The header field of a transaction's answer inside another.
EMPTY_HEADER = b"\x0a\x00"


def inner_header(revision: int) -> bytes:
    """The header field of an answer inside a transaction's answer: it holds the revision only."""
    return message(b"\x0a", integer(b"\x18", revision))


class HeaderMaker:
    """Makes the ``header`` field (number 1 in every answer) for one member."""

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._prefix = integer(b"\x08", cluster_id) + integer(b"\x10", member_id)
        self.term = 0
        self._last: tuple[int, int, bytes] = (-1, -1, b"")

    def __call__(self, revision: int) -> bytes:
        """The encoded header field at `revision` and the current Raft term."""
        last_revision, last_term, made = self._last
        if last_revision != revision or last_term != self.term:
            made = message(b"\x0a", self._prefix + integer(b"\x18", revision) + integer(b"\x20", self.term))
            self._last = (revision, self.term, made)
        return made
