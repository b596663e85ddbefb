"""A WebSocket to the apiserver, for `exec` and `port-forward`: wsproto does the protocol, asyncio the bytes.

One message at a time is read; the peer's pings are answered on the way. What is sent is drained before `send` returns, so a slow peer slows the
sender down instead of filling memory.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlencode, urlsplit

import orjson
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from kubeling.api.errors import ApiError
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.rest import ConnectionFailed

_READ = 64 * 1024
_MAX_REFUSAL = 64 * 1024
_CONNECT_SECONDS = 10.0


class WebSocket:
    """An open connection. Iterating yields the messages, until the peer closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._sending = asyncio.Lock()

    async def _write(self, data: bytes) -> None:
        async with self._sending:
            self._writer.write(data)
            await self._writer.drain()

    async def handshake(self, host: str, target: str, subprotocol: str, headers: Sequence[tuple[str, str]]) -> None:
        """Ask for the upgrade. Raises ApiError where the server refuses."""
        extra = [(name.encode(), value.encode()) for name, value in headers]
        await self._write(self._protocol.send(Request(host=host, target=target, subprotocols=[subprotocol], extra_headers=extra)))
        code, body = 0, b""
        while True:
            for event in self._protocol.events():
                if isinstance(event, AcceptConnection):
                    if event.subprotocol != subprotocol:
                        raise ConnectionFailed(f"the server chose the protocol {event.subprotocol!r}, not {subprotocol!r}")
                    return
                if isinstance(event, RejectConnection):
                    code = event.status_code
                    if not event.has_body:
                        raise _refusal(code, body)
                elif isinstance(event, RejectData):
                    body = (body + bytes(event.data))[:_MAX_REFUSAL]
                    if event.body_finished:
                        raise _refusal(code, body)
            if not await self._receive():
                if code:
                    raise _refusal(code, body)
                raise ConnectionFailed("the server ended the connection instead of upgrading it")

    async def _receive(self) -> bool:
        """Feed the protocol with what arrives next; False at the end."""
        data = await self._reader.read(_READ)
        self._protocol.receive_data(data or None)
        return bool(data)

    async def send(self, data: bytes) -> None:
        """Send one binary message."""
        await self._write(self._protocol.send(BytesMessage(data=data)))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts: list[bytes] = []
        while True:
            for event in self._protocol.events():
                if isinstance(event, BytesMessage | TextMessage):
                    parts.append(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                    if event.message_finished:
                        yield b"".join(parts)
                        parts = []
                elif isinstance(event, Ping):
                    await self._write(self._protocol.send(event.response()))
                elif isinstance(event, CloseConnection):
                    return
            try:
                if not await self._receive():
                    return
            except ProtocolError as error:
                raise ConnectionFailed(f"the connection broke off: {error}") from error


async def dial(config: ClientConfig, what: str) -> tuple[SplitResult, asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first apiserver that can be reached, and its URL; `what` is for the message. Raises ConnectionFailed."""
    problem: Exception | None = None
    for server in config.servers:
        url = urlsplit(server)
        secure = url.scheme == "https"
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    url.hostname,
                    url.port or (443 if secure else 80),
                    ssl=config.ssl_context() if secure else None,
                    server_hostname=(config.tls_server_name or url.hostname) if secure else None,
                )
        except OSError as error:
            problem = error
        else:
            return url, reader, writer
    raise ConnectionFailed(f"{what}: {problem} ({', '.join(config.servers)})")


@asynccontextmanager
async def connect(config: ClientConfig, path: str, query: list[tuple[str, str]], subprotocol: str) -> AsyncIterator[WebSocket]:
    """Open `path` of the first apiserver that can be reached. Raises ApiError where it refuses, ConnectionFailed where none answers."""
    target = f"{path}?{urlencode(query)}" if query else path
    url, reader, writer = await dial(config, path)
    try:
        socket = WebSocket(reader, writer)
        await socket.handshake(url.netloc, url.path + target, subprotocol, credentials(config))
        yield socket
    except OSError as error:
        raise ConnectionFailed(f"{path}: {error}") from error
    finally:
        writer.close()


def credentials(config: ClientConfig) -> list[tuple[str, str]]:
    """The headers that say who we are, and whom we act for."""
    return [*_identity(config), *config.impersonation]


def _identity(config: ClientConfig) -> list[tuple[str, str]]:
    if config.token_file:
        with open(config.token_file, encoding="ascii") as file:
            return [("authorization", f"Bearer {file.read().strip()}")]
    if config.token:
        return [("authorization", f"Bearer {config.token}")]
    if config.basic:
        return [("authorization", "Basic " + base64.b64encode(":".join(config.basic).encode()).decode())]
    return []


def _refusal(code: int, body: bytes) -> ApiError:
    try:
        status = orjson.loads(body)
        if isinstance(status, dict) and status.get("kind") == "Status":
            return ApiError(status)
    except orjson.JSONDecodeError:
        pass  # Something between us and the apiserver answered; its words are shown below.
    words = body[:512].decode(errors="replace").strip() or f"HTTP {code}"
    return ApiError({"kind": "Status", "status": "Failure", "code": code, "reason": "", "message": words})
