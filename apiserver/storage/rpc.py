"""gRPC calls to one server, over :mod:`.h2`.

A Python gRPC library moves every message through a thread of its own: two switches between threads a call, more than the call itself costs. This one lives in the
event loop and knows what the store needs: unary calls with a deadline, and streams of messages. See gRPC's "gRPC over HTTP2".
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from enum import IntEnum
from urllib.parse import unquote, urlsplit

from kubeling.apiserver.storage.h2 import Connection, Fields, Stream


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call failed. `sent`: whether the server may have begun with it."""

    def __init__(self, code: Code, details: str, *, sent: bool = True) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.sent = sent


#: No attempt to connect begins sooner than so long after one has failed.
_PAUSE_SECONDS = 0.05
_CONNECT_SECONDS = 3.0
_MAX_BLOCKS = 64


class Channel:
    """One server, at `url`. Connects when it is first asked something, and again when the connection has gone. Belongs to one event loop."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        self._host, self._port = parts.hostname or "", parts.port or 2379
        self._tls = tls if parts.scheme == "https" else None
        self._authority = parts.netloc
        self._blocks: dict[tuple[str, str], bytes] = {}
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()
        self._connecting: asyncio.Task[Connection] | None = None
        self._not_before = 0.0
        self._why = ""
        self._closed = False

    async def close(self) -> None:
        """End all calls and connections."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for each in list(self._connections):
            each.abort("the channel is closed")

    async def unary(self, path: str, request: bytes, seconds: float) -> bytes:
        """Call `path` (`/etcdserverpb.KV/Range`) and return the answer's bytes. Raises RpcError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        stream = await self._stream(path, f"{int(seconds * 1000) or 1}m", seconds)
        call = _Unary(stream, loop.create_future())
        stream.send(b"\0" + len(request).to_bytes(4, "big") + request, end=True)
        timer = loop.call_at(until, call.expire)
        try:
            return await call.future
        finally:
            timer.cancel()
            stream.cancel()

    async def stream(self, path: str, seconds: float, *fields: tuple[str, str]) -> Messages:
        """Call `path` with messages both ways. `seconds` are for the connection; the stream may last for ever. Raises RpcError."""
        return Messages(await self._stream(path, "", seconds, *fields))

    async def _stream(self, path: str, timeout: str, seconds: float, *fields: tuple[str, str]) -> Stream:
        connection = self._connection
        if connection is None or not connection.open:
            connection = await self._connected(seconds)
        try:
            return await connection.request(self._block(path, timeout) + _literals(*fields))
        except ConnectionError as error:
            raise RpcError(Code.UNAVAILABLE, str(error), sent=False) from None

    async def _connected(self, seconds: float) -> Connection:
        if self._connecting is None:
            if self._closed or asyncio.get_running_loop().time() < self._not_before:
                raise RpcError(Code.UNAVAILABLE, self._why, sent=False)
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._connecting)
        except TimeoutError:
            raise RpcError(Code.UNAVAILABLE, f"failed to connect to {self._authority} in time", sent=False) from None
        except OSError as error:
            raise RpcError(Code.UNAVAILABLE, f"failed to connect to {self._authority}: {error}", sent=False) from None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._gone), self._host, self._port, ssl=self._tls
                )
                self._connections.add(connection)
                await connection.greeted
            self._connection = connection
            return connection
        except (OSError, TimeoutError) as error:
            if connection is not None:
                connection.abort("the server did not greet")
                self._connections.discard(connection)
            self._not_before = loop.time() + _PAUSE_SECONDS
            self._why = f"failed to connect to {self._authority}: {error or 'no answer'}"
            raise OSError(str(error) or "no answer") from error
        finally:
            self._connecting = None

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._connection is connection:
            self._connection = None

    def _block(self, path: str, timeout: str) -> bytes:
        """The header fields of a call."""
        known = self._blocks.get((path, timeout))
        if known is None:
            scheme = b"\x87" if self._tls is not None else b"\x86"
            fields = [(":path", path), (":authority", self._authority), ("te", "trailers"), ("content-type", "application/grpc")]
            fields.append(("user-agent", "kubeling-apiserver"))
            if timeout:
                fields.append(("grpc-timeout", timeout))
            known = b"\x83" + scheme + _literals(*fields)
            if len(self._blocks) < _MAX_BLOCKS:
                self._blocks[path, timeout] = known
        return known


class _Unary:
    """The end of a call with one answer."""

    __slots__ = ("_pieces", "_stream", "future")

    def __init__(self, stream: Stream, future: asyncio.Future[bytes]) -> None:
        self._pieces: list[bytes] = []
        self._stream = stream
        self.future = future
        stream.on_data, stream.on_end = self._data, self._end

    def _data(self, data: bytes) -> None:
        self._pieces.append(data)
        self._stream.taken(len(data))

    def _end(self, fields: Fields | None, why: str) -> None:
        if self.future.done():
            return
        error = _error(fields, why, refused=self._stream.refused)
        if error is None:
            answer = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            if len(answer) >= 5 and answer[0] == 0 and len(answer) - 5 == int.from_bytes(answer[1:5], "big"):
                self.future.set_result(answer[5:])
                return
            error = RpcError(Code.INTERNAL, "the answer is not one plain message")
        self.future.set_exception(error)

    def expire(self) -> None:
        """The deadline has come."""
        if not self.future.done():
            self.future.set_exception(RpcError(Code.DEADLINE_EXCEEDED, "no answer in time"))


class Messages:
    """A call with any number of messages each way, for one reader that keeps up: what has come is not held back."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = bytearray()
        self._came: deque[bytes] = deque()
        self._awake = asyncio.Event()
        self._ended = False
        self._error: RpcError | None = None
        stream.on_data, stream.on_end = self._data, self._end

    def send(self, message: bytes) -> None:
        """Send a message."""
        self._stream.send(b"\0" + len(message).to_bytes(4, "big") + message, end=False)

    async def read(self) -> bytes | None:
        """The next message; None after the last. Raises RpcError."""
        while not self._came:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._awake.clear()
            await self._awake.wait()
        return self._came.popleft()

    def cancel(self) -> None:
        """End the call; whoever reads gets an RpcError."""
        self._stream.cancel()
        if not self._ended:
            self._ended = True
            self._error = RpcError(Code.CANCELLED, "cancelled here")
            self._awake.set()

    def _data(self, data: bytes) -> None:
        self._stream.taken(len(data))
        rest = self._rest
        rest += data
        at, size = 0, len(rest)
        while size - at >= 5 and (end := at + 5 + int.from_bytes(rest[at + 1 : at + 5], "big")) <= size:
            self._came.append(bytes(rest[at + 5 : end]))
            at = end
        if at:
            del rest[:at]
            self._awake.set()

    def _end(self, fields: Fields | None, why: str) -> None:
        self._ended = True
        self._error = _error(fields, why, refused=self._stream.refused)
        self._awake.set()


def _error(fields: Fields | None, why: str, *, refused: bool) -> RpcError | None:
    """What the end of a stream means; None where all went well."""
    if fields is None:
        return RpcError(Code.UNAVAILABLE, why, sent=not refused)
    status = fields.get("grpc-status")
    if status == "0":
        return None
    if status is None:
        return RpcError(Code.UNKNOWN, f"the server answered with HTTP {fields.get(':status', '200')} and no gRPC status")
    code = Code(int(status)) if status.isdigit() and int(status) in set(Code) else Code.UNKNOWN
    return RpcError(code, unquote(fields.get("grpc-message", "")))


def _retrieve(task: asyncio.Task[Connection]) -> None:
    """Whoever waits gets the exception; where nobody is left, asyncio shall not complain about it."""
    if not task.cancelled():
        task.exception()


def _literals(*fields: tuple[str, str]) -> bytes:
    """Header fields in HPACK's plainest form (RFC 7541, 6.2.2): neither from a table nor for one."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    if size < 127:
        return bytes([size]) + raw
    size -= 127
    length = b"\x7f"
    while size >= 128:
        length += bytes([size & 127 | 128])
        size >>= 7
    return length + bytes([size]) + raw
