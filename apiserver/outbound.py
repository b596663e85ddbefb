"""Calls that the apiserver makes: JSON by POST to a webhook, over connections that are kept.

One :class:`Caller` holds the idle connections to all servers. A kept connection that turns out to be dead before anything of an answer has come is replaced
by a new one, once. Everything is bounded: the time of a call, the size of an answer, the connections that are kept. Where to connect, and what the
certificate must say, is in a :class:`Target`; :mod:`kubeling.apiserver.targets` makes one of a `clientConfig`.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import OrderedDict
from dataclasses import dataclass

import h11

from kubeling.daemon.clock import Clock

MAX_ANSWER = 8 * 1024 * 1024
_MAX_HEAD = 64 * 1024
_READ = 64 * 1024
_IDLE_SECONDS = 60.0
_IDLE_PER_SERVER = 16
_IDLE_SERVERS = 256
_CONTEXTS = 256
#: Of several addresses, none may use up the time of the others.
_CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server: the addresses to try in turn, the name that its certificate must be for, the authorities (PEM) that count; none: the system's."""

    url: str
    host: str
    path: str
    server_name: str
    addresses: tuple[tuple[str, int], ...]
    authorities: str = ""
    tls: bool = True

    @property
    def server(self) -> tuple[object, ...]:
        """What connections are kept under: the same for every path, and whichever address comes first."""
        return self.host, self.server_name, frozenset(self.addresses), self.authorities, self.tls


class CallFailed(Exception):
    """There was no answer; the text says why in the words of Go's net/http."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    body: bytes


@dataclass(slots=True)
class _Line:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection
    used: float = 0.0


class _Stale(Exception):
    """A kept connection was dead already."""


class Caller:
    """Makes calls. Close it at the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle: OrderedDict[tuple[object, ...], list[_Line]] = OrderedDict()
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def post(
        self, target: Target, body: bytes, seconds: float, query: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> Answer:
        """POST JSON. Raises CallFailed."""
        try:
            async with asyncio.timeout(seconds):
                return await self._post(target, body, query, headers)
        except TimeoutError:
            raise CallFailed("context deadline exceeded") from None

    async def _post(self, target: Target, body: bytes, query: str, headers: tuple[tuple[str, str], ...]) -> Answer:
        line = self._take(target)
        if line is not None:
            try:
                return await self._exchange(target, line, body, query, headers, kept=True)
            except _Stale:
                pass  # The server has closed it meanwhile: a new one it is.
        return await self._exchange(target, await self._connect(target), body, query, headers, kept=False)

    async def _exchange(
        self, target: Target, line: _Line, body: bytes, query: str, headers: tuple[tuple[str, str], ...], *, kept: bool
    ) -> Answer:
        done = False
        try:
            answer = await self._talk(target, line, body, query, headers, kept)
            done = line.http.our_state is h11.DONE and line.http.their_state is h11.DONE
        except (OSError, h11.ProtocolError, asyncio.IncompleteReadError) as error:
            if kept and line.http.their_state is h11.SEND_RESPONSE:
                raise _Stale from error
            raise CallFailed(_reason(error)) from error
        finally:
            if done:
                self._keep(target, line)
            else:
                line.writer.close()
        return answer

    async def _talk(
        self, target: Target, line: _Line, body: bytes, query: str, headers: tuple[tuple[str, str], ...], kept: bool
    ) -> Answer:
        http = line.http
        base = [("host", target.host), ("content-type", "application/json"), ("accept", "application/json, */*")]
        head = h11.Request(
            method="POST",
            target=target.path + (f"?{query}" if query else ""),
            headers=[*base, ("user-agent", "kube-apiserver-admission"), ("content-length", str(len(body))), *headers],
        )
        line.writer.write(
            b"".join((http.send(head) or b"", http.send(h11.Data(body)) or b"", http.send(h11.EndOfMessage()) or b""))
        )
        await line.writer.drain()
        status, chunks, size = 0, [], 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await line.reader.read(_READ)
                if not data and kept and not status:
                    raise _Stale
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > MAX_ANSWER:
                    raise CallFailed(f"the answer is larger than {MAX_ANSWER} bytes")
                chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, b"".join(chunks))
            elif isinstance(event, h11.ConnectionClosed):
                raise CallFailed("EOF")

    async def _connect(self, target: Target) -> _Line:
        """A new connection to the first address that takes one."""
        failure: OSError | None = None
        for host, port in target.addresses:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS if len(target.addresses) > 1 else None):
                    reader, writer = await asyncio.open_connection(
                        host,
                        port,
                        ssl=self._context(target) if target.tls else None,
                        server_hostname=target.server_name if target.tls else None,
                    )
            except TimeoutError:
                failure = OSError(f"dial tcp {host}:{port}: i/o timeout")
            except ssl.SSLCertVerificationError as error:
                raise CallFailed(f"tls: failed to verify certificate: x509: {_certificate(error)}") from error
            except ssl.SSLError as error:
                raise CallFailed(f"tls: {error.reason or error}".lower().replace("_", " ")) from error
            except OSError as error:
                failure = OSError(f"dial tcp {host}:{port}: connect: {(error.strerror or str(error)).lower()}")
            else:
                return _Line(reader, writer, h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD))
        raise CallFailed(str(failure) if failure else "no address is known")

    def _context(self, target: Target) -> ssl.SSLContext:
        """The TLS settings for these authorities. Raises CallFailed where they are none."""
        key = hashlib.sha256(target.authorities.encode()).hexdigest()
        found = self._contexts.get(key)
        if found is None:
            try:
                found = ssl.create_default_context(cadata=target.authorities or None)
            except (ssl.SSLError, ValueError) as error:
                raise CallFailed(f"unable to load root certificates: {error}") from error
            self._contexts[key] = found
            if len(self._contexts) > _CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(key)
        return found

    def _take(self, target: Target) -> _Line | None:
        lines = self._idle.get(target.server) or []
        oldest = self._clock.monotonic() - _IDLE_SECONDS
        while lines:
            line = lines.pop()
            if line.used > oldest and not line.reader.at_eof() and not line.writer.is_closing():
                return line
            line.writer.close()
        return None

    def _keep(self, target: Target, line: _Line) -> None:
        line.http.start_next_cycle()
        line.used = self._clock.monotonic()
        lines = self._idle.setdefault(target.server, [])
        self._idle.move_to_end(target.server)
        lines.append(line)
        if len(lines) > _IDLE_PER_SERVER:
            lines.pop(0).writer.close()
        if len(self._idle) > _IDLE_SERVERS:
            for each in self._idle.popitem(last=False)[1]:
                each.writer.close()

    async def close(self) -> None:
        """Let go of all that is kept."""
        for lines in self._idle.values():
            for line in lines:
                line.writer.close()
        self._idle.clear()


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return "unexpected EOF"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "read: connection reset by peer"
    return str(error) or type(error).__name__


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    """Go's words for the usual faults of a certificate."""
    code = error.verify_code
    if code in (18, 19, 20, 21):
        return "certificate signed by unknown authority"
    if code in (9, 10):
        return "certificate has expired or is not yet valid"
    return error.verify_message
