"""One HTTP/2 connection from a client (RFC 9113), server side.

Bytes come in through `data_received`, frames go out through `send`; what is sent in one turn of the loop leaves in one write. A client may ask for a lot
but not for everything: see the limits below. A client that only keeps the server busy (resets what it has just asked for, floods with pings, settings or
empty frames) spends from a bucket that fills with time and with what it is really sent, and is sent away with ENHANCE_YOUR_CALM when that is empty.
"""

from __future__ import annotations

import asyncio

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.transport import frames as h2
from kubeling.etcdlite.transport.frames import ConnectionFault, StreamFault
from kubeling.etcdlite.transport.headers import MAX_BLOCK_BYTES, MAX_LIST_BYTES, HeaderReader
from kubeling.etcdlite.transport.shared import (
    CONNECTION_WINDOW,
    MAX_UNSENT_BYTES,
    STREAM_WINDOW,
    WRITE_BUFFER_BYTES,
    Peer,
    Shared,
)
from kubeling.etcdlite.transport.stream import Stream

log = get_logger("etcdlite.transport")

#: A connection whose socket holds this much is cut: it is answers to control frames that nobody reads.
MAX_WRITE_BUFFER_BYTES = 64 << 20
_FLUSH_BYTES = 128 << 10
#: Pings that came too soon before the client is sent away.
_MAX_STRIKES = 2
_MAX_CONTINUATIONS = 64


class Connection(asyncio.Protocol):
    """The protocol of a connection whose preface has been read. Attributes without an underscore are for the streams."""

    def __init__(self, shared: Shared, peer: Peer) -> None:
        self.shared = shared
        self.peer = peer
        self.loop = asyncio.get_running_loop()
        self.send_window = h2.DEFAULT_WINDOW
        self.max_frame = h2.MAX_FRAME
        self.paused = False
        #: Frames that were sent since the client last spent from its bucket.
        self.served = 0
        #: Bytes of answers that wait for room.
        self.unsent = 0
        self.streams: dict[int, Stream] = {}
        #: Calls whose client is gone and that have not ended yet: they count as streams.
        self.lingering = 0
        self._transport: asyncio.Transport | None = None
        self._initial_window = h2.DEFAULT_WINDOW
        self._receive_window = CONNECTION_WINDOW
        self._headers = HeaderReader()
        self._rest = bytearray()
        self._need = h2.HEAD_BYTES
        self._greeted = False
        self._block: tuple[int, int, bytearray, int] | None = None
        self._last = 0
        self._draining = False
        self._closing = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._waiting: dict[int, Stream] = {}
        self._room: list[asyncio.Future[None]] = []
        now = self.loop.time()
        # 4,000 streams may be given up at once, as by a client that ends; then 200 a second.
        self._resets = h2.Bucket(4000, 200, now)
        self._control = h2.Bucket(10_000, 1000, now)
        self._heard = now
        self._last_ping = -1e9
        self._strikes = 0
        self._keepalive: asyncio.TimerHandle | None = None
        self._handlers = {
            h2.PRIORITY: self._priority_frame,
            h2.RST_STREAM: self._reset_frame,
            h2.SETTINGS: self._settings_frame,
            h2.PUSH_PROMISE: self._push_frame,
            h2.PING: self._ping_frame,
            h2.GOAWAY: self._goaway_frame,
            h2.WINDOW_UPDATE: self._window_frame,
            h2.CONTINUATION: self._continuation_frame,
        }

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.shared.connections.add(self)
        settings = {
            h2.SETTING_MAX_CONCURRENT_STREAMS: self.shared.limits.max_streams,
            h2.SETTING_INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            h2.SETTING_MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
        }
        self.send(h2.settings(settings) + h2.window_update(0, CONNECTION_WINDOW - h2.DEFAULT_WINDOW))
        self._arm_keepalive(self.shared.limits.keepalive_interval)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self.shared.lost(self)
        if self._keepalive is not None:
            self._keepalive.cancel()
        for stream in list(self.streams.values()):
            stream.aborted()
        for waiter in self._room:
            waiter.cancel()
        self._out.clear()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._pump()

    def data_received(self, data: bytes) -> None:
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._need:
                return
            data = bytes(rest)
            rest.clear()
        self._heard = self.loop.time()
        try:
            at = self._frames(data)
            if at < len(data) and not self._closing:
                rest += data[at:] if at else data
        except ConnectionFault as fault:
            self._fail(fault)

    # Frames.

    def _frames(self, data: bytes) -> int:
        """Handle the whole frames in `data`; where the rest of it begins."""
        at, size = 0, len(data)
        unpack = h2.HEAD.unpack_from
        while size - at >= 9 and not self._closing:
            first, flags, number = unpack(data, at)
            length = first >> 8
            if length > h2.MAX_FRAME:
                raise ConnectionFault(h2.FRAME_SIZE_ERROR, "a frame is larger than the settings allow")
            end = at + 9 + length
            if end > size:
                self._need = 9 + length
                return at
            kind = first & 0xFF
            number &= h2.MASK
            payload = data[at + 9 : end]
            if not self._greeted and (kind != h2.SETTINGS or flags & h2.ACK):
                raise ConnectionFault(h2.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            if self._block is not None and (kind != h2.CONTINUATION or number != self._block[0]):
                raise ConnectionFault(h2.PROTOCOL_ERROR, "a header block was not continued")
            try:
                if kind == h2.DATA:
                    self._data_frame(flags, number, payload)
                elif kind == h2.HEADERS:
                    self._headers_frame(flags, number, payload)
                elif handler := self._handlers.get(kind):
                    handler(flags, number, payload)
                else:
                    self._spend()
            except StreamFault as fault:
                self._spend(2)
                self._reset(fault.stream, fault.code)
            at = end
        self._need = 9
        return at

    def _data_frame(self, flags: int, number: int, payload: bytes) -> None:
        length = len(payload)
        self._receive_window -= length
        if self._receive_window < CONNECTION_WINDOW // 2:
            if self._receive_window < 0:
                raise ConnectionFault(h2.FLOW_CONTROL_ERROR, "more was sent than the window allows")
            self.send(h2.window_update(0, CONNECTION_WINDOW - self._receive_window))
            self._receive_window = CONNECTION_WINDOW
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            self._check_known(number)
            self._spend()  # What was on its way when we ended the stream is no offence, but it is not for ever.
            if stream is not None:
                raise StreamFault(number, h2.STREAM_CLOSED)
            return
        if length > stream.receive_window:
            raise StreamFault(number, h2.FLOW_CONTROL_ERROR)
        stream.receive_window -= length
        if flags & h2.PADDED:
            payload = h2.unpadded(flags, payload)
            length -= len(payload)
            stream.receive_window += length
            if length > 1 and not flags & h2.END_STREAM:
                self.send(h2.window_update(number, length))
            else:
                stream.receive_window -= length
        if payload:
            stream.data(payload)
        elif not flags & h2.END_STREAM:
            self._spend()
        if flags & h2.END_STREAM and not stream.closed:
            stream.ended = True
            stream.end()

    def _headers_frame(self, flags: int, number: int, payload: bytes) -> None:
        if flags & (h2.PADDED | h2.PRIORITIZED):
            prioritized = bool(flags & h2.PRIORITIZED)
            at = 1 if flags & h2.PADDED else 0
            if prioritized and int.from_bytes(payload[at : at + 4], "big") & h2.MASK == number:
                raise ConnectionFault(h2.PROTOCOL_ERROR, "a stream depends on itself")
            payload = h2.unpadded(flags, payload, prioritized=prioritized)
        if not number & 1:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "a stream with an even number")
        if flags & h2.END_HEADERS:
            self._begin(number, payload, flags)
        else:
            self._block = (number, flags, bytearray(payload), 1)

    def _continuation_frame(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "a continuation of nothing")
        number, first, block, count = self._block
        block += payload
        if len(block) > MAX_BLOCK_BYTES or count > _MAX_CONTINUATIONS:
            raise ConnectionFault(h2.ENHANCE_YOUR_CALM, "too many header fields")
        if flags & h2.END_HEADERS:
            self._block = None
            self._begin(number, bytes(block), first)
        else:
            self._block = (number, first, block, count + 1)

    def _begin(self, number: int, block: bytes, flags: int) -> None:
        if number > self._last:
            head = self._headers.read(block)
            self._last = number
            if self._draining or len(self.streams) + self.lingering >= self.shared.limits.max_streams:
                raise StreamFault(number, h2.REFUSED_STREAM)
            if head.problem:
                raise StreamFault(number, h2.PROTOCOL_ERROR)
            stream = self.streams[number] = self.shared.open(self, number, head, self._initial_window)
            stream.begin()
            if flags & h2.END_STREAM and not stream.closed:
                stream.ended = True
                stream.end()
            return
        trailers = self._headers.read(block)
        found = self.streams.get(number)
        if found is None or found.ended:
            raise StreamFault(number, h2.STREAM_CLOSED)
        if not flags & h2.END_STREAM or trailers.method or trailers.path:
            raise StreamFault(number, h2.PROTOCOL_ERROR)
        found.ended = True
        found.end()

    def _priority_frame(self, flags: int, number: int, payload: bytes) -> None:
        self._spend()
        if not number:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "the priority of no stream")
        if len(payload) != 5:
            raise StreamFault(number, h2.FRAME_SIZE_ERROR)

    def _reset_frame(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(h2.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        self._check_known(number)
        if not self._resets.spend(self._heard):
            raise ConnectionFault(h2.ENHANCE_YOUR_CALM, "too many streams were reset")
        stream = self.streams.get(number)
        if stream is not None:
            stream.aborted()

    def _settings_frame(self, flags: int, number: int, payload: bytes) -> None:
        self._spend(10)
        if number:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "settings of a stream")
        if len(payload) % 6 or (flags & h2.ACK and payload):
            raise ConnectionFault(h2.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._greeted = True
        if flags & h2.ACK:
            return
        for key, value in h2.SETTING.iter_unpack(payload):
            if key == h2.SETTING_INITIAL_WINDOW_SIZE:
                more, self._initial_window = value - self._initial_window, value
                for stream in self.streams.values():
                    stream.send_window += more
                if max(value, *(stream.send_window for stream in self.streams.values()), 0) > h2.MAX_WINDOW:
                    raise ConnectionFault(h2.FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
            elif key == h2.SETTING_MAX_FRAME_SIZE:
                if not h2.MAX_FRAME <= value < 1 << 24:
                    raise ConnectionFault(h2.PROTOCOL_ERROR, "a frame size out of bounds")
                # Larger frames would only make the others wait.
                self.max_frame = min(value, 64 << 10)
            elif key == h2.SETTING_ENABLE_PUSH and value > 1:
                raise ConnectionFault(h2.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        self.send(h2.frame(h2.SETTINGS, h2.ACK, 0))
        self._pump()

    def _push_frame(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(h2.PROTOCOL_ERROR, "a client does not push")

    def _ping_frame(self, flags: int, number: int, payload: bytes) -> None:
        self._spend()
        if number:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "a ping of a stream")
        if len(payload) != 8:
            raise ConnectionFault(h2.FRAME_SIZE_ERROR, "PING of a wrong size")
        if flags & h2.ACK:
            return
        if self._heard - self._last_ping < self.shared.limits.keepalive_min:
            self._strikes += 1
            if self._strikes > _MAX_STRIKES:
                raise ConnectionFault(h2.ENHANCE_YOUR_CALM, "too_many_pings")
        self._last_ping = self._heard
        self._put(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _goaway_frame(self, flags: int, number: int, payload: bytes) -> None:
        self._spend()
        if number:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(h2.FRAME_SIZE_ERROR, "GOAWAY of a wrong size")

    def _window_frame(self, flags: int, number: int, payload: bytes) -> None:
        self._spend()
        if len(payload) != 4:
            raise ConnectionFault(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        more = int.from_bytes(payload, "big") & h2.MASK
        if number:
            self._check_known(number)
            stream = self.streams.get(number)
            if not more:
                raise StreamFault(number, h2.PROTOCOL_ERROR)
            if stream is not None:
                stream.send_window += more
                if stream.send_window > h2.MAX_WINDOW:
                    raise StreamFault(number, h2.FLOW_CONTROL_ERROR)
                stream.pump()
            return
        if not more:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "a window update of nothing")
        self.send_window += more
        if self.send_window > h2.MAX_WINDOW:
            raise ConnectionFault(h2.FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
        self._pump()

    def _check_known(self, number: int) -> None:
        if number > self._last or not number & 1:
            raise ConnectionFault(h2.PROTOCOL_ERROR, "a frame of a stream that was not opened")

    def _spend(self, amount: float = 1) -> None:
        if self.served:
            # Who is served may also ask whether we are still there, and has to tell us what it has room for.
            self._control.refund(2 * self.served)
            self.served = self._strikes = 0
            self._last_ping = -1e9
        if not self._control.spend(self._heard, amount):
            raise ConnectionFault(h2.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    # For the streams.

    def send(self, data: bytes) -> None:
        """Send frames, at the end of this turn of the loop together with what else there is."""
        self.served += 1
        self._put(data)

    def send_pair(self, front: bytes, rest: bytes) -> None:
        """The same with a frame in two pieces, the second of which may be shared by many connections."""
        self.served += 1
        self._out.append(front)
        self._put(rest)

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _FLUSH_BYTES:
            self.flush()
        elif not self._flushing:
            self._flushing = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand everything to the socket."""
        self._flushing = False
        if not self._out or self._transport is None:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        self._transport.write(data)
        if self.paused and self._transport.get_write_buffer_size() > MAX_WRITE_BUFFER_BYTES:
            self.abort()

    def wait(self, stream: Stream) -> None:
        """Have `stream.pump` called when there may be room."""
        self._waiting[stream.id] = stream

    def unwait(self, stream: Stream) -> None:
        """It waits no longer."""
        self._waiting.pop(stream.id, None)

    def drop(self, stream: Stream) -> None:
        """A stream is over."""
        self.streams.pop(stream.id, None)
        self._waiting.pop(stream.id, None)
        if stream.task is not None and not stream.task.done():
            self.lingering += 1
            stream.task.add_done_callback(self._ended)
        self._release()
        if self._draining and not self.streams:
            self.close()

    def _ended(self, _: object) -> None:
        self.lingering -= 1

    async def room(self) -> None:
        """Return when the client has taken enough of its answers for another one to be made."""
        while self.unsent > MAX_UNSENT_BYTES:
            waiter = self.loop.create_future()
            self._room.append(waiter)
            await waiter

    def _release(self) -> None:
        if not self._room or self.unsent > MAX_UNSENT_BYTES:
            return
        waiting, self._room = self._room, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _pump(self) -> None:
        for stream in list(self._waiting.values()):
            if self.paused:
                return
            stream.pump()
            # The next time it is another stream's turn to be the first.
            if stream.id in self._waiting:
                self._waiting[stream.id] = self._waiting.pop(stream.id)
        self._release()

    # The end.

    def _reset(self, number: int, code: int) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            stream.aborted()
        self._put(h2.reset(number, code))

    def _fail(self, fault: ConnectionFault) -> None:
        log.debug("a connection broke the rules of HTTP/2", peer=self.peer.address, reason=fault.reason)
        self._put(h2.goaway(self._last, fault.code, fault.reason))
        self.close()

    def drain(self) -> None:
        """Take no new requests, and close when those that are there are answered."""
        if self._draining or self._closing:
            return
        self._draining = True
        self._put(h2.goaway(self._last, h2.NO_ERROR, "the server stops"))
        if not self.streams:
            self.close()

    def close(self) -> None:
        """Send what is left and hang up."""
        if self._closing:
            return
        self._closing = True
        self.flush()
        if self._transport is not None:
            self._transport.close()
            self.loop.call_later(1.0, self._transport.abort)  # A client that does not read must not keep the connection.

    def stop_work(self) -> None:
        """Cancel what is being done: its clients are told so."""
        for stream in list(self.streams.values()):
            if stream.task is not None:
                stream.task.cancel()

    def abort(self) -> None:
        """Hang up at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _arm_keepalive(self, delay: float) -> None:
        self._keepalive = self.loop.call_later(delay, self._keep_alive) if delay else None

    def _keep_alive(self) -> None:
        limits = self.shared.limits
        idle = self.loop.time() - self._heard
        if idle < limits.keepalive_interval:
            self._arm_keepalive(limits.keepalive_interval - idle)
        elif idle >= limits.keepalive_interval + limits.keepalive_timeout:
            self.abort()
        else:
            self._put(h2.frame(h2.PING, 0, 0, b"kubeling"))
            self._arm_keepalive(limits.keepalive_timeout)
