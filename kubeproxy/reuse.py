"""Old connections in the way of new ones.

Where a client's machine, or an endpoint's, ends without a word, the kernel goes on believing in the connection (for five minutes where something was sent and not
acknowledged, else for days) and leads there all that has the same addresses and ports. A client that takes the same port again would begin its new
connection with an endpoint that has been gone for long. A packet that begins a connection is proof that the client knows nothing of the old one: where the
old one leads to none of the endpoints that there are, a rule drops that packet and shows it to this proxy (by NFLOG, linux/netfilter/nfnetlink_log.h), which
has the kernel forget the old connection. The client's second attempt, a second later, is led as a first one is.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

from kubeling.daemon.log import get_logger
from kubeling.kubeproxy import flows
from kubeling.kubeproxy.flows import Address
from kubeling.kubeproxy.nfnetlink import NETLINK_NETFILTER, attribute, attributes_of, failure, message, messages

log = get_logger("kubeproxy.reuse")

#: The group of NFLOG to which the rule sends.
GROUP = 73
_SUBSYSTEM = 4 << 8
_PACKET, _CONFIG = _SUBSYSTEM, _SUBSYSTEM | 1
_ERROR = 2
_REQUEST, _ACK = 1, 4
#: NFULA_CFG_CMD (bind), NFULA_CFG_MODE (so many bytes of the packet), NFULA_CFG_QTHRESH (one packet a message); NFULA_PAYLOAD.
_COMMAND, _MODE, _THRESHOLD, _PAYLOAD = 1, 2, 5, 9
_BIND, _COPY_PACKET = 1, 2
_BYTES = 128
_TCP = 6


class ReuseWatch:
    """Run :meth:`run` as a task once :meth:`open` has said that the kernel can do it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def open(self) -> bool:
        """Ask the kernel for the packets of this network namespace. False where it has no NFLOG, or does not let us."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            sock.bind((0, 0))
            sock.settimeout(1.0)
            for content in (
                attribute(_COMMAND, bytes([_BIND])),
                attribute(_MODE, struct.pack("!IBB", _BYTES, _COPY_PACKET, 0)),
                attribute(_THRESHOLD, struct.pack("!I", 1)),
            ):
                sock.send(message(_CONFIG, _REQUEST | _ACK, socket.AF_UNSPEC, content, resource=GROUP))
                for kind, body in messages(sock.recv(1 << 16)):
                    if kind == _ERROR and (error := failure(body, "NFLOG")):
                        raise error
        except OSError as refused:
            sock.close()
            log.warning(
                "connections to endpoints that are gone may be in the way of new ones from the same port", error=str(refused)
            )
            return False
        sock.setblocking(False)
        self._socket = sock
        return True

    async def run(self) -> None:
        """Forget until cancelled."""
        sock = self._socket
        if sock is None:
            raise RuntimeError("not open")
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(sock, 1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # What was missed is sent again by its client.
                    raise
                continue
            for kind, body in messages(data):
                packet = addresses(attributes_of(body).get(_PAYLOAD, b"")) if kind == _PACKET else None
                if packet is not None:
                    await asyncio.to_thread(_forget, *packet)


def _forget(source: Address, destination: Address) -> None:
    try:
        if flows.forget_connection(source, destination):
            log.info("a connection to an endpoint that is gone was in the way of a new one", client=source, dialled=destination)
    except OSError as error:
        log.warning("a connection to an endpoint that is gone could not be forgotten", client=source, error=str(error))


def addresses(packet: bytes) -> tuple[Address, Address] | None:
    """Source and destination of a TCP packet, from its IP header on; None of anything else."""
    version = packet[0] >> 4 if packet else 0
    try:
        if version == 4 and packet[9] == _TCP:
            family, ips, ports = socket.AF_INET, (packet[12:16], packet[16:20]), (packet[0] & 15) * 4
        elif version == 6 and packet[6] == _TCP:
            family, ips, ports = socket.AF_INET6, (packet[8:24], packet[24:40]), 40
        else:
            return None
        source, destination = struct.unpack_from("!HH", packet, ports)
        return (socket.inet_ntop(family, ips[0]), source), (socket.inet_ntop(family, ips[1]), destination)
    except (IndexError, ValueError, struct.error):
        return None
