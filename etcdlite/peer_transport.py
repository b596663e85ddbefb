"""Connections between members: TCP with mutual TLS, one connection for each pair.

The member with the smaller id dials at once, the other one when nobody has come for a while (the smaller one may not know it yet). Either side first
says who it is: cluster, own id, and whom it takes the other for. Until that fits, nothing else is read, and a side
that does not say it within a few seconds is cut off. With TLS the certificate must come from the peers' CA before a single byte of this is
read. A member of the cluster that this one has not heard of is let in, since it may be the one that has the news; one that was removed is told so.
A frame is a length (u32) and a message.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.etcdlite.config import TLS, host_port
from kubeling.etcdlite.tls import ListeningTLS

log = get_logger("etcdlite.peers")

_LENGTH = struct.Struct(">I")
_HELLO = struct.Struct(">8sQQQ")
_MAGIC = b"kledpr02"
#: Who wants to join asks who the members are; who was removed is told.
_QUESTION = b"kledask1"
_FAREWELL = b"kledbye1"
_HELLO_SECONDS = 5.0
_MAX_HELLO = 4096
_MAX_ANSWER = 1 << 20
_MAX_FRAME = 64 << 20
#: A peer that takes nothing for so long that this much waits for it is cut off; Raft sends again what it lacks when it is back.
_MAX_UNSENT = 64 << 20
#: Who has much to send (a snapshot) waits while more than this is unsent.
_HIGH_WATER = 4 << 20
_MAX_STRANGERS = 32
_DEAD_AFTER_MS = 3000
#: How long the member with the larger id waits to be dialled.
_PATIENCE_SECONDS = 2.0


@dataclass(slots=True)
class Callbacks:
    """What the transport tells the engine. `describe` gives the answer for a member that wants to join, if there is one yet."""

    received: Callable[[int, bytes], None]
    disconnected: Callable[[int], None]
    removed: Callable[[], None]
    describe: Callable[[], bytes]


class PeerTransport:
    """Keeps a connection to every other member."""

    def __init__(self, cluster: int, me: int, tls: TLS, callbacks: Callbacks) -> None:
        self.cluster = cluster
        self.me = me
        self.callbacks = callbacks
        self.links: dict[int, Link] = {}
        self.removed: frozenset[int] = frozenset()
        self.strangers: set[Link] = set()
        #: Bytes, by member.
        self.sent: Counter[int] = Counter()
        self.received: Counter[int] = Counter()
        self._tls = tls
        self._urls: Mapping[int, tuple[str, ...]] = {}
        self._dialers: dict[int, asyncio.Task[None]] = {}
        self._servers: list[asyncio.Server] = []

    async def listen(self, urls: tuple[str, ...]) -> None:
        """Listen for peers. Raises UsageError where an address cannot be had."""
        loop = asyncio.get_running_loop()
        for url in urls:
            host, port = host_port(url)
            secure = ListeningTLS(_checked(self._tls, url), required=bool(self._tls.ca)) if url.startswith("https:") else None

            def accept(secure: ListeningTLS | None = secure) -> Link:
                # Called before the handshake.
                if secure is not None:
                    secure.refresh()
                return Link(self, None)

            try:
                self._servers.append(
                    await loop.create_server(accept, host, port, ssl=secure.context if secure else None, reuse_address=True)
                )
            except OSError as error:
                raise UsageError(f"cannot listen for peers on {url}: {error.strerror}") from None

    def set_peers(self, urls: Mapping[int, tuple[str, ...]]) -> None:
        """Who the members are now, and where: dial those that are new or have moved, and leave those that are none any more."""
        loop = asyncio.get_running_loop()
        before, self._urls = self._urls, {peer: theirs for peer, theirs in urls.items() if peer != self.me}
        for peer in list(self._dialers):
            if self._urls.get(peer) != before.get(peer):
                self._dialers.pop(peer).cancel()
        for peer in self._urls:
            if peer not in self._dialers:
                self._dialers[peer] = loop.create_task(self._dial(peer))

    async def stop(self) -> None:
        for task in self._dialers.values():
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
        self.sent[member] += len(data)
        link.transport.writelines((_LENGTH.pack(len(data)), data))
        if link.full and link.transport.get_write_buffer_size() > _MAX_UNSENT:
            log.warning("a peer takes nothing any more and is cut off", peer=f"{member:x}")
            link.cut()
        return True

    async def room(self, member: int) -> None:
        """Wait until not too much waits for a member to take it, or its connection is gone."""
        link = self.links.get(member)
        if link is not None and link.full:
            await link.drained()

    async def _dial(self, peer: int) -> None:
        backoff = Backoff(base=0.05, limit=1.0)
        if self.me > peer:
            await asyncio.sleep(_PATIENCE_SECONDS)
        while True:
            for url in self._urls.get(peer, ()):
                link = self.links.get(peer)
                if link is None:
                    link = await self._connect(peer, url)
                if link is not None:
                    await asyncio.shield(link.closed)
                    backoff.reset()
                    if self.me > peer:
                        await asyncio.sleep(_PATIENCE_SECONDS)
            await asyncio.sleep(backoff.next())

    async def _connect(self, peer: int, url: str) -> Link | None:
        host, port = host_port(url)
        loop = asyncio.get_running_loop()
        link = None
        try:
            context = dialling_context(self._tls, url)
            async with asyncio.timeout(_HELLO_SECONDS):
                _, link = await loop.create_connection(
                    lambda: Link(self, peer), host, port, ssl=context, server_hostname=host if context else None
                )
                await link.established
        except (OSError, TimeoutError, ssl.SSLError, UsageError) as error:
            log.debug("a peer cannot be reached", peer=f"{peer:x}", url=url, error=str(error))
        return link if link is not None and link.member is not None else None

    def hello(self, to: int) -> bytes:
        body = _HELLO.pack(_MAGIC, self.cluster, self.me, to)
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
        self.full = False
        self._drained: asyncio.Future[None] | None = None
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
        transport.set_write_buffer_limits(_HIGH_WATER)
        _detect_death(transport.get_extra_info("socket"))
        self._timer = asyncio.get_running_loop().call_later(_HELLO_SECONDS, self.cut)
        if self._expected is not None:
            transport.write(self._owner.hello(self._expected))

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    async def drained(self) -> None:
        """Wait until the other side has taken most of what was sent, or is gone."""
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self.member is not None:
            self._owner.received[self.member] += len(data)
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
        owner = self._owner
        if body == _QUESTION and self._expected is None:
            return self._say(owner.callbacks.describe())
        if body == _FAREWELL and self._expected is not None:
            owner.callbacks.removed()
            return False
        if len(body) != _HELLO.size or body[:8] != _MAGIC:
            return self._reject("not a member of an etcdlite cluster")
        _, cluster, member, to = _HELLO.unpack_from(body)
        if cluster != owner.cluster:
            return self._reject(f"belongs to another cluster, {cluster:x}")
        if member in owner.removed:
            return self._say(_FAREWELL)
        if to != owner.me or member == owner.me or self._expected not in (None, member):
            return self._reject(f"member {member:x} looking for {to:x} is not expected here")
        if self._expected is None:
            assert self.transport is not None
            self.transport.write(owner.hello(member))
        if self._timer is not None:
            self._timer.cancel()
        self.member = member
        owner.strangers.discard(self)
        former = owner.links.pop(member, None)
        if former is not None:
            former.cut()
        owner.links[member] = self
        if not self.established.done():
            self.established.set_result(None)
        log.info("connected to a peer", peer=f"{member:x}")
        return True

    def _say(self, body: bytes) -> bool:
        """The last thing that is said on this connection."""
        if self.transport is not None:
            self.transport.write(_LENGTH.pack(len(body)) + body)
            self.transport.close()
        return False

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
        self.resume_writing()
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


async def ask_members(url: str, tls: TLS) -> bytes:
    """What the member behind a peer URL says of the cluster; see :func:`.membership.description`. Raises OSError and UsageError."""
    host, port = host_port(url)
    context = dialling_context(tls, url)
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host if context else None)
            try:
                writer.write(_LENGTH.pack(len(_QUESTION)) + _QUESTION)
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                if length > _MAX_ANSWER:
                    raise OSError(f"an answer of {length} bytes")
                return await reader.readexactly(length)
            finally:
                writer.close()
    except (TimeoutError, EOFError) as error:
        raise OSError(f"no answer: {error!r}") from None


def dialling_context(tls: TLS, url: str) -> ssl.SSLContext | None:
    """What TLS is to be like towards a peer URL; None for plain HTTP. Raises UsageError."""
    if not url.startswith("https:"):
        return None
    _checked(tls, url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.cert, tls.key)
    if tls.ca:
        context.load_verify_locations(tls.ca)
    else:
        context.load_default_certs()
    return context


def _checked(tls: TLS, url: str) -> TLS:
    if not tls.enabled:
        raise UsageError(f"{url} needs --peer-cert-file and --peer-key-file")
    return tls
