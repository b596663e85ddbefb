"""The kernel's table of connections (conntrack), by ctnetlink: which flows lead where, and to forget those that lead wrong.

The kernel decides for the first packet of a flow where it goes, and never again: a UDP flow, which has no end of its own, would stick to an endpoint that has
gone, one that began while there was no rule for it would stay without, and so would the first packet of a TCP connection that is sent again and again to a
machine that is dead. So when a service port leads elsewhere its flows are compared with what the rules would do now, and those of every port when all rules
were made anew: UDP flows, and TCP connections that nobody has answered yet, that do not agree are forgotten, and their next packet is a first one again.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kubeling.kubeproxy.model import ServicePort
from kubeling.kubeproxy.nfnetlink import NETLINK_NETFILTER, attribute, attributes, attributes_of, failure, message, messages
from kubeling.kubeproxy.text import family_of

_SUBSYSTEM = 1 << 8
_NEW, _GET, _DELETE = _SUBSYSTEM, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_DONE, _ERROR = 3, 2
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
#: CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ID, CTA_ZONE, CTA_STATUS_MASK; in a tuple CTA_TUPLE_IP (sources of both families, destinations) and CTA_TUPLE_PROTO (number, ports).
_ORIGINAL, _REPLY, _STATUS, _ID, _ZONE, _STATUS_MASK = 1, 2, 3, 12, 18, 26
#: IPS_SEEN_REPLY
_ANSWERED = 2
_IP, _PROTO, _NESTED = 1, 2, 0x8000
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_PROTOCOLS = {"TCP": 6, "UDP": 17}
_PATIENCE = 10.0

#: Address and port.
Address = tuple[str, int]
#: Protocol number, and what is dialled → where it may lead.
Expected = Mapping[tuple[int, Address], frozenset[Address]]


@dataclass(frozen=True, slots=True)
class Flow:
    """What a client dialled, and who answers it; `handle` is what the kernel knows it by."""

    protocol: int
    dialled: Address
    answers: Address
    #: Whether it ever did.
    answered: bool = True
    handle: bytes = b""
    family: int = socket.AF_INET


def expected(ports: Iterable[ServicePort], node_ips: Iterable[str]) -> dict[tuple[int, Address], frozenset[Address]]:
    """Where the flows of these ports may lead."""
    found: dict[tuple[int, Address], frozenset[Address]] = {}
    nodes = list(node_ips)
    for port in ports:
        number = _PROTOCOLS.get(port.protocol)
        if number is None:
            continue
        internal = [(each.ip, each.port) for each in port.internal]
        # Pods, and the node itself, are led to any endpoint also where others are not.
        external = [(each.ip, each.port) for each in (*port.external, *port.everywhere)]
        places = [((ip, port.port), internal) for ip in port.cluster_ips] + [
            ((ip, port.port), external) for ip in port.external_ips
        ]
        if port.node_port:
            places += [((ip, port.node_port), external) for ip in nodes]
        for place, endpoints in places:
            family = family_of(place[0])
            found[number, place] = frozenset(each for each in endpoints if family_of(each[0]) == family)
    return found


def is_stale(flow: Flow, ports: Expected) -> bool:
    """Whether its next packet would be led elsewhere if it were the first. A TCP connection to an endpoint that has answered is its own business, to its end."""
    endpoints = ports.get((flow.protocol, flow.dialled))
    if endpoints is None or flow.answers in endpoints:
        return False
    if flow.answers == flow.dialled:
        return bool(endpoints)
    return flow.protocol == _PROTOCOLS["UDP"] or not flow.answered


def forget(ports: Expected) -> int:
    """Forget the stale flows of this network namespace; returns how many. Blocks: the kernel tells its whole table. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(_PATIENCE)
        kernel.bind((0, 0))
        # Of TCP the kernel need not tell more than what is not answered (kernels that do not know the wish tell everything).
        every = any(number == _PROTOCOLS["UDP"] for number, _ in ports)
        stale = [each for each in _flows(kernel, every=every) if is_stale(each, ports)]
        return sum(_delete(kernel, each) for each in stale)


def forget_connection(source: Address, destination: Address) -> bool:
    """Forget the TCP connection that a client began with these addresses; whether there was one. Raises OSError."""
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    column = 1 if family == socket.AF_INET6 else 0
    ips = [
        (kinds[column], socket.inet_pton(family, each[0])) for kinds, each in ((_SOURCES, source), (_DESTINATIONS, destination))
    ]
    ports = [(_SOURCE_PORT, source[1]), (_DESTINATION_PORT, destination[1])]
    proto = attribute(_NUMBER, bytes([_PROTOCOLS["TCP"]])) + b"".join(
        attribute(kind, number.to_bytes(2, "big")) for kind, number in ports
    )
    there = attribute(_IP | _NESTED, b"".join(attribute(*each) for each in ips)) + attribute(_PROTO | _NESTED, proto)
    flow = Flow(_PROTOCOLS["TCP"], destination, destination, handle=attribute(_ORIGINAL | _NESTED, there), family=family)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(_PATIENCE)
        kernel.bind((0, 0))
        return bool(_delete(kernel, flow))


def _flows(kernel: socket.socket, *, every: bool) -> Iterator[Flow]:
    wish = b"" if every else attribute(_STATUS, struct.pack("!I", 0)) + attribute(_STATUS_MASK, struct.pack("!I", _ANSWERED))
    kernel.send(message(_GET, _REQUEST | _DUMP, socket.AF_UNSPEC, wish))
    while True:
        data = kernel.recv(1 << 18)
        for kind, body in messages(data):
            if kind == _DONE:
                return
            if kind == _ERROR and (error := failure(body, "conntrack")):
                raise error
            if kind == _NEW and (flow := parse(body)):
                yield flow


def parse(body: bytes) -> Flow | None:
    """One entry, from its struct nfgenmsg on; None where it is of no protocol that Services have."""
    found = attributes_of(body)
    original, reply = (_tuple(found.get(kind, b"")) for kind in (_ORIGINAL, _REPLY))
    if original is None or reply is None:
        return None
    handle = attribute(_ORIGINAL | _NESTED, found[_ORIGINAL])
    handle += b"".join(attribute(kind, found[kind]) for kind in (_ID, _ZONE) if kind in found)
    answered = bool(int.from_bytes(found.get(_STATUS, b""), "big") & _ANSWERED)
    return Flow(original[0], original[2], reply[1], answered, handle, body[0])


def _tuple(data: bytes) -> tuple[int, Address, Address] | None:
    """Protocol, source and destination."""
    parts = attributes(data)
    ips, proto = attributes(parts.get(_IP, b"")), attributes(parts.get(_PROTO, b""))
    source, destination = (next((ips[kind] for kind in kinds if kind in ips), None) for kinds in (_SOURCES, _DESTINATIONS))
    if source is None or destination is None or not {_NUMBER, _SOURCE_PORT, _DESTINATION_PORT} <= proto.keys():
        return None
    number = proto[_NUMBER][0]
    from_port, to_port = (int.from_bytes(proto[kind][:2], "big") for kind in (_SOURCE_PORT, _DESTINATION_PORT))
    return (number, (_text(source), from_port), (_text(destination), to_port)) if number in _PROTOCOLS.values() else None


def _text(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _delete(kernel: socket.socket, flow: Flow) -> int:
    kernel.send(message(_DELETE, _REQUEST | _ACK, flow.family, flow.handle))
    for kind, body in messages(kernel.recv(1 << 16)):
        if kind == _ERROR and (error := failure(body, "conntrack")):
            if error.errno == errno.ENOENT:
                return 0  # It ended by itself.
            raise error
    return 1
