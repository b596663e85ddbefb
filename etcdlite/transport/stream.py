"""One exchange on an HTTP/2 connection: what may be sent at once is, and the rest waits for the client to make room.

What does not fit into the windows, or comes while the socket takes no more, is kept in `_pending` and cut into frames as room appears. Senders of many
messages look at `writable` (or wait) before the next one, so a stream keeps at most one message more than its client takes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from kubeling.etcdlite.transport.frames import DATA, END_HEADERS, HEAD, HEADERS, NO_ERROR, frame, reset
from kubeling.etcdlite.transport.headers import Head

if TYPE_CHECKING:
    from kubeling.etcdlite.transport.connection import Connection


def settle(waiter: asyncio.Future[None]) -> None:
    """Wake who waits, if they still do."""
    if not waiter.done():
        waiter.set_result(None)


class Stream:
    """`closed` once nothing more can be sent (or the client does not want it); `ended` once the client has said all."""

    __slots__ = (
        "_last",
        "_on_writable",
        "_pending",
        "closed",
        "connection",
        "ended",
        "head",
        "id",
        "receive_window",
        "send_window",
        "task",
    )

    def __init__(self, connection: Connection, number: int, head: Head, send_window: int, receive_window: int) -> None:
        self.connection = connection
        self.id = number
        self.head = head
        self.send_window = send_window
        self.receive_window = receive_window
        self.closed = False
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self._on_writable: Callable[[], object] | None = None
        self._pending: deque[bytes] | None = None
        #: The frame after the last of `_pending`; None while more may come.
        self._last: bytes | None = None

    # What comes in; overridden.

    def begin(self) -> None:
        """The head of the request has come."""

    def data(self, payload: bytes) -> None:
        """A piece of the request's body."""

    def end(self) -> None:
        """The request is whole."""

    def released(self) -> None:
        """The exchange is over, in whatever way: let go of what it held."""

    def aborted(self) -> None:
        """The client (or the end of the connection) has cancelled the exchange."""
        self.forget()
        if self.task is not None:
            self.task.cancel()

    # What goes out.

    @property
    def writable(self) -> bool:
        """Whether a message would go out now."""
        return self._pending is None and not self.connection.paused and not self.closed and self.send_window > 0

    async def wait_writable(self) -> None:
        """Return when a message would go out. Raises CancelledError where nobody is left to take it."""
        while not self.writable:
            if self.closed:
                raise asyncio.CancelledError
            waiter = self.connection.loop.create_future()
            self.when_writable(partial(settle, waiter))
            await waiter

    def when_writable(self, call: Callable[[], object]) -> None:
        """Have `call` called once when a message would go out; not, where the exchange ends before."""
        if not self.closed:
            self._on_writable = call
            self.connection.wait(self)

    def send_headers(self, block: bytes) -> None:
        """The first frame of the answer."""
        self.connection.send(frame(HEADERS, END_HEADERS, self.id, block))

    def send_data(self, body: bytes) -> None:
        """A piece of the answer's body; kept where there is no room for it."""
        if self.closed:
            return
        connection = self.connection
        size = len(body)
        if self._pending is None and size <= self.send_window and size <= connection.send_window and not connection.paused:
            if size <= connection.max_frame:
                self.send_window -= size
                connection.send_window -= size
                connection.send(HEAD.pack(size << 8 | DATA, 0, self.id) + body)
                return
        elif not size:
            return
        if self._pending is None:
            self._pending = deque()
            connection.wait(self)
        self._pending.append(body)
        connection.unsent += size
        self.pump()

    def finish(self, last: bytes) -> None:
        """Send `last`, a whole frame that ends the stream, when all before it is sent."""
        if self.closed:
            return
        if self._pending is None:
            self.connection.send(last)
            self._over()
        else:
            self._last = last

    def pump(self) -> None:
        """Send what there is room for, and tell who waits for room."""
        connection, pending = self.connection, self._pending
        if pending is not None:
            while pending and not connection.paused:
                body = pending[0]
                size = min(len(body), self.send_window, connection.send_window, connection.max_frame)
                if size <= 0:
                    return
                self.send_window -= size
                connection.send_window -= size
                connection.unsent -= size
                connection.send(HEAD.pack(size << 8 | DATA, 0, self.id) + body[:size])
                if size == len(body):
                    pending.popleft()
                else:
                    # A view, so that a large answer is not copied once for each of its frames.
                    pending[0] = memoryview(body)[size:]  # type: ignore[assignment]
            if pending:
                return
            self._pending = None
            if self._last is not None:
                connection.send(self._last)
                self._over()
                return
        connection.unwait(self)
        call = self._on_writable
        if call is not None:
            if self.writable:
                self._on_writable = None
                call()
            else:
                connection.wait(self)

    def discard(self) -> None:
        """What waits to be sent is not wanted any more."""
        if self._pending is not None:
            self.connection.unsent -= sum(map(len, self._pending))
            self._pending = None

    def _over(self) -> None:
        if not self.ended:
            # The client need not send the rest.
            self.connection.send(reset(self.id, NO_ERROR))
        self.forget()

    def forget(self) -> None:
        """Nothing of this stream is of interest any more."""
        if self.closed:
            return
        self.closed = True
        self._on_writable = None
        connection = self.connection
        self.discard()
        connection.drop(self)
        self.released()
