"""Who is a member. A configuration is a value; each change makes a new one, and its entry in the log holds it whole.

Encoded: the byte ``2`` (:attr:`.types.Kind.CONFIGURATION`), tag length (u16), tag, member count (u16), then for each member, by id: id (u64), learner (u8), info
length (u32), info. All big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

_MEMBER = struct.Struct(">QBI")
_U16 = struct.Struct(">H")
_MARK = b"\x02"

MAX_TAG = 1024
MAX_INFO = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `info` is the application's (name, addresses); the core only carries it."""

    id: int
    learner: bool = False
    info: bytes = b""


class Configuration:
    """An immutable set of members: `voters` and `learners` are ids, in order; `members` maps an id to its :class:`Member`."""

    __slots__ = ("learners", "members", "quorum", "voters")

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self.members: Mapping[int, Member] = {member.id: member for member in sorted(members, key=lambda member: member.id)}
        self.voters = tuple(member.id for member in self.members.values() if not member.learner)
        self.learners = tuple(member.id for member in self.members.values() if member.learner)
        #: How many voters are a majority.
        self.quorum = len(self.voters) // 2 + 1

    def __contains__(self, member: object) -> bool:
        return member in self.members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self.members == other.members

    def __hash__(self) -> int:
        return hash(tuple(self.members.values()))

    def __repr__(self) -> str:
        return f"Configuration(voters={self.voters}, learners={self.learners})"

    def with_member(self, member: Member) -> Configuration:
        """The same with this member added, or in place of the one that had its id."""
        return Configuration((dict(self.members) | {member.id: member}).values())

    def without(self, member: int) -> Configuration:
        """The same without that member."""
        return Configuration(one for one in self.members.values() if one.id != member)


class ChangeKind(IntEnum):
    """What may be done to a configuration, one at a time."""

    ADD_VOTER = 1
    ADD_LEARNER = 2
    PROMOTE = 3
    REMOVE = 4
    #: Another `info`.
    UPDATE = 5


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `tag` comes back with the entry (:func:`tag_of`), so that the caller knows its own."""

    kind: ChangeKind
    member: int
    info: bytes = b""
    tag: bytes = b""


def encode_configuration(configuration: Configuration, tag: bytes = b"") -> bytes:
    """An entry's data, or what a snapshot keeps."""
    parts = [_MARK, _U16.pack(len(tag)), tag, _U16.pack(len(configuration.members))]
    for member in configuration.members.values():
        parts += (_MEMBER.pack(member.id, member.learner, len(member.info)), member.info)
    return b"".join(parts)


def decode_configuration(data: bytes) -> Configuration:
    """Raises ValueError where `data` are no configuration."""
    try:
        if data[:1] != _MARK:
            raise ValueError(f"no configuration begins with {data[:1]!r}")
        at = 1 + _U16.size + _U16.unpack_from(data, 1)[0]
        (count,) = _U16.unpack_from(data, at)
        at += _U16.size
        members = []
        for _ in range(count):
            member, learner, length = _MEMBER.unpack_from(data, at)
            at += _MEMBER.size
            members.append(Member(member, bool(learner), data[at : at + length]))
            at += length
    except struct.error as error:
        raise ValueError(str(error)) from None
    if at != len(data):
        raise ValueError("a configuration of another length than it says")
    return Configuration(members)


def tag_of(data: bytes) -> bytes:
    """The tag of a configuration entry's data."""
    (length,) = _U16.unpack_from(data, 1)
    return data[1 + _U16.size : 1 + _U16.size + length]
