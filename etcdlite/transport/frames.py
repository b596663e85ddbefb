"""The vocabulary of HTTP/2 (RFC 9113): kinds of frames, flags, settings, error codes, and how a frame is written."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

SETTING_HEADER_TABLE_SIZE = 0x1
SETTING_ENABLE_PUSH = 0x2
SETTING_MAX_CONCURRENT_STREAMS = 0x3
SETTING_INITIAL_WINDOW_SIZE = 0x4
SETTING_MAX_FRAME_SIZE = 0x5
SETTING_MAX_HEADER_LIST_SIZE = 0x6

#: What both sides start with, before any setting.
DEFAULT_WINDOW = 65_535
#: The largest frame that is taken; it is never raised, so no more than this is ever kept of a frame that is not whole.
MAX_FRAME = 16_384
MAX_WINDOW = (1 << 31) - 1
MASK = MAX_WINDOW

#: Length (24 bits) and kind, flags, stream.
HEAD = struct.Struct(">IBI")
HEAD_BYTES = 9
WORD = struct.Struct(">I")
SETTING = struct.Struct(">HI")


class ConnectionFault(Exception):
    """The peer broke the rules in a way that ends the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The peer broke the rules in a way that ends one stream."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__(f"stream {stream}: error {code}")
        self.stream = stream
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*one) for one in values.items()))


def window_update(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, WORD.pack(more))


def reset(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, WORD.pack(code))


def goaway(last: int, code: int, reason: str = "") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, WORD.pack(last) + WORD.pack(code) + reason.encode())


def unpadded(flags: int, payload: bytes, *, prioritized: bool = False) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority. Raises ConnectionFault."""
    end = len(payload)
    at = 0
    if flags & PADDED:
        if not end:
            raise ConnectionFault(FRAME_SIZE_ERROR, "a padded frame without a length of its padding")
        at, end = 1, end - payload[0]
    if prioritized:
        at += 5
    if at > end:
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than frame")
    return payload[at:end]


class Bucket:
    """How much of something is all right: `capacity` at once and `rate` a second. What serves somebody gives some of it back."""

    __slots__ = ("_capacity", "_level", "_rate", "_since")

    def __init__(self, capacity: float, rate: float, now: float) -> None:
        self._capacity = self._level = capacity
        self._rate = rate
        self._since = now

    def spend(self, now: float, amount: float = 1.0) -> bool:
        """Whether there was enough left."""
        if self._level < amount:
            self._level = min(self._capacity, self._level + (now - self._since) * self._rate)
            self._since = now
        self._level -= amount
        return self._level >= 0

    def refund(self, amount: float) -> None:
        """Give some back."""
        self._level = min(self._capacity, self._level + amount)
