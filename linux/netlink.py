"""Links, addresses, routes and neighbours by rtnetlink, without a process for each change.

A :class:`Netlink` belongs to the network namespace in which it was made. All the changes of one :meth:`Netlink.send` go to the kernel in one
write; the first that fails raises, with the name of what failed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from types import TracebackType
from typing import NamedTuple, Self

_NLM_F_REQUEST = 1
_NLM_F_ACK = 4
_NLM_F_REPLACE = 0x100
_NLM_F_EXCL = 0x200
_NLM_F_CREATE = 0x400

_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_RTM_NEWADDR = 20
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_RTM_NEWNEIGH = 28
_NLMSG_ERROR = 2

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT = 0x80
_IFF_UP = 1
_RT_TABLE_MAIN = 254
_RTPROT_STATIC = 4
_RTN_UNICAST = 1
SCOPE_UNIVERSE = 0
SCOPE_LINK = 253


class Change(NamedTuple):
    """One request, and what to call it when it fails."""

    about: str
    kind: int
    flags: int
    body: bytes


def _attr(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + b"\0" * (-size % 4)


def _link_head(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, flags)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def veth(name: str, mac: str, peer: str, peer_mac: str, netns_fd: int, mtu: int = 0) -> Change:
    """A pair of links: `name` here and up, `peer` in the namespace behind `netns_fd` and down."""
    size = _attr(_IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
    far = _link_head() + _attr(_IFLA_IFNAME, _name(peer)) + _attr(_IFLA_ADDRESS, _mac(peer_mac)) + size
    far += _attr(_IFLA_NET_NS_FD, struct.pack("=I", netns_fd))
    info = _attr(_IFLA_INFO_KIND, b"veth") + _attr(_IFLA_INFO_DATA, _attr(_VETH_INFO_PEER, far))
    body = _link_head(0, _IFF_UP) + _attr(_IFLA_IFNAME, _name(name)) + _attr(_IFLA_ADDRESS, _mac(mac)) + size
    return Change(f"add veth {name}", _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body + _attr(_IFLA_LINKINFO, info))


def link_up(index: int) -> Change:
    return Change(f"link {index} up", _RTM_NEWLINK, 0, _link_head(index, _IFF_UP))


def link_master(index: int, master: int) -> Change:
    """Plug a link into the bridge `master`."""
    body = _link_head(index) + _attr(_IFLA_MASTER, struct.pack("=i", master))
    return Change(f"link {index} into {master}", _RTM_NEWLINK, 0, body)


def link_delete(name: str) -> Change:
    return Change(f"delete link {name}", _RTM_DELLINK, 0, _link_head() + _attr(_IFLA_IFNAME, _name(name)))


def _family(ip: str) -> tuple[socket.AddressFamily, bytes]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return family, socket.inet_pton(family, ip)


def address(index: int, ip: str, prefix: int) -> Change:
    """An address on a link; one of IPv6 counts from the first moment, and nobody is asked whether another has it too (RFC 4862 5.4)."""
    family, raw = _family(ip)
    head = struct.pack("=BBBBi", family, prefix, _IFA_F_NODAD if family == socket.AF_INET6 else 0, 0, index)
    body = head + _attr(_IFA_LOCAL, raw) + _attr(_IFA_ADDRESS, raw)
    return Change(f"add address {ip}/{prefix}", _RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_REPLACE, body)


def route(index: int, destination: str = "", prefix: int = 0, gateway: str = "", scope: int = SCOPE_LINK) -> Change:
    """A route by link `index`; no `destination` is the default route of the gateway's family."""
    family, _ = _family(destination or gateway)
    head = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, scope, _RTN_UNICAST, 0)
    body = head + _attr(_RTA_OIF, struct.pack("=i", index))
    if destination:
        body += _attr(_RTA_DST, _family(destination)[1])
    if gateway:
        body += _attr(_RTA_GATEWAY, _family(gateway)[1])
    return Change(f"add route {destination or 'default'}/{prefix}", _RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_REPLACE, body)


def neighbour(index: int, ip: str, mac: str) -> Change:
    """A permanent entry of the neighbour table, so that nobody has to ask for `ip`."""
    family, raw = _family(ip)
    head = struct.pack("=BxxxiHBB", family, index, _NUD_PERMANENT, 0, _RTN_UNICAST)
    body = head + _attr(_NDA_DST, raw) + _attr(_NDA_LLADDR, _mac(mac))
    return Change(f"add neighbour {ip}", _RTM_NEWNEIGH, _NLM_F_CREATE | _NLM_F_REPLACE, body)


def bits(ip: str) -> int:
    """The length of the prefix that holds `ip` alone."""
    return 128 if ":" in ip else 32


class Netlink:
    """A route socket of the namespace that the calling thread is in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def send(self, *changes: Change) -> None:
        """Make `changes` in order. Raises OSError naming the first that fails; the kernel has tried the later ones all the same."""
        about: dict[int, str] = {}
        out = b""
        for change in changes:
            self._sequence += 1
            about[self._sequence] = change.about
            flags = change.flags | _NLM_F_REQUEST | _NLM_F_ACK
            out += struct.pack("=IHHII", 16 + len(change.body), change.kind, flags, self._sequence, 0) + change.body
        self._socket.send(out)
        failure: OSError | None = None
        while about:
            data = self._socket.recv(65536)
            offset = 0
            while offset < len(data):
                size, kind, _flags, sequence, _port = struct.unpack_from("=IHHII", data, offset)
                if kind == _NLMSG_ERROR and sequence in about:
                    code = -struct.unpack_from("=i", data, offset + 16)[0]
                    what = about.pop(sequence)
                    if code and failure is None:
                        failure = OSError(code, f"{what}: {os.strerror(code)}")
                offset += size + (-size % 4)
        if failure is not None:
            raise failure

    def delete_link(self, name: str) -> None:
        """Delete a link; one that is not there is as good."""
        try:
            self.send(link_delete(name))
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ENOENT):
                raise
