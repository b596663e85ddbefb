"""What services are made of: functions that take and give raw bytes, and what they are told about a call. The transport is behind :class:`Context`."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kubeling.etcdlite.errors import EtcdError

#: gRPC's status codes by name.
CODES = {
    name: number
    for number, name in enumerate(
        [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ]
    )
}


class Context(Protocol):
    """A call, as its handler sees it. A handler whose client has gone, or whose deadline has passed, is cancelled."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the client sent along, names in lower case."""

    @property
    def common_name(self) -> str:
        """The CN of the client's certificate; empty where it showed none that was verified."""

    @property
    def address(self) -> str:
        """Where the client is."""

    @property
    def writable(self) -> bool:
        """Whether the client has room for another message."""

    def post(self, message: bytes) -> None:
        """Send a message of a stream of answers; not twice without looking at `writable`."""

    def offer(self, message: bytes) -> bool:
        """Send a message if the client has room for it now; whether it had."""

    def when_writable(self, call: Callable[[], object]) -> None:
        """Have `call` called once when the client has room again."""

    async def write(self, message: bytes) -> None:
        """Send a message when the client has room for it."""


Messages = AsyncIterator[bytes]
UnaryCall = Callable[[bytes, Context], Awaitable[bytes]]
DirectCall = Callable[[bytes, Context], "bytes | Awaitable[bytes | EtcdError]"]
StreamCall = Callable[[Any, Context], Any]


class Kind(enum.Enum):
    """How a method talks."""

    UNARY = 1
    DIRECT = 2
    SERVER_STREAM = 3
    BOTH_STREAMS = 4


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service. Any kind may raise EtcdError."""

    kind: Kind
    call: Callable[[Any, Context], Any]


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its full name, as ``etcdserverpb.KV``."""

    name: str
    methods: Mapping[str, Method]


def unary(call: UnaryCall) -> Method:
    """One message each way."""
    return Method(Kind.UNARY, call)


def direct(call: DirectCall) -> Method:
    """The same as an ordinary function: it gives the answer, or, where that has to be waited for, something to await that has the answer or the error.

    A call that need not wait, or whose answer is one future, so gets along without a task.
    """
    return Method(Kind.DIRECT, call)


def server_stream(call: StreamCall) -> Method:
    """One request and many answers: `call` is an async generator, or a coroutine that writes to the context."""
    return Method(Kind.SERVER_STREAM, call)


def both_streams(call: StreamCall) -> Method:
    """A stream each way: `call` gets an iterator over the messages that come, and writes to the context."""
    return Method(Kind.BOTH_STREAMS, call)


def service(name: str, methods: dict[str, Method]) -> Service:
    """A whole service."""
    return Service(name, methods)


def unimplemented(name: str) -> Method:
    """A method that clients may ask for and that is not there."""

    def refuse(raw: bytes, context: Context) -> bytes:
        raise EtcdError("UNIMPLEMENTED", f"etcdserver: {name} is not supported by etcdlite")

    return direct(refuse)


def header(context: Context, name: str) -> str:
    """The first value of this metadata of the call, as `token` or `hasleader`; empty where there is none."""
    return next((value for key, value in context.metadata if key == name), "")


def common_name(context: Context) -> str:
    """The CN of the client's certificate; empty where it showed none that was verified."""
    return context.common_name


def answer(result: bytes | EtcdError) -> bytes:
    """The bytes of an answer; raises where it is an error."""
    if isinstance(result, EtcdError):
        raise result
    return result
