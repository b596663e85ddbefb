"""SPDY/3.1, as far as kubectl's older half speaks it: many streams in one connection, opened by the client, with zlib-compressed headers.

Kubernetes uses it bare (``Upgrade: SPDY/3.1``), and newer clients as the payload of a WebSocket; so a :class:`Session` takes a function to read
and one to write. Neither side of Kubernetes uses SPDY's flow control. A stream whose data nobody takes holds up the connection, so what a client
sends waits in the client.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_CONTROL, _VERSION = 0x8000, 3
_FIN = 1
_MAX_HEADERS = 64 * 1024
_MAX_STREAMS = 1000
_CHUNK = 32 * 1024
#: Pieces of data that wait for whoever reads a stream.
_QUEUE = 16

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization "
    "cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range "
    "content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified "
    "location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding "
    "upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found"
    "500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,"
    "text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
#: What both sides' compressors have read before the first header: the protocol's own list, each word with its length before it.
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()) + _TEXT.encode()

Read = Callable[[], Awaitable[bytes]]
Write = Callable[[bytes], Awaitable[None]]


class SpdyError(ConnectionError):
    """The client does not keep to the protocol."""


class Stream:
    """One stream: what it was opened with, what comes in, and what goes out."""

    def __init__(self, session: Session, number: int, headers: dict[str, str]) -> None:
        self._session = session
        self.number = number
        self.headers = headers
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)
        self._finished = False

    async def read(self) -> bytes:
        """The next piece of data, empty once the client has finished the stream."""
        if self._finished:
            return b""
        data = await self.incoming.get()
        self._finished = not data
        return data

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _CHUNK):
            await self._session.send_data(self.number, data[start : start + _CHUNK])

    async def close(self) -> None:
        """Nothing more comes from here."""
        await self._session.send_data(self.number, b"", fin=True)


class Session:
    """The server's side of a connection. :meth:`run` reads it; :meth:`accept` gives the streams that the client opens."""

    def __init__(self, read: Read, write: Write) -> None:
        self._read, self._write = read, write
        self._buffer = b""
        self._streams: dict[int, Stream] = {}
        self._opened: asyncio.Queue[Stream | None] = asyncio.Queue()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Read until the client goes. Then every stream is at its end."""
        try:
            while True:
                head = await self._exactly(8)
                first, second, flags_and_size = struct.unpack(">HHI", head)
                flags, size = flags_and_size >> 24, flags_and_size & 0xFFFFFF
                body = await self._exactly(size)
                if first & _CONTROL:
                    await self._control(second, flags, body)
                else:
                    await self._data(first << 16 | second, flags, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client has gone.
        finally:
            self._opened.put_nowait(None)
            for stream in list(self._streams.values()):
                _end(stream)

    async def accept(self) -> Stream | None:
        """The next stream of the client, None when it has gone."""
        return await self._opened.get()

    async def send_data(self, number: int, data: bytes, *, fin: bool = False) -> None:
        async with self._writing:
            await self._write(struct.pack(">II", number, (_FIN if fin else 0) << 24 | len(data)) + data)

    async def goaway(self) -> None:
        last = max(self._streams, default=0)
        await self._send_control(_GOAWAY, struct.pack(">II", last, 0))

    def forget(self, stream: Stream) -> None:
        """The stream is over on both sides."""
        self._streams.pop(stream.number, None)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self._read()
            if not data:
                raise asyncio.IncompleteReadError(self._buffer, size)
            self._buffer += data
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def _control(self, kind: int, flags: int, body: bytes) -> None:
        if kind == _SYN_STREAM:
            await self._open(flags, body)
        elif kind == _PING:
            await self._send_control(_PING, body[:4])
        elif kind == _RST_STREAM:
            stream = self._streams.pop(struct.unpack(">I", body[:4])[0], None)
            if stream is not None:
                _end(stream)
        elif kind in (_HEADERS, _SYN_REPLY):
            # Not used by clients of ours, but the decompressor must see every block.
            self._headers(body[4:])
        elif kind == _GOAWAY:
            self._opened.put_nowait(None)

    async def _open(self, flags: int, body: bytes) -> None:
        number = struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF
        headers = self._headers(body[10:])
        if number in self._streams or len(self._streams) >= _MAX_STREAMS:
            raise SpdyError(f"stream {number} cannot be opened")
        stream = self._streams[number] = Stream(self, number, headers)
        async with self._writing:
            block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            payload = struct.pack(">I", number) + block
            await self._write(_control_head(_SYN_REPLY, len(payload)) + payload)
        if flags & _FIN:
            _end(stream)
        self._opened.put_nowait(stream)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            raw = self._inflate.decompress(block, _MAX_HEADERS)
            if self._inflate.unconsumed_tail:
                raise SpdyError("the headers are too long")
            count = struct.unpack_from(">I", raw)[0]
            offset, found = 4, {}
            for _ in range(count):
                pair = []
                for _ in range(2):
                    size = struct.unpack_from(">I", raw, offset)[0]
                    pair.append(raw[offset + 4 : offset + 4 + size].decode("latin-1"))
                    offset += 4 + size
                found[pair[0].lower()] = pair[1]
        except (zlib.error, struct.error) as error:
            raise SpdyError(f"unreadable headers: {error}") from error
        return found

    async def _data(self, number: int, flags: int, body: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if body:
            await stream.incoming.put(body)
        if flags & _FIN:
            await stream.incoming.put(b"")

    async def _send_control(self, kind: int, payload: bytes) -> None:
        async with self._writing:
            await self._write(_control_head(kind, len(payload)) + payload)


def _control_head(kind: int, size: int) -> bytes:
    return struct.pack(">HHI", _CONTROL | _VERSION, kind, size)


def _end(stream: Stream) -> None:
    """Say to whoever reads that there is no more, whether or not there is room in the queue."""
    try:
        stream.incoming.put_nowait(b"")
    except asyncio.QueueFull:
        stream.incoming.get_nowait()
        stream.incoming.put_nowait(b"")
