"""Short exchanges over kept connections: HTTP/1.1, one request at a time on each, with no more between the caller and the socket than that needs.

A general HTTP client takes two to four times as long over a request as the apiserver over its answer, and in a control plane nearly all requests are like this: a
kilobyte there, a kilobyte back, to a server that is always the same. Watches, which live long, go through httpx (see :mod:`rest`).

The parser is llhttp (httptools). A connection that the server closes while nobody uses it is dropped at once, since asyncio tells us.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

import httptools

#: Characters that may stand in a target as they are; percent signs are taken to belong to escapes already.
_SAFE = "/:?#[]@!$&'()*+,;=-._~%"
_IDLE_SECONDS = 60.0
CONNECT_SECONDS = 5.0
_CLOSING_SECONDS = 1.0
#: Without a sign of life from the server.
SILENCE_SECONDS = 30.0


class NotSent(Exception):
    """There was no connection: nothing has reached the server."""


class BrokenOff(Exception):
    """The exchange broke off: the server may or may not have done what it was asked."""


@dataclass(slots=True)
class Answer:
    """What the server says; the names of headers are in lower case."""

    status_code: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    content: bytes = b""

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Origin:
    """A server, as its URL says: `prefix` is what its paths begin with."""

    host: str
    port: int
    tls: bool
    prefix: str
    netloc: str


def origin_of(url: str) -> Origin:
    """Take the URL of a server apart."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    netloc = parts.netloc.rpartition("@")[2]
    return Origin(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"), netloc)


def target_of(origin: Origin, path: str, params: Mapping[str, str]) -> bytes:
    """The request target: escaped where it must be."""
    target = quote(origin.prefix + path, safe=_SAFE)
    if params:
        target += ("&" if "?" in target else "?") + urlencode(params, quote_via=quote)
    return target.encode("ascii")


class _Connection(asyncio.Protocol):
    """One connection. What httptools calls are the methods whose names begin with `on_`."""

    def __init__(self, options: Iterable[tuple[int, int, int]]) -> None:
        self._options = options
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._body: list[bytes] = []
        self._waiter: asyncio.Future[Answer] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._heard = 0.0
        #: Done when nothing is left of it.
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.idle_since = 0.0
        self.usable = False

    # -- asyncio's side ----------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            for option in self._options:
                sock.setsockopt(*option)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        self._heard = asyncio.get_running_loop().time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the server's answer is no HTTP: {error}")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error) if error else "the server closed the connection")
        if not self.gone.done():
            self.gone.set_result(None)

    def _fail(self, words: str) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BrokenOff(words))

    # -- the parser's side -------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._answer, self._body = Answer(), []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # It goes on.
        answer = self._answer
        answer.status_code, answer.content = status, b"".join(self._body)
        self._body = []
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)

    # -- the caller's side -------------------------------------------------------------------------------------------------------------

    async def exchange(self, request: bytes) -> Answer:
        """Send a request and return its answer. Raises BrokenOff, after which the connection is not to be used again."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._waiter = waiter
        self._heard = loop.time()
        self._watchdog = loop.call_later(SILENCE_SECONDS, self._look_at_clock, loop)
        try:
            self._transport.write(request)
            return await waiter
        except BaseException:
            # Whoever was cancelled leaves an answer behind that belongs to nobody.
            self.close()
            raise
        finally:
            if self._watchdog is not None:
                self._watchdog.cancel()
            self._waiter = None

    def _look_at_clock(self, loop: asyncio.AbstractEventLoop) -> None:
        quiet = loop.time() - self._heard
        if quiet >= SILENCE_SECONDS:
            self._fail(f"the server has said nothing for {SILENCE_SECONDS:.0f} s")
        else:
            self._watchdog = loop.call_later(SILENCE_SECONDS - quiet, self._look_at_clock, loop)

    def close(self) -> None:
        """Close it without waiting for anybody."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()


class Wire:
    """Connections to servers, of which those that are not in use are kept for a minute."""

    def __init__(
        self,
        context: ssl.SSLContext | None,
        *,
        headers: Iterable[tuple[str, str]],
        server_name: str = "",
        options: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """`headers` go with each request that does not bring its own of the name; `server_name` is what the server's certificate is to be for, where that is not its host."""
        self._context = context
        self._defaults = [(name.lower(), value) for name, value in headers]
        self._names = {name for name, _ in self._defaults}
        self._head = _lines(self._defaults)
        self._server_name = server_name
        self._options = tuple(options)
        self._idle: dict[Origin, list[_Connection]] = {}
        self._origins: dict[str, Origin] = {}
        self._closed = False

    async def request(
        self, server: str, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """One exchange. Raises NotSent or BrokenOff."""
        origin = self._origins.get(server)
        if origin is None:
            origin = self._origins[server] = origin_of(server)
        head = [
            method.encode("ascii"),
            b" ",
            target_of(origin, path, params),
            b" HTTP/1.1\r\nhost: ",
            origin.netloc.encode(),
            b"\r\n",
        ]
        given = [(name.lower(), value) for name, value in headers.items()]
        instead = self._names.intersection(name for name, _ in given)
        head.append(_lines(each for each in self._defaults if each[0] not in instead) if instead else self._head)
        head.append(_lines(given))
        if body is not None or method in ("POST", "PUT", "PATCH"):
            head.append(b"content-length: %d\r\n" % len(body or b""))
        head.append(b"\r\n")
        if body:
            head.append(body)
        connection = self._kept(origin) or await self._connect(origin)
        answer = await connection.exchange(b"".join(head))
        if connection.usable and not self._closed:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.setdefault(origin, []).append(connection)
        else:
            connection.close()
        return answer

    async def close(self) -> None:
        """Close what is not in use; what is, is closed when its exchange has ended."""
        self._closed = True
        ours = [each for connections in self._idle.values() for each in connections]
        self._idle.clear()
        for each in ours:
            each.close()
        if ours:
            await asyncio.wait([each.gone for each in ours], timeout=_CLOSING_SECONDS)

    def _kept(self, origin: Origin) -> _Connection | None:
        """The connection that was used last; those that have been idle for long are closed."""
        kept = self._idle.get(origin)
        if not kept:
            return None
        now = asyncio.get_running_loop().time()
        while kept and now - kept[0].idle_since > _IDLE_SECONDS:
            kept.pop(0).close()
        while kept:
            found = kept.pop()
            if found.usable:
                return found
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._options),
                    origin.host,
                    origin.port,
                    ssl=self._context if origin.tls else None,
                    server_hostname=(self._server_name or origin.host) if origin.tls else None,
                )
        except TimeoutError as error:
            raise NotSent(f"no connection to {origin.netloc} within {CONNECT_SECONDS:.0f} s") from error
        except (OSError, ssl.SSLError) as error:
            raise NotSent(f"{origin.netloc}: {error}") from error
        return connection


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{_plain(name)}: {_plain(value)}\r\n" for name, value in headers).encode("latin-1")


def _plain(text: str) -> str:
    """A header's text. Raises ValueError for what would begin another header."""
    if "\r" in text or "\n" in text:
        raise ValueError(f"a line break in a header: {text!r}")
    return text
