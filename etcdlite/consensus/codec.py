"""Messages as bytes: a kind (u8), the term (u64), and the kind's fields, all big-endian; so nothing that arrives can be more than data.

Kinds 1 to 32 are the core's. `sender` and `to` are not in it: the connection knows them.
"""

from __future__ import annotations

import struct

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.configuration import decode_configuration
from kubeling.etcdlite.consensus.types import Entry, Kind, SnapshotMark

_HEAD = struct.Struct(">BQ")
_APPEND = struct.Struct(">QQQI")
_ENTRY = struct.Struct(">QQI")
_MARK = struct.Struct(">QQ")

#: Messages of fixed fields only, in the order of the dataclass.
_FIXED: dict[int, tuple[type[m.Message], struct.Struct]] = {
    1: (m.PreVote, struct.Struct(">QQ")),
    2: (m.PreVoteReply, struct.Struct(">?")),
    3: (m.Vote, struct.Struct(">QQ?")),
    4: (m.VoteReply, struct.Struct(">?")),
    6: (m.AppendReply, struct.Struct(">Q?QQ?")),
    7: (m.Heartbeat, struct.Struct(">QQ")),
    8: (m.HeartbeatReply, struct.Struct(">QQ?")),
    10: (m.TimeoutNow, struct.Struct(">")),
    11: (m.ReadIndex, struct.Struct(">Q")),
    12: (m.ReadIndexReply, struct.Struct(">QQ")),
    14: (m.Recover, struct.Struct(">Q")),
    15: (m.RecoverReply, struct.Struct(">QQ")),
    16: (m.Stale, struct.Struct(">")),
}
_APPEND_KIND, _INSTALL_KIND, _FORWARD_KIND = 5, 9, 13
_NUMBERS = {kind: (number, layout, kind.__slots__) for number, (kind, layout) in _FIXED.items()}


class BadMessage(Exception):
    """Bytes that are no message."""


def encode(message: m.Message) -> bytes:
    """The bytes of a message."""
    fixed = _NUMBERS.get(type(message))
    if fixed is not None:
        number, layout, names = fixed
        return _HEAD.pack(number, message.term) + layout.pack(*[getattr(message, name) for name in names])
    if isinstance(message, m.Append):
        parts = [
            _HEAD.pack(_APPEND_KIND, message.term),
            _APPEND.pack(message.prev_index, message.prev_term, message.commit, len(message.entries)),
        ]
        for entry in message.entries:
            parts += (_ENTRY.pack(entry.index, entry.term, len(entry.data)), entry.data)
        return b"".join(parts)
    if isinstance(message, m.InstallSnapshot):
        mark = message.mark
        return _HEAD.pack(_INSTALL_KIND, message.term) + _MARK.pack(mark.index, mark.term) + mark.configuration
    assert isinstance(message, m.Forward), message
    return _HEAD.pack(_FORWARD_KIND, message.term) + message.data


def decode(sender: int, to: int, data: bytes) -> m.Message:
    """The message that `sender` sent. Raises BadMessage."""
    try:
        number, term = _HEAD.unpack_from(data)
        at = _HEAD.size
        if number in _FIXED:
            kind, layout = _FIXED[number]
            if len(data) != at + layout.size:
                raise BadMessage(f"{len(data)} bytes are too many or too few for a {kind.__name__}")
            return kind(sender, to, term, *layout.unpack_from(data, at))
        if number == _APPEND_KIND:
            return _append(sender, to, term, data, at)
        if number == _INSTALL_KIND:
            index, last_term = _MARK.unpack_from(data, at)
            decode_configuration(data[at + _MARK.size :])
            return m.InstallSnapshot(sender, to, term, SnapshotMark(index, last_term, data[at + _MARK.size :]))
        if number == _FORWARD_KIND:
            return m.Forward(sender, to, term, data[at:])
    except (struct.error, ValueError) as error:
        raise BadMessage(str(error)) from None
    raise BadMessage(f"no message is of kind {number}")


def _append(sender: int, to: int, term: int, data: bytes, at: int) -> m.Append:
    prev_index, prev_term, commit, count = _APPEND.unpack_from(data, at)
    at += _APPEND.size
    entries = []
    for expected in range(prev_index + 1, prev_index + 1 + count):
        index, entry_term, length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        if index != expected or not length or at + length > len(data):
            raise BadMessage(f"entry {index} where {expected} was due, or its data are cut short")
        if data[at] == Kind.CONFIGURATION:
            decode_configuration(data[at : at + length])
        entries.append(Entry(index, entry_term, data[at : at + length]))
        at += length
    if at != len(data):
        raise BadMessage("more bytes than entries")
    return m.Append(sender, to, term, prev_index, prev_term, commit, tuple(entries))
