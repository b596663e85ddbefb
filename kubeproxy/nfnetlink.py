"""Netlink messages of the packet filter's subsystems (linux/netfilter/nfnetlink.h), taken apart and put together."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
#: struct nlmsghdr: length, type, flags, sequence, pid; behind it struct nfgenmsg: family, version, resource id.
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = 4
_KIND = 0x3FFF


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body (from struct nfgenmsg on) of each."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def message(kind: int, flags: int, family: int, attributes: bytes, *, resource: int = 0) -> bytes:
    body = struct.pack("=BB", family, 0) + struct.pack("!H", resource) + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def attributes_of(body: bytes) -> dict[int, bytes]:
    """Those of a message's body."""
    return attributes(body[_NFGENMSG:])


def attributes(data: bytes) -> dict[int, bytes]:
    """Kind, without its flags → content."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _KIND] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + b"\0" * (-len(content) % 4)


def failure(body: bytes, about: str) -> OSError | None:
    """What an NLMSG_ERROR says of `about`; None where it only acknowledges."""
    number = -int(struct.unpack_from("=i", body)[0])
    return OSError(number, f"{about}: {os.strerror(number)}") if number else None
