"""A gRPC client that costs next to nothing: prepared HTTP/2 frames on plain sockets.

A Python gRPC library makes about 4,000 calls a second, less than the stores that are to be measured. Here a call is a join of ready-made bytes (a constant
header block, a constant message, the stream's number) and an answer is three frame headers looked at, so one core makes some 50,000
calls a second. That is possible because of what is left out:

- Header blocks of answers are not decoded. A unary call that went well has a message in its answer and one that failed has none, so a DATA frame tells.
- There is no flow control of what is sent, only a bound (:data:`MAX_OUTSTANDING`) on what may be unanswered on a connection, which is well below the window that
  every server starts with. What is received has a window of 2 GB, topped up at each gigabyte.
- The header block is what usual clients send from the second request on: entries of the dynamic table by number. A server that does not allow the table gets them spelt out.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable
from urllib.parse import urlsplit

#: Bytes of requests that may be on their way on one connection: every server's window starts with 65,535, and is renewed when a part of it is used.
MAX_OUTSTANDING = 40_000

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_BYTES = (1 << 31) - 1
_FRAME = struct.Struct(">IBI")
_FRAME_BYTES = 9


class Failed(Exception):
    """The other side ended the connection, or did not answer as expected."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame."""
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def message(payload: bytes) -> bytes:
    """A gRPC message: its length-prefixed form."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def _literal(prefix: bytes, *strings: bytes) -> bytes:
    return prefix + b"".join(bytes([len(each)]) + each for each in strings)


def header_blocks(path: bytes, authority: bytes) -> tuple[bytes, bytes, bytes]:
    """HPACK (RFC 7541) of a request: the first on a connection, the later ones, and one for servers without a dynamic table."""
    fields = (
        (b"\x44", b"\x04", (path,)),
        (b"\x41", b"\x01", (authority,)),
        (b"\x5f", b"\x0f\x10", (b"application/grpc",)),
        (b"\x40", b"\x00", (b"te", b"trailers")),
    )
    start = b"\x83\x86"  # :method POST, :scheme http
    first = start + b"".join(_literal(indexing, *strings) for indexing, _, strings in fields)
    plain = start + b"".join(_literal(without, *strings) for _, without, strings in fields)
    # The newest entry of the dynamic table is number 62.
    later = start + bytes(0x80 | (62 + at) for at in reversed(range(len(fields))))
    return first, later, plain


class Connection:
    """One connection that makes calls of one method. `on_data(stream, piece)` gets what comes in, `on_end(stream)` hears the end of a call.

    Requests gather until :meth:`flush`. Not for several threads.
    """

    def __init__(self, url: str, path: str) -> None:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.on_data: Callable[[int, bytes], None] = _ignore_data
        self.on_end: Callable[[int], None] = _ignore_end
        self._gathered: list[bytes] = []
        self._rest = b""
        self._next = 1
        self._consumed = 0
        first, later, plain = header_blocks(path.encode(), f"{host}:{port}".encode())
        settings = struct.pack(">HIHI", 2, 0, 4, _WINDOW_BYTES)
        window = struct.pack(">I", _WINDOW_BYTES - 65_535)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW, 0, 0, window))
        self._table_bytes = 4096
        self._greeted = False
        while not self._greeted:
            self.receive()
        self.socket.settimeout(None)
        self.socket.setblocking(False)
        self._block = later if self._table_bytes >= 512 else plain
        self._first: bytes | None = first if self._table_bytes >= 512 else None
        self._start()

    def _start(self) -> None:
        self._heads = b"%b" % _FRAME.pack(len(self._block) << 8 | _HEADERS, _END_HEADERS, 0)[:5]

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def close(self) -> None:
        """Be gone without ceremony, as clients often are."""
        self.socket.close()

    def call(self, framed: bytes, more: bool = False) -> int:
        """Gather a call with this first message (see :func:`message`); `more` leaves the stream open for others. Returns the stream's number."""
        stream = self._next
        self._next += 2
        number = stream.to_bytes(4, "big")
        if self._first is not None:
            self._gathered.append(frame(_HEADERS, _END_HEADERS, stream, self._first))
            self._first = None
        else:
            self._gathered += (self._heads, number, self._block)
        flags = b"\0\0" if more else b"\0\1"
        self._gathered += (len(framed).to_bytes(3, "big"), flags, number, framed)
        return stream

    def send(self, stream: int, framed: bytes) -> None:
        """Gather another message on an open stream."""
        self._gathered.append(frame(_DATA, 0, stream, framed))

    def flush(self) -> None:
        """Send what is gathered. It always fits, since what is outstanding is bounded."""
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            sent = self.socket.send(data)
            while sent < len(data):
                self.socket.settimeout(10)
                self.socket.sendall(data[sent:])
                self.socket.setblocking(False)
                sent = len(data)

    def take(self) -> bytes:
        """What has arrived, as it is. Raises Failed where the connection is closed."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Failed(str(error)) from None
        if not data:
            raise Failed("the server has closed the connection")
        return data

    def receive(self) -> None:
        """Read what has arrived and call back. Raises Failed where the connection is closed."""
        self.parse(self.take())

    def parse(self, data: bytes) -> None:
        """Do what the frames in `data` say; the beginning of another is kept."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        unpack, on_data, on_end = _FRAME.unpack_from, self.on_data, self.on_end
        while size - at >= _FRAME_BYTES:
            head, flags, stream = unpack(data, at)
            end = at + _FRAME_BYTES + (head >> 8)
            if end > size:
                break
            kind = head & 0xFF
            if kind == _DATA:
                self._consumed += head >> 8
                on_data(stream, data[at + _FRAME_BYTES : end])
                if flags & _END_STREAM:
                    on_end(stream)
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    on_end(stream)
            elif kind > _HEADERS:
                self._control(kind, flags, stream, data[at + _FRAME_BYTES : end])
            at = end
        self._rest = data[at:] if at < size else b""
        if self._consumed > 1 << 30:
            self._gathered.append(frame(_WINDOW, 0, 0, struct.pack(">I", self._consumed)))
            self._consumed = 0

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 1:
                    self._table_bytes = value
            self._greeted = True
            self.socket.sendall(frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._gathered.append(frame(_PING, _ACK, 0, payload))
            self.flush()
        elif kind == _RST:
            self.on_end(stream)
        elif kind == _GOAWAY:
            raise Failed(f"the server sends the connection away: {payload[8:].decode(errors='replace')}")


def _ignore_data(stream: int, piece: bytes) -> None:
    """Nobody wants to know."""


def _ignore_end(stream: int) -> None:
    """Nobody wants to know."""


class Unary:
    """Calls that are made one at a time: each is waited for."""

    def __init__(self, url: str, path: str) -> None:
        self.connection = Connection(url, path)

    def __call__(self, payload: bytes, seconds: float = 30) -> bytes:
        """The answer's message. Raises Failed where there is none."""
        connection = self.connection
        pieces: list[bytes] = []
        ended: list[int] = []
        connection.on_data = lambda stream, piece: pieces.append(piece)
        connection.on_end = ended.append
        connection.call(message(payload))
        connection.flush()
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while not ended:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise Failed("no answer in time")
                connection.receive()
        answer = b"".join(pieces)
        if len(answer) < 5:
            raise Failed("the call failed")
        return answer[5:]

    def close(self) -> None:
        """End the connection."""
        self.connection.close()
