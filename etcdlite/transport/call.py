"""A gRPC call: messages out of DATA frames and into them, the deadline, and the status at the end.

The usual call, one message each way, is one frame that is cut at its fifth byte, one function call, and three frames that leave as one piece.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.errors import EtcdError
from kubeling.etcdlite.rpc import CODES, Kind, Method
from kubeling.etcdlite.transport.frames import DATA, END_HEADERS, END_STREAM, HEADERS, NO_ERROR, frame, reset, window_update
from kubeling.etcdlite.transport.headers import GRPC_HEAD, GRPC_OK, Head, trailers
from kubeling.etcdlite.transport.shared import MAX_UNSENT_BYTES, STREAM_WINDOW
from kubeling.etcdlite.transport.stream import Stream
from kubeling.etcdlite.transport.tally import Tally

if TYPE_CHECKING:
    from kubeling.etcdlite.transport.connection import Connection

log = get_logger("etcdlite.rpc")

_STOPPED = EtcdError("UNAVAILABLE", "etcdserver: server stopped")
_DEADLINE = EtcdError("DEADLINE_EXCEEDED", "context deadline exceeded")
#: The whole answer but for the message: HEADERS with the constant block, the head of a DATA frame, and that of the message.
_FRONT = struct.Struct(f">IBI{len(GRPC_HEAD)}sIBIBI")
_FRONT_FIRST = len(GRPC_HEAD) << 8 | HEADERS
_MESSAGE = struct.Struct(">IBIBI")
_BACK = struct.Struct(f">IBI{len(GRPC_OK)}s")
_BACK_FIRST = len(GRPC_OK) << 8 | HEADERS
_MAX_SECONDS = 365 * 86400.0


class Call(Stream):
    """One call; what its handler gets as context, and as the iterator over what comes in."""

    __slots__ = ("_future", "_inbox", "_method", "_partial", "_queued", "_request", "_started", "_tally", "_timer", "_waiter")

    def __init__(self, connection: Connection, number: int, head: Head, window: int, method: Method | None, tally: Tally) -> None:
        Stream.__init__(self, connection, number, head, window, STREAM_WINDOW)
        self._method = method
        self._tally = tally
        self._partial: bytearray | None = None
        self._request: bytes | None = None
        self._started = False
        self._timer: asyncio.TimerHandle | None = None
        self._future: asyncio.Future[Any] | None = None
        #: Bytes that are held for this call and counted in `shared.buffered`.
        self._queued = 0
        self._inbox: deque[bytes] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def begin(self) -> None:
        method, head, connection = self._method, self.head, self.connection
        self._tally.started += 1
        if method is None:
            self.status(EtcdError("UNIMPLEMENTED", unknown(head.path)))
            return
        if head.encoding and head.encoding not in ("identity", "gzip"):
            self.status(EtcdError("UNIMPLEMENTED", f'grpc: Decompressor is not installed for grpc-encoding "{head.encoding}"'))
            return
        if head.timeout is not None:
            self._timer = connection.loop.call_later(min(head.timeout, _MAX_SECONDS), self._expire)
        if method.kind is Kind.BOTH_STREAMS:
            self._inbox = deque()
            self.task = connection.loop.create_task(self._run(b""))

    # What handlers see.

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return self.head.metadata

    @property
    def common_name(self) -> str:
        return self.connection.peer.common_name

    @property
    def address(self) -> str:
        return self.connection.peer.address

    def post(self, message: bytes) -> None:
        """Send a message; whoever sends many looks at `writable` first."""
        self._tally.sent += 1
        if not self._started:
            self._started = True
            self.send_headers(GRPC_HEAD)
        self.send_data(b"\0" + len(message).to_bytes(4, "big") + message)

    def offer(self, message: bytes) -> bool:
        """Send a message if the client has room for it now; whether it had."""
        connection = self.connection
        size = len(message)
        whole = size + 5
        if (
            self._started
            and self._pending is None
            and whole <= self.send_window
            and whole <= connection.send_window
            and whole <= connection.max_frame
            and not connection.paused
            and not self.closed
        ):
            self.send_window -= whole
            connection.send_window -= whole
            self._tally.sent += 1
            connection.send_pair(_MESSAGE.pack(whole << 8 | DATA, 0, self.id, 0, size), message)
            return True
        if not self.writable:
            return False
        self.post(message)
        return True

    async def write(self, message: bytes) -> None:
        """Send a message when the client has room for it."""
        if not self.writable:
            await self.wait_writable()
        self.post(message)

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> bytes:
        inbox = self._inbox
        assert inbox is not None
        while not inbox:
            if self.ended or self.closed:
                raise StopAsyncIteration
            self._waiter = self.connection.loop.create_future()
            await self._waiter
        message = inbox.popleft()
        self._hold(-len(message) - 5)
        self._credit()
        return message

    # What comes in.

    def data(self, payload: bytes) -> None:
        partial = self._partial
        if partial is None:
            size = len(payload) - 5
            if size >= 0 and int.from_bytes(payload[1:5], "big") == size:
                self._message(payload[0], payload[5:])
                return
            partial = self._partial = bytearray()
        partial += payload
        if not self._hold(len(payload)):
            return
        while len(partial) >= 5:
            size = int.from_bytes(partial[1:5], "big")
            limit = self.connection.shared.limits.max_message
            if size > limit:
                self.status(EtcdError("RESOURCE_EXHAUSTED", f"grpc: received message larger than max ({size} vs. {limit})"))
                return
            if len(partial) < size + 5:
                break
            flag, message = partial[0], bytes(partial[5 : size + 5])
            del partial[: size + 5]
            self._hold(-size - 5)
            self._message(flag, message)
            if self.closed:
                return
        if not partial:
            self._partial = None
        self._credit()

    def _message(self, flag: int, message: bytes) -> None:
        if flag:
            plain = self._unpacked(flag, message)
            if plain is None:
                return
            message = plain
        self._tally.received += 1
        if self._inbox is not None:
            self._inbox.append(message)
            if self._hold(len(message) + 5):
                self._wake()
        elif self._request is None:
            self._request = message
        else:
            self.status(EtcdError("INTERNAL", "grpc: a unary call with more than one message"))

    def _unpacked(self, flag: int, message: bytes) -> bytes | None:
        limit = self.connection.shared.limits.max_message
        if flag != 1 or self.head.encoding != "gzip":
            self.status(EtcdError("INTERNAL", "grpc: a compressed message without a known grpc-encoding"))
            return None
        try:
            plain = zlib.decompressobj(31).decompress(message, limit + 1)
        except zlib.error:
            self.status(EtcdError("INTERNAL", "grpc: failed to decompress the received message"))
            return None
        if len(plain) > limit:
            self.status(EtcdError("RESOURCE_EXHAUSTED", f"grpc: received message after decompression larger than max {limit}"))
            return None
        return plain

    def end(self) -> None:
        if self._inbox is not None:
            self._wake()
        elif self._request is None or self._partial is not None:
            self.status(EtcdError("INTERNAL", "grpc: the request ended without a whole message"))
        else:
            self._start(self._request)

    def _hold(self, more: int) -> bool:
        """Count what is held; False (and the call is over) where all clients together send too much."""
        shared = self.connection.shared
        self._queued += more
        shared.buffered += more
        if more > 0 and shared.buffered > shared.limits.max_buffered:
            self.status(EtcdError("RESOURCE_EXHAUSTED", "etcdserver: too many requests"))
            return False
        return True

    def _credit(self) -> None:
        """Tell the client that there is room for more. A message that grows gets its room at once: its size is limited; the inbox when it is read."""
        held = 0 if self._inbox is None else self._queued - len(self._partial or b"")
        more = STREAM_WINDOW - self.receive_window - held
        if more > STREAM_WINDOW // 2 and not self.ended and not self.closed:
            self.receive_window += more
            self.connection.send(window_update(self.id, more))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The work.

    def _start(self, request: bytes) -> None:
        method, connection = self._method, self.connection
        assert method is not None
        if method.kind is not Kind.DIRECT or connection.unsent > MAX_UNSENT_BYTES:
            self.task = connection.loop.create_task(self._run(request))
            return
        try:
            result = method.call(request, self)
        except Exception as error:
            self._failed(error)
            return
        if type(result) is bytes:
            self.reply(result)
        else:
            self._future = future = asyncio.ensure_future(result)
            future.add_done_callback(self._answered)

    def _answered(self, done: asyncio.Future[Any]) -> None:
        self._future = None
        if self.closed:
            return
        if done.cancelled():
            self.status(_STOPPED)
        elif (error := done.exception()) is not None:
            self._failed(error)
        elif isinstance(result := done.result(), EtcdError):
            self.status(result)
        else:
            self.reply(result)

    async def _run(self, request: bytes) -> None:
        method = self._method
        assert method is not None
        try:
            if method.kind is Kind.UNARY or method.kind is Kind.DIRECT:
                if self.connection.unsent > MAX_UNSENT_BYTES:
                    await self.connection.room()
                result = method.call(request, self)
                if type(result) is not bytes:
                    result = await result
                if isinstance(result, EtcdError):
                    self.status(result)
                else:
                    self.reply(result)
                return
            work = method.call(self if method.kind is Kind.BOTH_STREAMS else request, self)
            if hasattr(work, "__aiter__"):
                try:
                    async for message in work:
                        await self.write(message)
                finally:
                    await work.aclose()
            else:
                await work
            self.status(None)
        except asyncio.CancelledError:
            # The client is gone or does not want it any more, then this says nothing; or the server stops.
            self.status(_STOPPED)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, EtcdError):
            self.status(error)
        elif isinstance(error, DecodeError):
            self.status(EtcdError("INTERNAL", "grpc: error unmarshalling request: not a message of the declared type"))
        else:
            log.error("a call failed", call=self.head.path, exc_info=error)
            self.status(EtcdError("UNKNOWN", f"etcdserver: {error}"))

    # The answer.

    def reply(self, message: bytes) -> None:
        """The one message of the answer, and that all went well."""
        if self.closed:
            return
        connection = self.connection
        size = len(message)
        whole = size + 5
        if (
            whole > self.send_window
            or whole > connection.send_window
            or whole > connection.max_frame
            or connection.paused
            or self._pending is not None
        ):
            self.post(message)
            self.status(None)
            return
        self._tally.ok += 1
        self._tally.sent += 1
        connection.send_window -= whole
        number = self.id
        front = _FRONT.pack(_FRONT_FIRST, END_HEADERS, number, GRPC_HEAD, whole << 8 | DATA, 0, number, 0, size)
        back = _BACK.pack(_BACK_FIRST, END_HEADERS | END_STREAM, number, GRPC_OK)
        if not self.ended:
            back += reset(number, NO_ERROR)
        connection.send(b"%b%b%b" % (front, message, back))
        self.forget()

    def status(self, error: EtcdError | None) -> None:
        """End the call; None where all went well."""
        if self.closed:
            return
        if error is None:
            self._tally.ok += 1
            block = GRPC_OK
        else:
            self._tally.ended[error.code] += 1
            block = trailers(CODES[error.code], error.text)
        if not self._started:
            block = GRPC_HEAD + block
        self.finish(frame(HEADERS, END_HEADERS | END_STREAM, self.id, block))

    def _expire(self) -> None:
        self._timer = None
        # What waits to be sent would come too late.
        self.discard()
        self.status(_DEADLINE)
        if self.task is not None:
            self.task.cancel()

    def released(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._future is not None:
            self._future.cancel()
            self._future = None
        if self._queued:
            self._hold(-self._queued)
        self._wake()


def unknown(path: str) -> str:
    """What grpc says of a path that nobody serves."""
    service, _, method = path.lstrip("/").rpartition("/")
    return f"unknown method {method} for service {service}" if service else f"malformed method name: {path!r}"
