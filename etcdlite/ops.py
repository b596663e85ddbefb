"""What stands in the replicated log: a batch of operations, each a kind and the client's own request bytes.

A batch is: format (u8, always 0), session (u64, chosen by the process that proposes and waits for the result), number (u64, counted within the
session), then for each operation kind (u8), length
(u32) and the encoded request; all big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from kubeling.proto import etcd_pb2 as pb

_HEAD = struct.Struct(">BQQ")
_OP = struct.Struct(">BI")
_EXPIRY = struct.Struct(">qQ")
_WHO = struct.Struct(">QBI")


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
    #: The primary says that a lease has run out; a client's LEASE_REVOKE needs permissions, this does not.
    LEASE_EXPIRE = 9
    #: Another operation, done in the name of a user (see :class:`Attributed`).
    ATTRIBUTED = 10
    AUTH_ENABLE = 20
    AUTH_DISABLE = 21
    #: A token was given to a user; the password here is the token's digest, in hex.
    AUTHENTICATE = 22
    USER_ADD = 23
    USER_DELETE = 24
    USER_CHANGE_PASSWORD = 25
    USER_GRANT_ROLE = 26
    USER_REVOKE_ROLE = 27
    ROLE_ADD = 28
    ROLE_DELETE = 29
    ROLE_GRANT_PERMISSION = 30
    ROLE_REVOKE_PERMISSION = 31


@dataclass(frozen=True, slots=True)
class Attributed:
    """An operation with the user whose it is, and the auth revision at which that was found out.

    Encoded: the revision (u64), the operation's kind (u8), the length of the user's name (u32) and the name in UTF-8, the encoded request.
    """

    user: str
    revision: int
    kind: int
    request: Any

    @classmethod
    def FromString(cls, data: bytes) -> Attributed:  # noqa: N802 - named as with messages, beside which it stands below.
        """What :func:`attributed` made."""
        revision, kind, length = _WHO.unpack_from(data)
        name_end = _WHO.size + length
        return cls(data[_WHO.size : name_end].decode(), revision, kind, REQUESTS[kind].FromString(data[name_end:]))


def attributed(user: str, revision: int, kind: int, raw: bytes) -> bytes:
    """An encoded :class:`Attributed` with the encoded request `raw` in it."""
    name = user.encode()
    return _WHO.pack(revision, kind, len(name)) + name + raw


@dataclass(frozen=True, slots=True)
class Expiry:
    """A lease has run out by the count of the leader of `term`. It says nothing any more in an entry of a later term: another may have renewed the lease."""

    lease: int
    term: int

    @classmethod
    def FromString(cls, data: bytes) -> Expiry:  # noqa: N802 - named as with messages.
        """What :meth:`encode` made."""
        return cls(*_EXPIRY.unpack(data))

    def encode(self) -> bytes:
        return _EXPIRY.pack(self.lease, self.term)


REQUESTS: dict[int, Any] = {
    Kind.PUT: pb.PutRequest,
    Kind.DELETE_RANGE: pb.DeleteRangeRequest,
    Kind.TXN: pb.TxnRequest,
    Kind.COMPACT: pb.CompactionRequest,
    Kind.LEASE_GRANT: pb.LeaseGrantRequest,
    Kind.LEASE_REVOKE: pb.LeaseRevokeRequest,
    Kind.ALARM: pb.AlarmRequest,
    Kind.PUBLISH: pb.Member,
    Kind.LEASE_EXPIRE: Expiry,
    Kind.ATTRIBUTED: Attributed,
    Kind.AUTH_ENABLE: pb.AuthEnableRequest,
    Kind.AUTH_DISABLE: pb.AuthDisableRequest,
    Kind.AUTHENTICATE: pb.AuthenticateRequest,
    Kind.USER_ADD: pb.AuthUserAddRequest,
    Kind.USER_DELETE: pb.AuthUserDeleteRequest,
    Kind.USER_CHANGE_PASSWORD: pb.AuthUserChangePasswordRequest,
    Kind.USER_GRANT_ROLE: pb.AuthUserGrantRoleRequest,
    Kind.USER_REVOKE_ROLE: pb.AuthUserRevokeRoleRequest,
    Kind.ROLE_ADD: pb.AuthRoleAddRequest,
    Kind.ROLE_DELETE: pb.AuthRoleDeleteRequest,
    Kind.ROLE_GRANT_PERMISSION: pb.AuthRoleGrantPermissionRequest,
    Kind.ROLE_REVOKE_PERMISSION: pb.AuthRoleRevokePermissionRequest,
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
