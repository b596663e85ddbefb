"""HTTP/2 as a gRPC client needs it, on asyncio: one connection, many streams.

The store is asked at least once in almost every request, so this is written for that: requests that are made in the same turn of the event loop leave in one
piece, header blocks are ready-made bytes, and those of answers are decoded once and recognised afterwards. That works because the server is asked to keep no table
of header fields (where it does all the same, every block is decoded).

Of the protocol all is here that a server may do: continued header blocks, padding, flow control both ways, changes of settings, refusals, pings, and an end that is
announced. See RFC 9113. What gRPC puts on top is in :mod:`.rpc`.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from enum import IntEnum

from hpack import Decoder, HPACKError

Fields = dict[str, str]


class Fault(IntEnum):
    """Why a stream or a connection ended (RFC 9113, 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


_DATA, _HEADERS, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_FRAME = struct.Struct(">IBI")
_HEAD_BYTES = 9
#: What may arrive of a stream before it is taken, and of all together; and the largest frame.
STREAM_WINDOW, _CONNECTION_WINDOW, _MAX_FRAME = 16 << 20, 64 << 20, 1 << 20
_MAX_BLOCK, _MAX_CACHED = 64 << 10, 64
_LAST_STREAM = (1 << 31) - 1
_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    # No table of header fields, no pushes, the window of a stream, the size of a frame.
    + _FRAME.pack(24 << 8 | _SETTINGS, 0, 0)
    + struct.pack(">HIHIHIHI", 1, 0, 2, 0, 4, STREAM_WINDOW, 5, _MAX_FRAME)
    + _FRAME.pack(4 << 8 | _WINDOW, 0, 0)
    + struct.pack(">I", _CONNECTION_WINDOW - 65_535)
)
#: After so long without a sign of life the server is asked for one, and after so much longer it is taken for dead.
PING_SECONDS, PONG_SECONDS = 10.0, 5.0


class Stream:
    """One exchange. Its owner sets what is called: with each piece of the answer, and at the end: with the last header fields, or None and the fault.

    `refused`, at the end, says that the server has certainly done nothing.
    """

    __slots__ = ("_connection", "_untold", "ended", "number", "on_data", "on_end", "refused", "unsent", "unsent_end", "window")

    def __init__(self, connection: Connection, number: int, window: int) -> None:
        self._connection = connection
        self._untold = 0
        self.number = number
        self.window = window
        self.unsent = b""
        self.unsent_end = False
        self.ended = False
        self.refused = False
        self.on_data: Callable[[bytes], None]
        self.on_end: Callable[[Fields | None, str], None]

    def send(self, data: bytes, *, end: bool) -> None:
        """Send more of the request, as soon as the server has room for it."""
        if not self.ended:
            self.unsent += data
            self.unsent_end = end
            self._connection.pump(self)

    def taken(self, size: int) -> None:
        """So much of the answer was taken: more may come."""
        self._untold += size
        if self._untold > STREAM_WINDOW // 2 and not self.ended:
            self._connection.write(_FRAME.pack(4 << 8 | _WINDOW, 0, self.number) + struct.pack(">I", self._untold))
            self._untold = 0

    def cancel(self) -> None:
        """Be no longer interested; nothing is called any more."""
        if not self.ended:
            self._connection.reset(self, Fault.CANCEL)


class Connection(asyncio.Protocol):
    """See the module's docstring. `lost` is called once, when it is of no more use for new streams."""

    def __init__(self, lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._known: dict[bytes, Fields] = {}
        self._streams: dict[int, Stream] = {}
        self._blocked: dict[int, Stream] = {}
        self._next = 1
        self._gathered: list[bytes] = []
        self._rest = b""
        self._block = b""
        self._block_flags = self._block_stream = 0
        self._untold = 0
        self._window = self._first_window = 65_535
        self._frame = 16_384
        self._most = _LAST_STREAM
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._why = "the connection is closed"
        self._room = asyncio.Event()
        #: Whether new streams may be opened.
        self.open = False
        #: Set when the server has said how it wants to be talked to.
        self.greeted: asyncio.Future[None] = self._loop.create_future()

    # -- asyncio's side ------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open = True
        transport.write(_PREFACE)
        self._timer = self._loop.call_later(PING_SECONDS, self._listen_for_life)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._retire()
        if exc is not None:
            self._why = f"the connection broke: {exc}"
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionResetError(self._why))
            self.greeted.exception()
        self._transport = None
        for stream in list(self._streams.values()):
            self._end(stream, None, self._why)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        try:
            while size - at >= _HEAD_BYTES:
                head, flags, number = _FRAME.unpack_from(data, at)
                end = at + _HEAD_BYTES + (head >> 8)
                if head >> 8 > _MAX_FRAME:
                    raise _Broken(Fault.FRAME_SIZE_ERROR, "a frame is too large")
                if end > size:
                    break
                self._take(head & 0xFF, flags, number & _LAST_STREAM, data[at + _HEAD_BYTES : end])
                at = end
        except _Broken as error:
            self.abort(f"the server broke the protocol: {error}", error.fault)
            return
        except (HPACKError, struct.error, IndexError, UnicodeDecodeError) as error:
            self.abort(f"the server broke the protocol: {error}", Fault.COMPRESSION_ERROR)
            return
        self._rest = data[at:] if at < size else b""

    # -- sending -------------------------------------------------------------------------------------------------------------------

    async def request(self, block: bytes) -> Stream:
        """Open a stream with this block of header fields, which may name no entry of a table that the server would have to keep.

        Raises ConnectionError where that is not possible any more. Set the stream's callbacks before awaiting anything else.
        """
        while self.open and len(self._streams) >= self._most:
            self._room.clear()
            await self._room.wait()
        if not self.open:
            raise ConnectionResetError(self._why)
        number = self._next
        self._next += 2
        stream = self._streams[number] = Stream(self, number, self._first_window)
        self.write(_FRAME.pack(len(block) << 8 | _HEADERS, _END_HEADERS, number) + block)
        if self._next > _LAST_STREAM:
            self._retire()
        return stream

    def write(self, data: bytes) -> None:
        """Send at the end of this turn of the loop, with all else that is to be sent by then."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._gathered))
        self._gathered.clear()

    def pump(self, stream: Stream) -> None:
        """Send of what waits in a stream as much as the windows allow."""
        data, at, number = stream.unsent, 0, stream.number
        while (left := len(data) - at) and (most := min(left, self._frame, self._window, stream.window)) > 0:
            last = most == left and stream.unsent_end
            self.write(_FRAME.pack(most << 8 | _DATA, _END_STREAM if last else 0, number) + data[at : at + most])
            at += most
            self._window -= most
            stream.window -= most
        stream.unsent = data[at:]
        if stream.unsent:
            self._blocked[number] = stream
        else:
            self._blocked.pop(number, None)

    def reset(self, stream: Stream, fault: Fault) -> None:
        """Drop a stream, and tell the server."""
        self._forget(stream)
        self.write(_FRAME.pack(4 << 8 | _RST, 0, stream.number) + struct.pack(">I", fault))

    def abort(self, why: str, fault: Fault = Fault.NO_ERROR) -> None:
        """Give the connection up; whoever waits for an answer is told `why`."""
        self._why = why
        if self._transport is not None:
            self._gathered.append(_FRAME.pack(8 << 8 | _GOAWAY, 0, 0) + struct.pack(">II", 0, fault))
            self._flush()
            self._transport.abort()
        self._retire()

    def _retire(self) -> None:
        if self.open:
            self.open = False
            self._lost(self)
        self._room.set()

    def close_when_idle(self) -> None:
        """A connection that is not used for new streams ends with its last one."""
        if not self.open and not self._streams and self._transport is not None:
            self._transport.close()

    def _listen_for_life(self) -> None:
        """Every ten seconds; a connection over which something came in meanwhile is not asked."""
        silent = self._loop.time() - self._heard
        if silent >= PING_SECONDS:
            self.write(_FRAME.pack(8 << 8 | _PING, 0, 0) + b"kubeling")
            self._timer = self._loop.call_later(PONG_SECONDS, self._expect_life)
        else:
            self._timer = self._loop.call_later(PING_SECONDS - silent, self._listen_for_life)

    def _expect_life(self) -> None:
        if self._loop.time() - self._heard > PONG_SECONDS:
            self.abort("the server does not answer pings")
        else:
            self._listen_for_life()

    # -- receiving -----------------------------------------------------------------------------------------------------------------

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block_stream and kind != _CONTINUATION:
            raise _Broken(Fault.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == _DATA:
            self._data(flags, number, payload)
        elif kind == _HEADERS:
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            self._headers(flags, number, payload[5:] if flags & _PRIORITY else payload)
        elif kind == _CONTINUATION:
            if number != self._block_stream or not number:
                raise _Broken(Fault.PROTOCOL_ERROR, "a continuation of nothing")
            self._headers(self._block_flags | (flags & _END_HEADERS), number, self._block + payload)
        elif kind == _RST:
            self._refused(number, struct.unpack(">I", payload)[0])
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._settings(payload)
        elif kind == _PING:
            if not flags & _ACK:
                self.write(_FRAME.pack(8 << 8 | _PING, _ACK, 0) + payload)
        elif kind == _GOAWAY:
            last, fault = struct.unpack(">II", payload[:8])
            self._going(last, fault, payload[8:])
        elif kind == _WINDOW:
            self._widen(number, struct.unpack(">I", payload)[0] & _LAST_STREAM)
        elif kind == _PUSH:
            raise _Broken(Fault.PROTOCOL_ERROR, "a push, which was ruled out")

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._untold += len(payload)
        if self._untold > _CONNECTION_WINDOW // 2:
            self.write(_FRAME.pack(4 << 8 | _WINDOW, 0, 0) + struct.pack(">I", self._untold))
            self._untold = 0
        stream = self._streams.get(number)
        if stream is None:
            return
        if flags & _PADDED:
            stream.taken(payload[0] + 1)
            payload = payload[1 : len(payload) - payload[0]]
        stream.on_data(payload)
        if flags & _END_STREAM:
            self._end(stream, {}, "")

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        if len(block) > _MAX_BLOCK:
            raise _Broken(Fault.ENHANCE_YOUR_CALM, "a header block is too long")
        if not flags & _END_HEADERS:
            self._block, self._block_flags, self._block_stream = block, flags, number
            return
        self._block, self._block_stream = b"", 0
        fields = self._known.get(block)
        if fields is None:
            fields = {str(each[0]): str(each[1]) for each in self._decoder.decode(block)}
            if not self._decoder.header_table.dynamic_entries and len(self._known) < _MAX_CACHED and len(block) < 256:
                self._known[block] = fields
        stream = self._streams.get(number)
        if stream is not None and (flags & _END_STREAM or fields.get(":status", "200") != "200"):
            self._end(stream, fields, "")

    def _refused(self, number: int, fault: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.refused = fault == Fault.REFUSED_STREAM
            self._end(stream, None, f"the server ended the stream with HTTP/2 error {fault}")

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 3:
                self._most = value
                self._room.set()
            elif name == 4:
                for stream in self._streams.values():
                    stream.window += value - self._first_window
                self._first_window = value
            elif name == 5:
                self._frame = value
        self.write(_FRAME.pack(_SETTINGS, _ACK, 0))
        if not self.greeted.done():
            self.greeted.set_result(None)
        self._unblock()

    def _widen(self, number: int, more: int) -> None:
        if not number:
            self._window += more
            self._unblock()
        elif (stream := self._streams.get(number)) is not None:
            stream.window += more
            self.pump(stream)

    def _unblock(self) -> None:
        for stream in list(self._blocked.values()):
            self.pump(stream)

    def _going(self, last: int, fault: int, text: bytes) -> None:
        """The server takes no more streams; those after `last` it has not looked at."""
        self._why = f"the server sends its clients away (HTTP/2 error {fault} {text[:200].decode(errors='replace')})".replace(
            " )", ")"
        )
        self._retire()
        for stream in [each for number, each in self._streams.items() if number > last]:
            stream.refused = True
            self._end(stream, None, self._why)
        self.close_when_idle()

    def _end(self, stream: Stream, fields: Fields | None, why: str) -> None:
        self._forget(stream)
        stream.on_end(fields, why)

    def _forget(self, stream: Stream) -> None:
        stream.ended = True
        self._streams.pop(stream.number, None)
        self._blocked.pop(stream.number, None)
        self._room.set()
        if not self.open:
            self.close_when_idle()


class _Broken(Exception):
    """The server does what it may not."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
