"""Events on their way to one client.

An event is encoded once, whoever watches; a watcher holds references to the bytes in a bounded buffer. One that does not keep up is ended: its client
comes back with the last resourceVersion it saw and gets the rest out of the history.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable

from kubeling.apiserver.cache.entry import Entry, with_revision

#: At most this many events and bytes wait for one client.
MAX_EVENTS = 2000
MAX_BYTES = 16 * 1024 * 1024

_OPEN = {kind: b'{"type":"%b","object":' % kind.encode() for kind in ("ADDED", "MODIFIED", "DELETED")}


class Event:
    """A change of one object. Of a deletion `entry` is the last state, under the revision of the deletion."""

    __slots__ = ("entry", "head", "lines", "previous", "revision", "time", "type")

    def __init__(self, kind: str, revision: int, entry: Entry, previous: Entry | None, head: bytes, time: float) -> None:
        self.type = kind
        self.revision = revision
        self.entry = entry
        self.previous = previous
        self.head = head
        self.time = time
        #: The lines that were made of it, by kind of event and form, which all watchers share. Dropped after the fan-out: few events are replayed later.
        self.lines: dict[tuple[str, Hashable], bytes] = {}

    def encode(self, kind: str) -> bytes:
        """The line on the wire. `kind` differs from the event's own where a selector makes an update an arrival or a departure."""
        found = self.lines.get((kind, None))
        if found is None:
            source = self.previous if kind == "DELETED" and self.previous is not None else self.entry
            found = self.lines[kind, None] = frame(kind, source.raw, self.head, self.revision)
        return found


def frame(kind: str, raw: bytes, head: bytes, revision: int) -> bytes:
    """One watch event, newline included."""
    return b"%b%b}\n" % (_OPEN[kind], with_revision(raw, head, revision))


Encoder = Callable[[str, Event], bytes]
Matches = Callable[[Entry], bool]


class Watcher:
    """One client's watch. The cache calls :meth:`offer`; the handler awaits :meth:`next`.

    `overflow` is called when the client is too slow. `sink` sends bytes at once, or says that it cannot: while the handler waits, events take this shorter way.
    """

    def __init__(
        self,
        *,
        matches: Matches | None,
        encoder: Encoder | None,
        after: int,
        bookmarks: Callable[[int], bytes] | None = None,
        overflow: Callable[[], None] | None = None,
        sink: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._overflow = overflow
        self._sink = sink
        self._matches = matches
        self._encoder = encoder
        self._bookmark = bookmarks
        self._buffer: deque[bytes] = deque()
        self._bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self.after = after
        self.closed = False
        self.too_slow = False
        #: Sent as the last event where the watch ends with an error.
        self.farewell: bytes | None = None

    def offer(self, event: Event) -> None:
        """Take a change, if it is new and of interest."""
        if event.revision <= self.after or self.closed:
            return
        kind = event.type
        if self._matches is not None:
            now = kind != "DELETED" and self._matches(event.entry)
            before = event.previous is not None and self._matches(event.previous)
            if now:
                kind = "MODIFIED" if before else "ADDED"
            elif before:
                kind = "DELETED"
            else:
                return
        self.push(event.encode(kind) if self._encoder is None else self._encoder(kind, event))

    def push(self, line: bytes) -> None:
        """Buffer one encoded event, or end the watch where too many wait already."""
        self._buffer.append(line)
        self._bytes += len(line)
        if self._bytes > MAX_BYTES or len(self._buffer) > MAX_EVENTS:
            self.too_slow = True
            self._buffer.clear()
            self.close()
            if self._overflow is not None:
                self._overflow()

    def bookmark(self, revision: int) -> None:
        """Tell the client how far it is, if it asked to be told."""
        if self._bookmark is not None and not self.closed:
            self.push(self._bookmark(revision))
            self.wake()

    def wake(self) -> None:
        """Send what is buffered: at once where the handler has nothing under way and the client keeps up, else by way of the handler."""
        if self._wake is None or self._wake.done():
            return
        if self._buffer and self._sink is not None and self._sink(self._joined()):
            self._buffer.clear()
            self._bytes = 0
        if self._buffer or self.closed:
            self._wake.set_result(None)

    def close(self, farewell: bytes | None = None) -> None:
        """End the watch after what is buffered."""
        self.closed = True
        self.farewell = self.farewell or farewell
        self.wake()

    async def next(self) -> bytes | None:
        """All that is buffered, as one piece; None when the watch is over."""
        while not self._buffer:
            if self.closed:
                line, self.farewell = self.farewell, None
                return line
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        data = self._joined()
        self._buffer.clear()
        self._bytes = 0
        return data

    def _joined(self) -> bytes:
        return b"".join(self._buffer) if len(self._buffer) > 1 else self._buffer[0]
