"""`proxy`: a local HTTP server that passes requests on to the apiserver, with our credentials.

Each local connection gets a connection of its own to the apiserver. The head of each request is read, checked against the lists of what may pass, and sent on
under the apiserver's name; all else (bodies, watches, upgrades to WebSocket) is passed byte by byte, so both sides are told that
the connection ends with its first request.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from kubeling.cli.session import CommandError, Session
from kubeling.cli.websocket import credentials, dial
from kubeling.client.rest import ConnectionFailed

_READ = 64 * 1024
_MAX_HEAD = 64 * 1024
_HEAD_SECONDS = 30.0
#: More local connections than these wait.
_MAX_CONNECTIONS = 512
#: Headers that are between a client and us, or that we set.
_DROPPED = frozenset(("host", "connection", "keep-alive", "proxy-connection", "authorization"))


@dataclass(frozen=True, slots=True)
class Rules:
    """What is passed on, and under which path."""

    api_prefix: str
    www: str
    www_prefix: str
    accept_hosts: re.Pattern[str]
    accept_paths: re.Pattern[str]
    reject_paths: re.Pattern[str]
    reject_methods: re.Pattern[str]
    filtered: bool

    def refuses(self, method: str, path: str, host: str) -> bool:
        if not self.filtered:
            return False
        if self.reject_paths.search(path) or self.reject_methods.search(method):
            return True
        return not (self.accept_paths.search(path) and self.accept_hosts.search(host))


async def proxy(
    session: Session,
    port: Annotated[int, typer.Option("-p", "--port", help="The local port; 0 takes a free one.")] = 8001,
    address: Annotated[str, typer.Option("--address", help="The local address.")] = "127.0.0.1",
    unix_socket: Annotated[str, typer.Option("-u", "--unix-socket", help="A Unix socket instead of a port.")] = "",
    api_prefix: Annotated[str, typer.Option("--api-prefix", help="Where the API is below us.")] = "/",
    www: Annotated[str, typer.Option("-w", "--www", help="A folder of files to serve as well.")] = "",
    www_prefix: Annotated[str, typer.Option("-P", "--www-prefix", help="Where these files are.")] = "/static/",
    accept_hosts: Annotated[str, typer.Option("--accept-hosts", help="Hosts that may be asked for, as a pattern.")] = (
        r"^localhost$,^127\\.0\\.0\\.1$,^\\[::1\\]$"
    ),
    accept_paths: Annotated[str, typer.Option("--accept-paths", help="Paths that may be asked for.")] = "^.*",
    reject_paths: Annotated[str, typer.Option("--reject-paths", help="Paths that may not.")] = (
        "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"
    ),
    reject_methods: Annotated[str, typer.Option("--reject-methods", help="Methods that may not be used.")] = "^$",
    disable_filter: Annotated[bool, typer.Option("--disable-filter", help="Let everything pass.")] = False,
) -> int:
    """Make the API a local one, with our credentials: `kubeling proxy --port=8001`, then `curl localhost:8001/api`."""
    prefix = f"/{api_prefix.strip('/')}/".replace("//", "/")
    try:
        rules = Rules(
            prefix,
            www,
            f"/{www_prefix.strip('/')}/",
            _pattern(accept_hosts),
            _pattern(accept_paths),
            _pattern(reject_paths),
            _pattern(reject_methods),
            filtered=not disable_filter,
        )
    except re.error as error:
        raise CommandError(f"error parsing a pattern: {error}") from error
    front = _Front(session, rules)
    try:
        if unix_socket:
            server = await asyncio.start_unix_server(front.serve, unix_socket, limit=_MAX_HEAD)
            place = unix_socket
        else:
            server = await asyncio.start_server(front.serve, address, port, limit=_MAX_HEAD)
            host, number = server.sockets[0].getsockname()[:2]
            place = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    except OSError as error:
        raise CommandError(f"listen {unix_socket or f'{address}:{port}'}: {error.strerror}") from error
    print(f"Starting to serve on {place}", flush=True)
    try:
        async with server:
            await server.serve_forever()
    except asyncio.CancelledError:
        return 0
    finally:
        if unix_socket:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unix_socket)
    return 0


def _pattern(listed: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{each})" for each in listed.replace("\\\\", "\\").split(",")))


class _Front:
    """Serves the local connections."""

    def __init__(self, session: Session, rules: Rules) -> None:
        self._config, self._rules = session.client.config, rules
        self._room = asyncio.Semaphore(_MAX_CONNECTIONS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, and whatever follows it in either direction."""
        try:
            async with self._room:
                async with asyncio.timeout(_HEAD_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                await self._pass(head.decode("latin-1"), reader, writer)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass  # The client has gone, or sends what is no request.
        except (ConnectionFailed, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            await _answer(writer, "502 Bad Gateway", f"{error}\n")
        finally:
            writer.close()

    async def _pass(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = request.split(" ", 2)
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        given = {name.lower(): value for name, value in headers}
        path = urlsplit(target).path
        if self._rules.refuses(method, path, _host(given.get("host", ""))):
            await _answer(writer, "403 Forbidden", "Forbidden\n")
        elif self._rules.www and path.startswith(self._rules.www_prefix):
            await _file(writer, self._rules, path)
        elif not f"{path}/".startswith(self._rules.api_prefix):
            await _answer(writer, "404 Not Found", "404 page not found\n")
        else:
            kept = [(name, value) for name, value in headers if name.lower() not in _DROPPED]
            upgrade = "upgrade" in given.get("connection", "").lower()
            await self._forward(method, "/" + target[len(self._rules.api_prefix) :], kept, upgrade, reader, writer)

    async def _forward(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        upgrade: bool,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        url, far_reader, far_writer = await dial(self._config, target)
        try:
            headers += [("Host", url.netloc), ("Connection", "Upgrade" if upgrade else "close"), *credentials(self._config)]
            lines = [f"{method} {url.path.rstrip('/')}{target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
            far_writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            if upgrade:
                answer = await far_reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                if not answer.startswith(b"HTTP/1.1 101"):
                    # Refused. What the client sent after its request would be a request that nobody has looked at.
                    await _copy(far_reader, writer)
                    return
            up = asyncio.create_task(_copy(reader, far_writer))
            try:
                await _copy(far_reader, writer)
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
        finally:
            far_writer.close()


def _host(text: str) -> str:
    """Without its port."""
    return text.rpartition(":")[0] if re.search(r":\d+$", text) else text


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_READ):
        sink.write(data)
        await sink.drain()


async def _file(writer: asyncio.StreamWriter, rules: Rules, path: str) -> None:
    found = _read(Path(rules.www), unquote(path.removeprefix(rules.www_prefix)))
    if found is None:
        await _answer(writer, "404 Not Found", "404 page not found\n")
    else:
        await _answer(writer, "200 OK", *found)


def _read(folder: Path, name: str) -> tuple[bytes, str] | None:
    """A file of the folder and its media type; None where there is none, or it lies elsewhere."""
    root = folder.resolve()
    file = (root / name).resolve()
    if file.is_dir():
        file /= "index.html"
    if not file.is_relative_to(root) or not file.is_file():
        return None
    return file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream"


async def _answer(writer: asyncio.StreamWriter, status: str, body: str | bytes, kind: str = "text/plain; charset=utf-8") -> None:
    data = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(ConnectionError):
        writer.write(head.encode() + data)
        await writer.drain()
