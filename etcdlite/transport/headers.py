"""Header blocks. Those of requests are decoded by `hpack`, and a client that repeats itself is recognised by the very bytes; those of answers are constants.

A client's second call of a method has, as a rule, the same block as its third: references into the table that both sides keep. So a
block is looked up before it is decoded, and what was made of it (not only the fields: the whole :class:`Head`) is used again, as long as
the table has not changed. Answers make no use of the table at all: their blocks never depend on what was sent before.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from hpack import Decoder, HPACKError
from hpack.exceptions import OversizedHeaderListError

from kubeling.etcdlite.transport.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

#: The most that a request's header fields may come to (as HPACK counts it), and what a block of them may take on the wire.
MAX_LIST_BYTES = 32 << 10
MAX_BLOCK_BYTES = 32 << 10
_MAX_CACHED = 128
_MAX_CACHED_BYTES = 1024

_FORBIDDEN = frozenset(["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"])
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])\Z")
_CONTROL = re.compile(r"[\0\r\n]|^[ \t]|[ \t]$")


class Head:
    """What a request's header fields say. `problem` is why the request is malformed, empty where it is not; `metadata` are the fields without a colon."""

    __slots__ = ("authority", "content_length", "encoding", "grpc", "metadata", "method", "path", "problem", "timeout")

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        pseudo: dict[str, str] = {}
        metadata: list[tuple[str, str]] = []
        self.problem = ""
        for name, value in fields:
            if name.startswith(":"):
                if metadata or name in pseudo or name not in (":method", ":scheme", ":path", ":authority"):
                    self.problem = f"misplaced {name}"
                pseudo[name] = value
            else:
                metadata.append((name, value))
                if name in _FORBIDDEN or (name == "te" and value != "trailers") or not _NAME.match(name):
                    self.problem = f"{name!r} is not allowed"
            if _CONTROL.search(value):
                self.problem = f"the value of {name!r} is malformed"
        self.metadata = tuple(metadata)
        self.method = pseudo.get(":method", "")
        self.path = pseudo.get(":path", "")
        self.authority = pseudo.get(":authority", "")
        if not self.method or not self.path or not pseudo.get(":scheme"):
            self.problem = self.problem or "a pseudo-header is missing"
        kind = self.get("content-type")
        self.grpc = kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;"))
        self.encoding = self.get("grpc-encoding")
        self.timeout: float | None = None
        if timeout := self.get("grpc-timeout"):
            found = _TIMEOUT.match(timeout)
            if found is None:
                self.problem = "grpc-timeout is malformed"
            else:
                self.timeout = int(found[1]) * _UNITS[found[2]]
        self.content_length: int | None = None
        if length := self.get("content-length"):
            if length.isascii() and length.isdigit() and len(length) < 16:
                self.content_length = int(length)
            else:
                self.problem = "content-length is malformed"

    def get(self, name: str) -> str:
        """The first value of a field; empty where there is none."""
        return next((value for key, value in self.metadata if key == name), "")


class HeaderReader:
    """One connection's decoder."""

    def __init__(self) -> None:
        self._decoder = Decoder(MAX_LIST_BYTES)
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """What a block says. Raises ConnectionFault where it cannot be decoded: then the tables of the two sides differ for ever."""
        head = self._known.get(block)
        if head is not None:
            return head
        entries = self._decoder.header_table.dynamic_entries
        before = (len(entries), entries[0] if entries else None)
        head = Head(self._decode(block))
        if len(entries) != before[0] or (entries and entries[0] is not before[1]):
            self._known.clear()
        elif len(self._known) < _MAX_CACHED and len(block) <= _MAX_CACHED_BYTES and block[:1] >= b"\x40":
            self._known[block] = head
        return head

    def _decode(self, block: bytes) -> list[tuple[str, str]]:
        try:
            fields = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many header fields") from None
        except (HPACKError, IndexError, ValueError):
            raise ConnectionFault(COMPRESSION_ERROR, "the header block cannot be decoded") from None
        # Bytes beyond ASCII are no error of HTTP; latin-1 keeps each as it is.
        return [(str(name, "latin-1"), str(value, "latin-1")) for name, value in fields]


def _literal(name: str, value: str) -> bytes:
    # Literal without indexing, new name, no Huffman code (RFC 7541, 6.2.2).
    return b"\x00" + _string(name) + _string(value)


def _string(text: str) -> bytes:
    raw = text.encode("latin-1", "replace")
    length = len(raw)
    if length < 127:
        return bytes([length]) + raw
    head = bytearray([127])
    length -= 127
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes(head) + bytes([length]) + raw


#: The header block of every gRPC answer: ``:status: 200`` (static table, 8) and the type of content.
GRPC_HEAD = b"\x88" + _literal("content-type", "application/grpc")
#: The trailers of one that went well.
GRPC_OK = _literal("grpc-status", "0")
_MAX_MESSAGE = 4096


def trailers(code: int, text: str) -> bytes:
    """The trailers of a gRPC answer; the message is percent-encoded, as the gRPC protocol says."""
    if not code:
        return GRPC_OK
    safe = "".join(chr(number) for number in range(0x20, 0x7F) if chr(number) != "%")
    return _literal("grpc-status", str(code)) + _literal("grpc-message", quote(text[:_MAX_MESSAGE], safe=safe))


def http_head(status: int, fields: list[tuple[str, str]]) -> bytes:
    """The header block of an ordinary answer."""
    return _literal(":status", str(status)) + b"".join(_literal(name, value) for name, value in fields)
