"""A reverse proxy: a request is passed to a backend as it comes, and its answer passed back as it comes; an Upgrade becomes bytes both ways.

One connection a request. Nothing is kept of either body but what is on its way, so what passes through may be of any length. What goes on and what does not is as
with Go's ReverseProxy: headers of the hop are dropped, and who was asking is told in ``X-Forwarded-*``. Used for the `proxy` subresources and for aggregated APIs.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import h11

from kubeling.api import errors
from kubeling.apiserver.context import Context
from kubeling.apiserver.request import ClientGone, Request
from kubeling.apiserver.server import Hijacked
from kubeling.apiserver.subresources.pod_log import Cancelling

Header = tuple[bytes, bytes]

_CONNECT_SECONDS = 30.0
_READ = 64 * 1024
_MAX_HEAD = 256 * 1024
#: They speak of one connection, or of who is asking, which the backend is told otherwise.
_HOP = frozenset(
    b"connection proxy-connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_OURS = frozenset(
    b"authorization impersonate-user impersonate-group impersonate-uid expect host x-forwarded-host x-forwarded-uri".split()
)
_OUR_PREFIXES = (b"impersonate-extra-", b"x-remote-")
_CORS = frozenset(
    b"access-control-allow-credentials access-control-allow-headers access-control-allow-methods access-control-allow-origin".split()
)


class DialFailed(Exception):
    """No connection; the text is Go's."""


class Unreachable(Exception):
    """The backend broke off before it answered; the text says how."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A server: the addresses to try in turn; TLS, or none, and the name its certificate is for."""

    addresses: tuple[tuple[str, int], ...]
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


#: Changes an answer: its status and headers, and gives what its body goes through (bytes in, bytes out; None at the end).
Filter = Callable[[int, list[Header]], tuple[list[Header], Callable[[bytes | None], bytes] | None]]


async def dial(backend: Backend, seconds: float = _CONNECT_SECONDS) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first address that takes one. Raises DialFailed."""
    why = "no address is known"
    for host, port in backend.addresses:
        shown = f"dial tcp [{host}]:{port}" if ":" in host else f"dial tcp {host}:{port}"
        try:
            async with asyncio.timeout(seconds):
                name = (backend.server_name or host) if backend.tls is not None else None
                return await asyncio.open_connection(host, port, ssl=backend.tls, server_hostname=name, limit=_READ)
        except TimeoutError:
            why = f"{shown}: i/o timeout"
        except ssl.SSLCertVerificationError as error:
            why = f"tls: failed to verify certificate: x509: {error.verify_message}"
        except ssl.SSLError as error:
            why = f"tls: {error.reason or error}".lower().replace("_", " ")
        except OSError as error:
            why = f"{shown}: connect: {(os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)).lower()}"
    raise DialFailed(why)


def request_headers(request: Request, more: Iterable[Header] = ()) -> list[Header]:
    """The client's headers that go on, and `more`."""
    named = {each.strip().lower().encode() for each in request.header(b"connection").split(",")}
    dropped = _HOP | _OURS | named
    found = [
        (name, value) for name, value in request.scope["headers"] if name not in dropped and not name.startswith(_OUR_PREFIXES)
    ]
    seen = [value for name, value in found if name == b"x-forwarded-for"]
    client = request.scope.get("client")
    if client:
        found = [each for each in found if each[0] != b"x-forwarded-for"]
        found.append((b"x-forwarded-for", b", ".join([*seen, client[0].encode()])))
    return [*found, *more]


async def forward(
    context: Context, request: Request, backend: Backend, target: str, headers: list[Header], change: Filter | None = None
) -> None:
    """Pass a request on to `target` (a path with its query) there, and the answer back. Raises DialFailed and Unreachable before an answer has begun."""
    upgrade = request.header(b"upgrade")
    if upgrade:
        headers = [*headers, (b"connection", b"Upgrade"), (b"upgrade", upgrade.encode("latin-1"))]
    else:
        headers = [*headers, (b"connection", b"close")]
    reader, writer = await dial(backend)
    task = asyncio.ensure_future(_Exchange(context, request, reader, writer, target, headers, change).run())
    stream = Cancelling(task)
    connection = request.scope["state"]["connection"]
    connection.when_closed(stream.close)
    context.streams.add(stream)
    try:
        await asyncio.wait([task])
        if task.cancelled():
            raise ClientGone if connection.closed else errors.service_unavailable("the server is shutting down")
        task.result()
    finally:
        connection.when_closed(None)
        context.streams.discard(stream)
        task.cancel()
        writer.close()


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        context: Context,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: str,
        headers: list[Header],
        change: Filter | None,
    ) -> None:
        self._context = context
        self._request = request
        self._reader = reader
        self._writer = writer
        self._target = target
        self._headers = headers
        self._change = change
        self._silent = True
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)

    async def run(self) -> None:
        method = self._request.scope["method"]
        body = _has_body(self._request)
        if body == b"chunked":
            self._headers.append((b"transfer-encoding", b"chunked"))
        try:
            self._writer.write(self._http.send(h11.Request(method=method, target=self._target, headers=self._headers)) or b"")
        except h11.LocalProtocolError as error:
            raise errors.bad_request(f"the request cannot be passed on: {error}") from error
        sending = asyncio.ensure_future(self._send(body))
        try:
            response = await self._head()
            if response.status_code == 101:
                await self._switched(response)
            else:
                await self._pass_back(response)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, body: bytes) -> None:
        """The client's body. A backend that does not want all of it says so in its answer."""
        try:
            while body:
                message = await self._request.receive()
                if message["type"] == "http.disconnect":
                    self._writer.close()
                    return
                if message.get("body"):
                    self._writer.write(self._http.send(h11.Data(message["body"])) or b"")
                    await self._writer.drain()
                if not message.get("more_body"):
                    break
            self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
            await self._writer.drain()
        except (OSError, h11.LocalProtocolError):
            return

    async def _head(self) -> h11.Response | h11.InformationalResponse:
        try:
            while True:
                event = await self._next()
                if isinstance(event, h11.Response):
                    return event
                if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                    return event
        except (OSError, h11.RemoteProtocolError) as error:
            raise Unreachable(_reason(error)) from error

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(_READ)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise Unreachable("EOF" if self._silent else "unexpected EOF")
            self._silent = False
            self._http.receive_data(data)
        return event

    async def _pass_back(self, response: h11.Response | h11.InformationalResponse) -> None:
        status = response.status_code
        headers = [(name, value) for name, value in response.headers if name not in _HOP and name not in _CORS]
        through = None
        if self._change is not None:
            headers, through = self._change(status, headers)
        request = self._request
        request.status = status
        if request.on_stream is not None:
            request.on_stream()
        await request.send({"type": "http.response.start", "status": status, "headers": [*headers, *request.headers]})
        async for data in self._body():
            await request.chunk(through(data) if through else data)
        if through is not None:
            await request.chunk(through(None))
        await request.end_stream()

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return

    async def _switched(self, response: h11.InformationalResponse | h11.Response) -> None:
        """101: from now on bytes."""
        head = b"HTTP/1.1 101 Switching Protocols\r\n"
        head += b"".join(b"%b: %b\r\n" % each for each in response.headers.raw_items()) + b"\r\n"
        early = self._http.trailing_data[0]
        self._request.status = 101
        client = self._request.scope["state"]["connection"].hijack(head)
        if early:
            await client.write(early)
        await relay(client, self._reader, self._writer)


async def relay(client: Hijacked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Move bytes both ways until the backend has said all, or the client is gone."""
    up = asyncio.ensure_future(_up(client, writer))
    down = asyncio.ensure_future(_down(reader, client))
    try:
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        if up.done() and not down.done():
            await asyncio.wait([down], timeout=2)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        client.close()


async def _up(client: Hijacked, writer: asyncio.StreamWriter) -> None:
    while data := await client.reader.read(_READ):
        writer.write(data)
        await writer.drain()


async def _down(reader: asyncio.StreamReader, client: Hijacked) -> None:
    while data := await reader.read(_READ):
        await client.write(data)


def _has_body(request: Request) -> bytes:
    """Empty where the request has no body; else how it is framed."""
    if request.header(b"upgrade"):
        return b""
    if "chunked" in request.header(b"transfer-encoding").lower():
        return b"chunked"
    length = request.header(b"content-length")
    return length.encode() if length not in ("", "0") else b""


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "read: connection reset by peer"
    return str(error) or "unexpected EOF"
