"""uvicorn, bent to what an API server needs.

- The peer's certificate is looked at once a connection and travels in ``scope["state"]``.
- Every Upgrade (WebSocket, SPDY) is a plain request first, so that it is authenticated, authorised and refused like any other; the handler then takes the
  connection over with :meth:`Connection.hijack` and moves bytes itself.
- Several sockets, no polling, and a shutdown that ends watches, finishes the writes under way and then closes. HTTP/1.1 has no GOAWAY, and a request that meets
  a closing connection is an error that its client cannot repair (a write may have been done). So connections in use are closed by an answer that says so, and only
  those on which nothing has been asked for a while are closed without one.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Sequence
from socket import socket
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kubeling.apiserver.authn.frontproxy import FrontProxy
from kubeling.apiserver.authn.user import User
from kubeling.apiserver.authn.x509 import Peer, Peers
from kubeling.apiserver.tls import peer_chain
from kubeling.daemon.log import get_logger

log = get_logger("server")

#: Go's clients keep idle connections for 90 s; ours must outlive them, or a request meets a closing connection.
KEEP_ALIVE_SECONDS = 180
#: A client that connects has to say something within this time.
_FIRST_REQUEST_SECONDS = 60
#: At a shutdown, a connection is closed between two requests only if its last one is at least this long ago.
_QUIET_SECONDS = 0.3
_HANDSHAKE_SECONDS = 0.05
#: A hijacked connection stops reading from one side while the other has this much unsent.
_HIGH_WATER = 256 * 1024
#: asyncio gives each TLS connection a buffer of its own to read into, and 256 KB is its idea. Two records are enough; and since what was read into it is taken out before
#: anything else happens, one buffer is enough for all: an idle cluster has some eighty connections.
SSLProtocol.max_size = 32 * 1024
_BUFFER = bytearray(SSLProtocol.max_size)


class Connection:
    """A client's connection, as handlers see it in ``scope["state"]["connection"]``."""

    __slots__ = ("_on_close", "_peer", "_protocol", "closed")

    def __init__(self, protocol: KubeProtocol, peer: Peer | None) -> None:
        self._protocol = protocol
        self._peer = peer
        self.closed = False
        self._on_close: Callable[[], None] | None = None

    @property
    def user(self) -> User | FrontProxy | None:
        """What the client's certificate says now; see :class:`.authn.x509.Peer`."""
        return None if self._peer is None else self._peer.user

    def when_closed(self, call: Callable[[], None] | None) -> None:
        """Have `call` called when the client goes away (at once if it is gone), until the handler of the request under way passes None."""
        self._on_close = call
        if self.closed and call is not None:
            call()

    def lost(self) -> None:
        """The client is gone."""
        self.closed = True
        if self._on_close is not None:
            self._on_close()

    def reply(self, send: Any, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Give a whole answer at once and past ASGI; False where nothing was sent, since the client is slow or gone. `send` is that of the request.

        Through ASGI it takes two messages, whose headers are looked at one by one, and is two records of TLS.
        """
        return self._protocol.reply(send.__self__, status, headers, body)

    def write_chunk(self, data: bytes) -> bool:
        """Send some of the chunked answer that is under way, at once and past ASGI; False where the client is slow, and nothing is sent.

        A change that goes to a thousand watchers would otherwise wake a thousand tasks.
        """
        return self._protocol.write_chunk(data)

    def abort(self) -> None:
        """Break the connection off: the answer that has begun cannot be finished."""
        self._protocol.transport.abort()

    def hijack(self, head: bytes) -> Hijacked:
        """Answer the request under way with `head` (status line and headers) and take the connection over."""
        return self._protocol.hijack(head)


class Hijacked:
    """A raw byte stream to the client, after a 101."""

    def __init__(self, transport: asyncio.Transport, early: bytes) -> None:
        self._transport = transport
        self.reader = asyncio.StreamReader(limit=_HIGH_WATER)
        self.reader.set_transport(transport)
        self._writable = asyncio.Event()
        self._writable.set()
        if early:
            self.reader.feed_data(early)

    async def write(self, data: bytes) -> None:
        """Send, waiting while the client is slow."""
        await self._writable.wait()
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self._transport.close()


class KubeProtocol(HttpToolsProtocol):
    """One connection."""

    #: Set in a subclass for each server.
    certificates: Peers | None = None
    #: Set when the server shuts down; the future is done when the last connection is gone.
    drained: asyncio.Future[None] | None = None
    _used = 0.0
    _connection: Connection
    _idle_timer: asyncio.TimerHandle
    _hijacked: Hijacked | None = None
    _upgrading = False
    _early = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            _share_buffer(transport)
        peer = self.certificates.peer_of(peer_chain(tls)) if tls is not None and self.certificates is not None else None
        self._connection = Connection(self, peer)
        self.app_state = {**self.app_state, "connection": self._connection}
        self._used = self.loop.time()
        self._idle_timer = self.loop.call_later(_FIRST_REQUEST_SECONDS, self._look_for_use)
        if self.drained is not None:
            self.shutdown()

    def _should_upgrade(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if self._hijacked is not None:
            self._hijacked.reader.feed_data(data)
            return
        if self._upgrading:
            self._early += data
            if len(self._early) > _HIGH_WATER:
                self.transport.close()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrading = True
            self._early = data[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse()

    def _refuse(self) -> None:
        """What is not HTTP gets a Status all the same."""
        body = (
            b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
            b'"message":"the request is not valid HTTP","reason":"BadRequest","code":400}'
        )
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head % len(body) + body)
            self.transport.close()

    def reply(self, cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """See :meth:`Connection.reply`."""
        if cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        lines = [STATUS_LINE[status]]
        keep = cycle.keep_alive
        for name, value in headers:
            if name == b"connection":
                keep = False
            else:
                lines.append(b"%b: %b\r\n" % (name, value))
        lines.append(
            b"content-length: %d\r\n\r\n" % len(body) if keep else b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) + 1 + (not keep):
            raise RuntimeError("a header has a line break")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(head if cycle.scope["method"] == "HEAD" else head + body)
        cycle.message_event.set()
        if not keep:
            self.transport.close()
        cycle.on_response()
        return True

    def write_chunk(self, data: bytes) -> bool:
        """See :meth:`Connection.write_chunk`."""
        if self.flow.write_paused or self.transport.is_closing():
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def hijack(self, head: bytes) -> Hijacked:
        """See :meth:`Connection.hijack`."""
        self.cycle.response_started = True
        self.cycle.response_complete = True
        self._hijacked = Hijacked(self.transport, self._early)
        self.flow.resume_reading()
        self.transport.write(head)
        return self._hijacked

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # After a refused Upgrade the parser cannot go on: the refusal says that the connection ends with it.
        if self.drained is not None or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """The server shuts down: the answer under way is the last; where there is none, the connection is closed when nobody is using it."""
        if self._hijacked is not None:
            self.transport.close()
        elif self.cycle is None or self.cycle.response_complete:
            quiet = self._used + _QUIET_SECONDS - self.loop.time()
            if quiet > 0:
                self.loop.call_later(quiet, self.shutdown)
            elif not self.transport.is_closing():
                self.transport.close()
        else:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """The next request on the connection may begin. (uvicorn sets a timer after each answer and takes it back with each request.)"""
        self._used = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def _look_for_use(self) -> None:
        """Close a connection on which nothing has been asked for long, or ever; else look again when it may have come to that."""
        if self._hijacked is not None or self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        patience = _FIRST_REQUEST_SECONDS if self.cycle is None else KEEP_ALIVE_SECONDS
        left = KEEP_ALIVE_SECONDS if busy else self._used + patience - self.loop.time()
        if left <= 0:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(left, self._look_for_use)

    def eof_received(self) -> None:
        if self._hijacked is not None:
            self._hijacked.reader.feed_eof()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._hijacked is not None:
            self._hijacked.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._hijacked is not None:
            self._hijacked.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._idle_timer.cancel()
        if self._hijacked is not None:
            self._hijacked.reader.feed_eof()
            self._hijacked.resume()
        self._connection.lost()
        if self.drained is not None and not self.connections and not self.drained.done():
            self.drained.set_result(None)


def _share_buffer(transport: Any) -> None:
    """Take the buffer of a TLS connection away. Another event loop than asyncio's own keeps its way."""
    protocol = getattr(transport, "_ssl_protocol", None)
    if hasattr(protocol, "_ssl_buffer_view"):
        protocol._ssl_buffer, protocol._ssl_buffer_view = _BUFFER, memoryview(_BUFFER)  # type: ignore[union-attr]


class Server(uvicorn.Server):
    """Serves `app`, with `tls`, on the sockets given to :meth:`start`, until :meth:`stop`. `certificates` knows the clients'."""

    def __init__(self, app: Any, tls: ssl.SSLContext | None, certificates: Peers | None) -> None:
        protocol = type("Protocol", (KubeProtocol,), {"certificates": certificates})
        self._protocol: type[KubeProtocol] = protocol
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            backlog=4096,
        )
        super().__init__(config)
        config.load()
        config.ssl = tls
        self.lifespan = config.lifespan_class(config)

    async def start(self, sockets: Sequence[socket]) -> None:
        """Listen."""
        await self.startup(sockets=list(sockets))

    async def stop(self, seconds: float) -> None:
        """Accept nothing new, let what is under way finish for up to `seconds`, and close."""
        for server in self.servers:
            server.close()
        drained = self._protocol.drained = asyncio.get_running_loop().create_future()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        # Also with no connection left: one that was accepted just now may be in the middle of its TLS handshake.
        left = _QUIET_SECONDS if self.server_state.connections else _HANDSHAKE_SECONDS
        await asyncio.wait([drained], timeout=min(seconds, left))
        tasks = [each for each in self.server_state.tasks if not each.done()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            if late:
                log.warning("requests were cut off by the shutdown", count=len(late))
            for each in late:
                each.cancel()
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.close()
