"""One request on its way through the apiserver, and the ways to answer it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from kubeling.api import errors
from kubeling.apiserver import compression, negotiate, pretty
from kubeling.apiserver.info import PathInfo, parse_query

if TYPE_CHECKING:
    from kubeling.apiserver.audit.record import Record
    from kubeling.apiserver.authn.user import User
    from kubeling.daemon.clock import Clock

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: The largest body that is read.
MAX_BODY = 3 * 1024 * 1024
#: What is read of a larger one only to be thrown away, so that the client hears why it was refused instead of a reset in the middle of its writing.
_MAX_DISCARDED = 32 * 1024 * 1024
_JSON = b"application/json"
_MAX_WARNINGS = 32
#: Clients refuse long headers. Beyond the first 4,096 characters in all, warnings are cut, as upstream does it.
_MAX_WARNING_TEXT, _CUT_WARNING_TEXT = 4096, 256
_BODY_SECONDS = 60.0
#: Answers up to this size are sent in one piece. (Pieces cost a copy of the rest for each 16 KB, in asyncio's TLS.)
_PIECE = 64 * 1024
#: How long a client may take to read so much.
_PIECE_SECONDS = 60.0


class Request:
    """What the handlers see. `query` is shared and not to be changed."""

    __slots__ = (
        "annotations",
        "audit",
        "clock",
        "headers",
        "info",
        "on_stream",
        "output_",
        "protobuf",
        "query",
        "receive",
        "scope",
        "send",
        "status",
        "user",
        "verb",
        "warnings",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, info: PathInfo, user: User, clock: Clock) -> None:
        self.clock = clock
        self.scope = scope
        self.receive = receive
        self.send = send
        self.info = info
        self.user = user
        self.query = parse_query(scope["query_string"])
        self.verb = info.verb(scope["method"], is_true(self.query.get("watch")))
        self.status = 0
        #: Whether objects can be had as protobuf; those of custom resources cannot.
        self.protobuf = True
        self.warnings: list[str] = []
        #: What every answer carries, and what is called when a chunked one begins.
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.on_stream: Callable[[], None] | None = None
        #: For the audit log.
        self.annotations: dict[str, str] = {}
        self.audit: Record | None = None
        self.output_: negotiate.Output | None = None

    def header(self, name: bytes) -> str:
        """A header's first value, empty where it is absent. `name` in lower case."""
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value.decode("latin-1"))
        return ""

    @property
    def output(self) -> negotiate.Output:
        """The form that the client wants."""
        if self.output_ is None:
            self.output_ = negotiate.choose(self.header(b"accept"), self.protobuf)
        return self.output_

    def flag(self, name: str) -> bool:
        """A boolean query parameter."""
        return is_true(self.query.get(name))

    def warn(self, text: str) -> None:
        """Add a Warning header to the answer."""
        if sum(map(len, self.warnings)) + len(text) > _MAX_WARNING_TEXT:
            text = text[:_CUT_WARNING_TEXT]
        if len(self.warnings) < _MAX_WARNINGS and text not in self.warnings:
            self.warnings.append(text)

    def annotate(self, key: str, value: str) -> None:
        """Add an annotation to the request's audit events; the first of a key counts."""
        self.annotations.setdefault(key, value)

    async def body(self) -> bytes:
        """The whole body. Raises 413 when it is too large."""
        for key, value in self.scope["headers"]:
            if key == b"content-length" and value.isdigit() and int(value) > MAX_BODY:
                await self._refuse_body(0)
        if getattr(getattr(self.receive, "__self__", None), "more_body", True):
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    found = await self._read()
            except TimeoutError:
                raise errors.timeout("the body of the request did not arrive in time") from None
        else:
            # It came with the header, as most do: nothing will be waited for.
            found = await self._read()
        if self.audit is not None:
            self.audit.sent(found)
        return found

    async def _read(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > MAX_BODY:
                chunks.clear()
                await self._refuse_body(size)
            chunks.append(chunk)
            if not message.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _refuse_body(self, seen: int) -> NoReturn:
        """Read what the client still sends, within bounds, and raise 413."""
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while seen < _MAX_DISCARDED:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    seen += len(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            pass  # Too large and too slow: it is told the first.
        raise errors.too_large(f"limit is {MAX_BODY}")

    async def respond(
        self, body: bytes, status: int = 200, content_type: bytes = _JSON, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer with these bytes."""
        self.status = status
        if self.audit is not None:
            self.audit.answered(body)
        if body and len(body) <= pretty.LONGEST and content_type.startswith(_JSON) and pretty.wanted(self.scope, self.query):
            body = pretty.indented(body)
        if len(body) > _PIECE:
            pieces = (body[at : at + _PIECE] for at in range(0, len(body), _PIECE))
            await self._send_pieces(pieces, len(body), status, content_type, headers)
            return
        all_headers = self._headers(content_type, headers)
        if not self.scope["state"]["connection"].reply(self.send, status, all_headers, body):
            all_headers.append((b"content-length", b"%d" % len(body)))
            await self.send({"type": "http.response.start", "status": status, "headers": all_headers})
            await self.send({"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body})

    async def respond_pieces(self, pieces: Iterable[bytes], length: int | None = None, content_type: bytes = _JSON) -> None:
        """Answer with what is made while it is sent, of `length` bytes where that is known. Each piece should have some 64 KB.

        What is in memory is what the client is behind, and other requests get their turns meanwhile.
        """
        first: list[bytes] = []
        if length is None:
            # What is short is sent with its length, and what cannot be made has still time to be an error.
            pieces = iter(pieces)
            first = list(itertools.islice(pieces, 2))
            pieces = itertools.chain(first, pieces)
        if (length or 0) <= pretty.LONGEST and content_type.startswith(_JSON) and pretty.wanted(self.scope, self.query):
            first, pieces = _beginning(pieces, pretty.LONGEST)
            whole = sum(map(len, first)) <= pretty.LONGEST
        else:
            whole = len(first) < 2 if length is None else length <= _PIECE
        if whole or (self.audit is not None and self.audit.wants_answer):
            await self.respond(b"".join(pieces), content_type=content_type)
            return
        self.status = 200
        await self._send_pieces(pieces, length, 200, content_type, ())

    async def _start(self, length: int | None, status: int, content_type: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        all_headers = self._headers(content_type, headers)
        if length is not None:
            all_headers.append((b"content-length", b"%d" % length))
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})

    def _headers(self, content_type: bytes, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        all_headers = [(b"content-type", content_type), *headers, *self.headers]
        if not any(name == b"cache-control" for name, _ in all_headers):
            all_headers.append((b"cache-control", b"no-cache, private"))
        for text in self.warnings:
            all_headers.append((b"warning", warning_header(text)))
        if self.audit is not None:
            all_headers += self.audit.headers
        return all_headers

    async def _send_pieces(
        self,
        pieces: Iterable[bytes],
        length: int | None,
        status: int,
        content_type: bytes,
        headers: Iterable[tuple[bytes, bytes]],
    ) -> None:
        connection = self.scope["state"]["connection"]
        fixed = length
        # Of what has no length yet only so much is known: that it is more than a piece.
        if compression.wanted(self.scope, 2 * _PIECE if length is None else length):
            headers = (*headers, *compression.HEADERS)
            pieces, fixed = compression.packed(pieces), None
        await self._start(fixed, status, content_type, headers)
        if self.scope["method"] == "HEAD":
            pieces = ()
        for piece in pieces:
            try:
                async with asyncio.timeout(_PIECE_SECONDS):
                    await self.send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                # The client does not read. What it has got cannot be taken for the whole: the length says that more was to come.
                connection.abort()
                return
            if connection.closed:
                return
            await asyncio.sleep(0)
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def respond_json(self, value: Any, status: int = 200) -> None:
        """Answer with JSON."""
        await self.respond(orjson.dumps(value), status)

    async def start_stream(self, content_type: bytes = _JSON, status: int = 200) -> None:
        """Begin a chunked answer; :meth:`chunk` and :meth:`end_stream` follow."""
        self.status = status
        if self.on_stream is not None:
            self.on_stream()
        headers = [(b"content-type", content_type), (b"cache-control", b"no-cache, private"), *self.headers]
        for text in self.warnings:
            headers.append((b"warning", warning_header(text)))
        if self.audit is not None:
            headers += self.audit.headers
            self.audit.started()
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def chunk(self, data: bytes) -> None:
        """Send some of a chunked answer."""
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self) -> None:
        """End a chunked answer."""
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _beginning(pieces: Iterable[bytes], most: int) -> tuple[list[bytes], Iterable[bytes]]:
    """The first pieces, until they are more than `most` bytes or all; and all of them."""
    first: list[bytes] = []
    size = 0
    pieces = iter(pieces)
    for piece in pieces:
        first.append(piece)
        size += len(piece)
        if size > most:
            break
    return first, itertools.chain(first, pieces)


class ClientGone(Exception):
    """The client hung up before it had sent its body."""


def is_true(text: str | None) -> bool:
    """A boolean as clients write it in a query; `?watch` alone is true."""
    return text is not None and text.lower() in ("true", "1", "t", "")


def warning_header(text: str) -> bytes:
    """RFC 7234: code 299, no agent, the text quoted."""
    escaped = "".join(char if char.isprintable() else " " for char in text).replace("\\", "\\\\").replace('"', '\\"')
    return b'299 - "%b"' % escaped.encode()
