"""What the connections of a server have in common: limits, what they hold together, and who is at the other end of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kubeling.etcdlite.transport.connection import Connection
    from kubeling.etcdlite.transport.headers import Head
    from kubeling.etcdlite.transport.stream import Stream

#: What a client may send on a stream, and on all of them together, before it is told that there is room again.
STREAM_WINDOW = 256 << 10
CONNECTION_WINDOW = 1 << 20
#: From here on a connection's new requests wait until it has taken its answers.
MAX_UNSENT_BYTES = 16 << 20
#: In the socket's buffer: beyond this the streams wait.
WRITE_BUFFER_BYTES = 256 << 10


@dataclass(slots=True)
class Limits:
    """What the flags say. Times in seconds."""

    max_streams: int = 10_000
    max_message: int = 2 << 20
    #: Of all requests that are not whole, or not looked at yet, of all clients.
    max_buffered: int = 128 << 20
    keepalive_min: float = 5.0
    keepalive_interval: float = 7200.0
    keepalive_timeout: float = 20.0


@dataclass(slots=True)
class Peer:
    """Who is at the other end."""

    address: str = ""
    #: CN of the certificate that it has shown and that was verified.
    common_name: str = ""
    secure: bool = False


class Drainable(Protocol):
    """A connection of either kind, as the server sees it."""

    def drain(self) -> None:
        """Close when what is being answered is answered."""

    def close(self) -> None:
        """Hang up."""

    def stop_work(self) -> None:
        """Cancel what is being done."""


@dataclass(slots=True)
class Shared:
    """What the connections of a server have in common; `open` makes a stream for a request."""

    limits: Limits
    open: Callable[[Connection, int, Head, int], Stream]
    connections: set[Drainable] = field(default_factory=set)
    #: Called with each end of a connection, while somebody waits for that.
    left: Callable[[], None] | None = None
    #: Bytes of requests that are held at the moment.
    buffered: int = 0

    def lost(self, connection: Drainable) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if self.left is not None:
            self.left()
