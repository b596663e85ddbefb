"""The client port: accepts connections, looks at their first bytes, and gives each to HTTP/2 or to HTTP/1.1."""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterable
from typing import Any

from kubeling.daemon.main import UsageError
from kubeling.etcdlite.config import TLS, host_port
from kubeling.etcdlite.rpc import Kind, Method, Service
from kubeling.etcdlite.tls import ListeningTLS
from kubeling.etcdlite.transport.call import Call
from kubeling.etcdlite.transport.connection import Connection
from kubeling.etcdlite.transport.frames import PREFACE
from kubeling.etcdlite.transport.headers import Head
from kubeling.etcdlite.transport.http1 import Http1
from kubeling.etcdlite.transport.page import PageStream
from kubeling.etcdlite.transport.shared import Limits, Peer, Shared
from kubeling.etcdlite.transport.stream import Stream
from kubeling.etcdlite.transport.tally import NOBODYS, Tally
from kubeling.etcdlite.transport.web import Site

#: A client that connects and says nothing is not waited for longer.
_OPENING_SECONDS = 10.0
_HANDSHAKE_SECONDS = 10.0
#: In JSON a message takes more room than in protobuf.
_JSON_FACTOR = 2
_MAX_HTTP1 = 1000
_BACKLOG = 1024

# asyncio's TLS gives every connection a buffer for a read of this size; the default is 256 KB, and there may be a thousand connections.
SSLProtocol.max_size = 32 * 1024


_KINDS = {
    Kind.UNARY: "unary",
    Kind.DIRECT: "unary",
    Kind.SERVER_STREAM: "server_stream",
    Kind.BOTH_STREAMS: "bidi_stream",
}


class Server:
    """Serves `services` as gRPC and `site` as ordinary HTTP."""

    def __init__(self, services: Iterable[Service], site: Site, limits: Limits) -> None:
        self._methods: dict[str, Method] = {
            f"/{service.name}/{name}": method for service in services for name, method in service.methods.items()
        }
        #: What is counted, by path.
        self.tallies = {path: Tally(_KINDS[method.kind]) for path, method in self._methods.items()}
        self._site = site
        self._shared = Shared(limits, self._open)
        self._listeners: list[asyncio.Server] = []

    async def listen(self, url: str, tls: TLS) -> None:
        """Accept connections for `url`. Raises UsageError."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"backlog": _BACKLOG}
        accept: Callable[[], asyncio.Protocol] = self._accept
        if url.startswith("https:"):
            secure = ListeningTLS(tls, alpn=("h2", "http/1.1"))

            def accept() -> asyncio.Protocol:
                # Called before the handshake.
                secure.refresh()
                return self._accept()

            options |= {"ssl": secure.context, "ssl_handshake_timeout": _HANDSHAKE_SECONDS, "ssl_shutdown_timeout": 2.0}
        try:
            if url.startswith("unix:"):
                path = url.removeprefix("unix:").removeprefix("//")
                listener = await loop.create_unix_server(accept, path, **options)
            else:
                host, port = host_port(url)
                listener = await loop.create_server(accept, host, port, reuse_address=True, **options)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"cannot listen on {url}: the address is in use or not this machine's ({reason})") from None
        self._listeners.append(listener)

    async def stop(self, grace: float) -> None:
        """Accept nothing more, let what is being done be done for `grace` seconds, and hang up."""
        for listener in self._listeners:
            listener.close()
        shared, loop = self._shared, asyncio.get_running_loop()
        for one in list(shared.connections):
            one.drain()
        empty = loop.create_future()
        shared.left = lambda: None if shared.connections or empty.done() else empty.set_result(None)
        if shared.connections:
            await asyncio.wait([empty], timeout=grace)
        for one in list(shared.connections):
            one.stop_work()
        # A turn in which they are cancelled, and another in which they say so.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for one in list(shared.connections):
            one.close()
        await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        return _Opening(self)

    def _open(self, connection: Connection, number: int, head: Head, window: int) -> Stream:
        if head.grpc and head.method == "POST":
            return Call(connection, number, head, window, self._methods.get(head.path), self.tallies.get(head.path, NOBODYS))
        return PageStream(connection, number, head, window, self._site, self._shared.limits.max_message * _JSON_FACTOR)

    def choose(self, peer: Peer, first: bytes) -> asyncio.Protocol | None:
        """Who speaks what begins with `first`; None while that is not certain, or where there are too many already."""
        if first.startswith(PREFACE):
            return Connection(self._shared, peer)
        if sum(isinstance(one, Http1) for one in self._shared.connections) >= _MAX_HTTP1:
            return None
        return Http1(self._site, peer, self._shared.limits.max_message * _JSON_FACTOR, self._shared)


class _Opening(asyncio.Protocol):
    """A connection of which nothing is known yet."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._first = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_OPENING_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        first = self._first = self._first + data
        if len(first) < len(PREFACE) and PREFACE.startswith(first):
            return
        transport = self._transport
        assert transport is not None
        assert self._timer is not None
        self._timer.cancel()
        chosen = self._server.choose(_peer(transport), first)
        if chosen is None:
            transport.abort()
            return
        transport.set_protocol(chosen)
        chosen.connection_made(transport)
        rest = first[len(PREFACE) :] if isinstance(chosen, Connection) else first
        if rest:
            chosen.data_received(rest)


def _peer(transport: asyncio.Transport) -> Peer:
    address = transport.get_extra_info("peername")
    text = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address or "")
    certificate = transport.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return Peer(text, names[0] if names else "", transport.get_extra_info("ssl_object") is not None)
