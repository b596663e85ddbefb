"""A small HTTPS server on h11 for the kubelet's API: client certificates, streamed answers, and connections handed over after an Upgrade."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from kubeling.daemon.log import get_logger

log = get_logger("kubelet.http")

_READ = 64 * 1024
_IDLE_SECONDS = 90.0
_MAX_CONNECTIONS = 512
_MAX_BODY = 1024 * 1024


@dataclass(slots=True)
class Request:
    """One request; `identity` is who shows which certificate, None for nobody."""

    method: str
    path: str
    target: str
    query: list[tuple[str, str]]
    headers: list[tuple[bytes, bytes]]
    identity: Identity | None
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    #: What the client has sent behind the head of an Upgrade.
    early: bytes = b""

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    def first(self, name: str) -> str:
        return next((value for key, value in self.query if key == name), "")


@dataclass(frozen=True, slots=True)
class Identity:
    """The subject of a verified client certificate."""

    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Response:
    """`body` is all of it, or what comes piece by piece."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


#: The connection was taken over and has ended: nothing is to be sent.
TAKEN = Response(status=0)

Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """Serves `handler` to each connection; a handler that fails is a 500 and a log line."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._connections = 0

    async def run(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Listen until cancelled."""
        server = await asyncio.start_server(self._serve, host or None, port, ssl=context, limit=_READ, reuse_address=True)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while self._connections <= _MAX_CONNECTIONS and await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, TimeoutError, ssl.SSLError, h11.ProtocolError) as error:
            log.debug("a connection broke off", error=str(error))
        finally:
            self._connections -= 1
            writer.close()

    async def _exchange(self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await self._read(connection, reader, writer)
        if request is None:
            return False
        try:
            response = await self._handler(request)
        except (ConnectionError, ssl.SSLError):
            raise
        except Exception as error:
            log.exception("a request failed", path=request.path)
            response = Response(f"{error}\n".encode(), 500)
        if response is TAKEN:
            return False
        await self._answer(connection, reader, writer, request, response)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _read(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request | None:
        request: Request | None = None
        size = 0
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(_IDLE_SECONDS):
                    connection.receive_data(await reader.read(_READ))
            elif isinstance(event, h11.Request):
                target = event.target.decode("latin-1")
                parts = urlsplit(target)
                request = Request(
                    method=event.method.decode("ascii"),
                    path=unquote(parts.path),
                    target=target,
                    query=parse_qsl(parts.query, keep_blank_values=True),
                    headers=[(bytes(name), bytes(value)) for name, value in event.headers],
                    identity=_identity(writer),
                    reader=reader,
                    writer=writer,
                )
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > _MAX_BODY:
                    return None
            elif isinstance(event, h11.EndOfMessage):
                if request is not None and request.header(b"upgrade"):
                    request.early = connection.trailing_data[0]
                return request
            elif event is h11.PAUSED:
                return request
            else:
                return None

    async def _answer(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Request,
        response: Response,
    ) -> None:
        headers = [("content-type", response.content_type), *response.headers.items()]
        body = response.body
        if isinstance(body, bytes):
            headers.append(("content-length", str(len(body))))
        else:
            headers.append(("transfer-encoding", "chunked"))
        writer.write(connection.send(h11.Response(status_code=response.status, headers=headers)) or b"")
        if isinstance(body, bytes):
            if request.method != "HEAD":
                writer.write(connection.send(h11.Data(data=body)) or b"")
        else:
            await self._stream(connection, reader, writer, body)
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()

    async def _stream(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        body: AsyncIterator[bytes],
    ) -> None:
        """Send pieces as they come. A client that hangs up ends it at once, also while nothing comes."""
        await writer.drain()

        async def copy() -> None:
            async for chunk in body:
                writer.write(connection.send(h11.Data(data=chunk)) or b"")
                await writer.drain()

        copying = asyncio.ensure_future(copy())
        hung_up = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({copying, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if not copying.done() and hung_up.done() and hung_up.result():
                await copying  # It has sent the next request already; let it wait.
            if not copying.done():
                raise ConnectionResetError("the client hung up")
            copying.result()
        finally:
            for task in (copying, hung_up):
                task.cancel()
            await asyncio.gather(copying, hung_up, return_exceptions=True)


def _identity(writer: asyncio.StreamWriter) -> Identity | None:
    tls = writer.get_extra_info("ssl_object")
    certificate: Any = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    subject = [pair for entry in certificate.get("subject", ()) for pair in entry]
    names = [value for key, value in subject if key == "commonName"]
    return Identity(names[0] if names else "", tuple(value for key, value in subject if key == "organizationName"))


def tls_context(cert: str, key: str, client_ca: str) -> ssl.SSLContext:
    """Serve with this certificate; ask clients for theirs where there is a CA to check them by."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca:
        context.load_verify_locations(cafile=client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
