"""Connections between members: TCP with mutual TLS, one connection for each pair, opened by the one with the smaller id.

Either side first says who it is: cluster, own id, whom it takes the other for, and its client URLs. Until that fits, nothing else is read, and a side
that does not say it within a few seconds is cut off. With TLS the certificate must come from the peers' CA before a single byte of this is
read. A frame is a length (u32) and a message (see :mod:`.peer_codec`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.etcdlite.config import TLS, Config, Peer, host_port

log = get_logger("etcdlite.peers")

_LENGTH = struct.Struct(">I")
_HELLO = struct.Struct(">8sQQQ")
_MAGIC = b"kledpr01"
_HELLO_SECONDS = 5.0
_MAX_HELLO = 4096
_MAX_FRAME = 64 << 20
#: A peer that takes nothing for so long that this much waits for it is cut off; Raft sends again what it lacks when it is back.
_MAX_UNSENT = 64 << 20
_MAX_STRANGERS = 32
_DEAD_AFTER_MS = 3000


@dataclass(slots=True)
class Callbacks:
    """What the transport tells the engine."""

    received: Callable[[int, bytes], None]
    connected: Callable[[int], None]
    disconnected: Callable[[int], None]


class PeerTransport:
    """Keeps a connection to every other member."""

    def __init__(self, config: Config, callbacks: Callbacks) -> None:
        self.config = config
        self.callbacks = callbacks
        self.links: dict[int, Link] = {}
        self.client_urls: dict[int, tuple[str, ...]] = {}
        self.strangers: set[Link] = set()
        self._dialers: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen and begin to dial. Raises UsageError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        for url in self.config.listen_peer_urls:
            host, port = host_port(url)
            context = _context(self.config.peer_tls, url, server=True)
            try:
                self._servers.append(
                    await loop.create_server(lambda: Link(self, None), host, port, ssl=context, reuse_address=True)
                )
            except OSError as error:
                raise UsageError(f"cannot listen for peers on {url}: {error.strerror}") from None
        self._dialers = [loop.create_task(self._dial(peer)) for peer in self.config.others if self.config.me.id < peer.id]

    async def stop(self) -> None:
        for task in self._dialers:
            task.cancel()
        for server in self._servers:
            server.close()
        for link in [*self.links.values(), *self.strangers]:
            link.cut()

    def send(self, member: int, data: bytes) -> bool:
        """Send to a member; False where there is no connection (then it is lost, which Raft expects)."""
        link = self.links.get(member)
        if link is None or link.transport is None:
            return False
        link.transport.writelines((_LENGTH.pack(len(data)), data))
        if link.transport.get_write_buffer_size() > _MAX_UNSENT:
            log.warning("a peer takes nothing any more and is cut off", peer=f"{member:x}")
            link.cut()
        return True

    def unsent(self, member: int) -> int:
        """Bytes that wait for a member to take them."""
        link = self.links.get(member)
        return 0 if link is None or link.transport is None else link.transport.get_write_buffer_size()

    async def _dial(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(base=0.05, limit=1.0)
        while True:
            for url in peer.peer_urls:
                host, port = host_port(url)
                context = _context(self.config.peer_tls, url, server=False)
                try:
                    async with asyncio.timeout(_HELLO_SECONDS):
                        _, link = await loop.create_connection(
                            lambda: Link(self, peer.id), host, port, ssl=context, server_hostname=host if context else None
                        )
                    await link.established
                    backoff.reset()
                    await link.closed
                except (OSError, TimeoutError, ssl.SSLError) as error:
                    log.debug("a peer cannot be reached", peer=peer.name, url=url, error=str(error))
            await asyncio.sleep(backoff.next())

    def hello(self, to: int) -> bytes:
        urls = ",".join(self.config.advertise_client_urls).encode()
        body = _HELLO.pack(_MAGIC, self.config.cluster_id, self.config.me.id, to) + urls
        return _LENGTH.pack(len(body)) + body


class Link(asyncio.Protocol):
    """One connection. `expected` is whom we dialled; None where somebody dialled us."""

    def __init__(self, owner: PeerTransport, expected: int | None) -> None:
        self._owner = owner
        self._expected = expected
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self.member: int | None = None
        self.transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self.established: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if len(self._owner.strangers) >= _MAX_STRANGERS:
            self.cut()
            return
        self._owner.strangers.add(self)
        _detect_death(transport.get_extra_info("socket"))
        self._timer = asyncio.get_running_loop().call_later(_HELLO_SECONDS, self.cut)
        if self._expected is not None:
            transport.write(self._owner.hello(self._expected))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > (_MAX_HELLO if self.member is None else _MAX_FRAME):
                self._reject("a frame of an impossible length")
                return
            end = at + _LENGTH.size + length
            if len(buffer) < end:
                break
            body = bytes(memoryview(buffer)[at + _LENGTH.size : end])
            at = end
            if self.member is not None:
                self._owner.callbacks.received(self.member, body)
            elif not self._greet(body):
                return
        del buffer[:at]

    def _greet(self, body: bytes) -> bool:
        """Look at what the other side says it is; False where that does not fit."""
        config = self._owner.config
        if len(body) < _HELLO.size or body[:8] != _MAGIC:
            return self._reject("not a member of an etcdlite cluster")
        _, cluster, member, to = _HELLO.unpack_from(body)
        if cluster != config.cluster_id:
            return self._reject(f"belongs to another cluster, {cluster:x}")
        if to != config.me.id or member not in {peer.id for peer in config.others} or self._expected not in (None, member):
            return self._reject(f"member {member:x} looking for {to:x} is not expected here")
        if self._expected is None:
            assert self.transport is not None
            self.transport.write(self._owner.hello(member))
        if self._timer is not None:
            self._timer.cancel()
        self.member = member
        self._owner.strangers.discard(self)
        self._owner.client_urls[member] = tuple(filter(None, body[_HELLO.size :].decode("utf-8", "replace").split(",")))
        former = self._owner.links.pop(member, None)
        if former is not None:
            former.cut()
        self._owner.links[member] = self
        if not self.established.done():
            self.established.set_result(None)
        log.info("connected to a peer", peer=f"{member:x}")
        self._owner.callbacks.connected(member)
        return True

    def _reject(self, reason: str) -> bool:
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        log.warning("a connection to the peer port was refused", source=peer, reason=reason)
        self.cut()
        return False

    def cut(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._owner.strangers.discard(self)
        self.transport = None
        for future in (self.established, self.closed):
            if not future.done():
                future.set_result(None)
        if self.member is not None and self._owner.links.get(self.member) is self:
            del self._owner.links[self.member]
            log.info("a peer is gone", peer=f"{self.member:x}")
            self._owner.callbacks.disconnected(self.member)


def _detect_death(sock: socket.socket) -> None:
    """Have the kernel notice a peer that vanished without a word, without messages of our own."""
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS),
    ):
        sock.setsockopt(level, option, value)


def _context(tls: TLS, url: str, *, server: bool) -> ssl.SSLContext | None:
    if not url.startswith("https:"):
        return None
    if not tls.enabled:
        raise UsageError(f"{url} needs --peer-cert-file and --peer-key-file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.cert, tls.key)
    if tls.ca:
        context.load_verify_locations(tls.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    elif not server:
        context.load_default_certs()
    return context
