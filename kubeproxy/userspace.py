"""The backend for nodes without nft: a listening socket for every service address, and a relay behind it.

The service addresses are made local to the node (127.x addresses are already; others are added to the loopback device), so pods reach them by their
ordinary route to the node. Connections lose their source address on the way, which is this mode's price.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import struct
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kubeling.daemon.log import get_logger
from kubeling.kubeproxy.model import Endpoint, ServicePort
from kubeling.kubeproxy.text import family_of
from kubeling.linux.netns import CommandError, ip_batch

log = get_logger("kubeproxy.userspace")

_CHUNK = 64 * 1024
_DIAL_SECONDS = 3.0
_MAX_FLOWS = 1024
_UDP_IDLE_SECONDS = 60.0
_MAX_CLIENTS = 4096

Address = tuple[str, str, int]


class UserspaceBackend:
    """`node_port_addresses` are where node ports are opened; `manage_addresses`: add service addresses to lo (needs the right to)."""

    def __init__(self, *, node_port_addresses: Iterable[str], manage_addresses: bool) -> None:
        self._node_port_addresses = tuple(node_port_addresses)
        self._manage_addresses = manage_addresses
        self._listeners: dict[Address, _Listener] = {}
        self._own_addresses: set[str] = set()

    async def sync(self, ports: Mapping[str, ServicePort], changed: Collection[str] | None = None) -> None:
        wanted: dict[Address, tuple[ServicePort, tuple[Endpoint, ...]]] = {}
        for port in ports.values():
            for ip in port.cluster_ips:
                wanted[port.protocol, ip, port.port] = (port, _of(ip, port.internal))
            if port.node_port:
                for ip in self._node_port_addresses:
                    wanted[port.protocol, ip, port.node_port] = (port, _of(ip, port.external))
        for address in [address for address in self._listeners if address not in wanted]:
            await self._listeners.pop(address).close()
        self._sync_addresses({ip for port in ports.values() for ip in port.cluster_ips if not ip.startswith("127.")})
        problems = []
        for address, (port, endpoints) in wanted.items():
            listener = self._listeners.get(address)
            if listener is None:
                listener = _TcpListener(address) if port.protocol == "TCP" else _UdpListener(address)
                try:
                    await listener.open()
                except OSError as error:
                    problems.append(f"{address[1]}:{address[2]} for {port.key}: {error.strerror or error}")
                    continue
                self._listeners[address] = listener
            listener.lead_to(endpoints, port.affinity_seconds)
        if problems:
            raise OSError(errno.EADDRNOTAVAIL, "cannot listen on " + "; ".join(problems[:5]))

    async def close(self) -> None:
        for listener in self._listeners.values():
            await listener.close()
        self._listeners.clear()
        self._sync_addresses(set())

    def _sync_addresses(self, wanted: set[str]) -> None:
        if not self._manage_addresses:
            return
        lines = [f"addr add {_host(ip)} dev lo" for ip in wanted - self._own_addresses]
        lines += [f"addr del {_host(ip).split()[0]} dev lo" for ip in self._own_addresses - wanted]
        if lines:
            try:
                ip_batch(lines)
            except CommandError as error:
                if "File exists" not in str(error):
                    raise
            self._own_addresses = wanted


def _of(ip: str, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Those of the same family."""
    return tuple(each for each in endpoints if family_of(each.ip) == family_of(ip))


def _host(ip: str) -> str:
    return f"{ip}/128 nodad" if ":" in ip else f"{ip}/32"


class _Listener:
    """One address. A new choice of endpoints takes effect for the next connection; those that are open go on."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._endpoints: tuple[Endpoint, ...] = ()
        self._turn = itertools.count()
        self._affinity = 0.0
        self._clients: OrderedDict[str, tuple[Endpoint, float]] = OrderedDict()

    def lead_to(self, endpoints: tuple[Endpoint, ...], affinity_seconds: int) -> None:
        self._endpoints = endpoints
        self._affinity = float(affinity_seconds)

    def choices(self, client: str) -> list[Endpoint]:
        """The endpoints in the order in which to try them for this client."""
        if not self._endpoints:
            return []
        turn = next(self._turn) % len(self._endpoints)
        order = [*self._endpoints[turn:], *self._endpoints[:turn]]
        if self._affinity:
            now = asyncio.get_running_loop().time()
            known = self._clients.get(client)
            if known is not None and known[0] in order and now - known[1] < self._affinity:
                order.remove(known[0])
                order.insert(0, known[0])
        return order

    def remember(self, client: str, endpoint: Endpoint) -> None:
        if self._affinity:
            self._clients[client] = (endpoint, asyncio.get_running_loop().time())
            self._clients.move_to_end(client)
            while len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)

    async def open(self) -> None:
        raise OSError(errno.EPROTONOSUPPORT, f"protocol {self.address[0]} cannot be proxied in user space")

    async def close(self) -> None:
        """Nothing is open."""


class _TcpListener(_Listener):
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address[1], self.address[2], limit=_CHUNK, backlog=512)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = (writer.get_extra_info("peername") or ("",))[0]
        for endpoint in self.choices(client):
            try:
                async with asyncio.timeout(_DIAL_SECONDS):
                    far_reader, far_writer = await asyncio.open_connection(endpoint.ip, endpoint.port, limit=_CHUNK)
            except (OSError, TimeoutError) as error:
                log.debug("an endpoint does not answer", endpoint=f"{endpoint.ip}:{endpoint.port}", error=str(error))
                continue
            self.remember(client, endpoint)
            await relay((reader, writer), (far_reader, far_writer))
            return
        # A reset, as upstream's reject rule gives it; closed in good order the connection would look like an empty answer.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def relay(near: Stream, far: Stream) -> None:
    """Copy both ways until both have ended; a half-close on one side becomes one on the other."""
    try:
        await asyncio.gather(_copy(near[0], far[1]), _copy(far[0], near[1]))
    except OSError:
        pass  # One side broke off; closing tells the other.
    finally:
        for writer in (near[1], far[1]):
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _UdpListener(_Listener, asyncio.DatagramProtocol):
    """Each client address gets a socket of its own towards its endpoint, for as long as it talks."""

    _transport: asyncio.DatagramTransport | None = None

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._flows: OrderedDict[Any, _UdpFlow] = OrderedDict()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self.address[1:], family=socket.AF_INET)

    async def close(self) -> None:
        for flow in list(self._flows.values()):
            flow.end()
        if self._transport is not None:
            self._transport.close()

    def lead_to(self, endpoints: tuple[Endpoint, ...], affinity_seconds: int) -> None:
        super().lead_to(endpoints, affinity_seconds)
        for flow in [flow for flow in self._flows.values() if flow.endpoint not in endpoints]:
            flow.end()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        flow = self._flows.get(addr)
        if flow is None:
            choices = self.choices(addr[0])
            if not choices:
                return
            while len(self._flows) >= _MAX_FLOWS:
                next(iter(self._flows.values())).end()
            flow = self._flows[addr] = _UdpFlow(self, addr, choices[0])
            self.remember(addr[0], choices[0])
        self._flows.move_to_end(addr)
        flow.send(data)

    def reply(self, data: bytes, client: Any) -> None:
        if self._transport is not None:
            self._transport.sendto(data, client)

    def drop(self, client: Any) -> None:
        self._flows.pop(client, None)


class _UdpFlow(asyncio.DatagramProtocol):
    def __init__(self, listener: _UdpListener, client: Any, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._listener, self._client = listener, client
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self._transport: asyncio.DatagramTransport | None = None
        self._expiry = self._loop.call_later(_UDP_IDLE_SECONDS, self.end)
        self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            self._transport, _ = await self._loop.create_datagram_endpoint(
                lambda: self, remote_addr=(self.endpoint.ip, self.endpoint.port)
            )
        except OSError as error:
            log.debug("an endpoint cannot be reached", endpoint=self.endpoint.ip, error=str(error))
            self.end()
            return
        for data in self._waiting:
            self._transport.sendto(data)
        self._waiting.clear()

    def send(self, data: bytes) -> None:
        self._expiry.cancel()
        self._expiry = self._loop.call_later(_UDP_IDLE_SECONDS, self.end)
        if self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < 16:
            self._waiting.append(data)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._listener.reply(data, self._client)

    def error_received(self, exc: Exception) -> None:
        self.end()

    def end(self) -> None:
        self._expiry.cancel()
        self._opening.cancel()
        if self._transport is not None:
            self._transport.close()
        self._listener.drop(self._client)
