"""Exec, attach and port-forward for clients that come with a URL.

The kubelet asks by CRI for a stream and is given a URL with a token, good once and for a minute; whoever opens it gets the stream. The server
listens where only the node itself reaches it. A :class:`Carrier` is what a stream travels in: a WebSocket with channels, or SPDY.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from http import HTTPStatus
from typing import Any, Protocol

from kubeling.crilite import forward, spdy, spdy_streams, websocket
from kubeling.crilite.core import Core
from kubeling.crilite.errors import CriError
from kubeling.crilite.execs import Execs, Session, Sink
from kubeling.crilite.keeper_client import KeeperError
from kubeling.daemon.log import get_logger

log = get_logger("crilite.streaming")

#: A URL is good for one use within this time.
_URL_SECONDS = 60.0
_MAX_URLS = 1000
_MAX_HEAD = 32 * 1024
_HEAD_SECONDS = 30.0
_READ = 65536


class Carrier(Protocol):
    """The client's side of an exec or attach."""

    async def receive(self) -> tuple[str, bytes] | None:
        """("stdin", data), ("stdin", b"") at its end, ("resize", JSON), or None when the client has gone."""

    async def send(self, stream: str, data: bytes) -> None:
        """`stream` is stdout or stderr. Raises ConnectionError when the client has gone."""

    async def finish(self, status: dict[str, Any]) -> None:
        """The last thing that the client hears."""


class StreamingServer:
    def __init__(self, core: Core, execs: Execs) -> None:
        self._core = core
        self._execs = execs
        self._address = ""
        self._tokens: dict[str, tuple[float, str, Any]] = {}

    async def start(self, host: str, port: int) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, host, port, limit=1 << 20)
        bound = server.sockets[0].getsockname()
        self._address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        return server

    def url(self, kind: str, request: Any) -> str:
        """A URL under which `request` can be carried out once."""
        now = time.monotonic()
        self._tokens = {token: entry for token, entry in self._tokens.items() if entry[0] > now}
        while len(self._tokens) >= _MAX_URLS:
            self._tokens.pop(next(iter(self._tokens)))
        token = secrets.token_urlsafe(16)
        self._tokens[token] = (now + _URL_SECONDS, kind, request)
        return f"http://{self._address}/{kind}/{token}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._dispatch(head, reader, writer)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # The client went away, or is none.
        except Exception:
            log.exception("a stream failed")
        finally:
            writer.close()

    async def _dispatch(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target, headers = _parse_head(head)
        kind, _, token = target.strip("/").partition("/")
        known = self._tokens.pop(token, None)
        if len(head) > _MAX_HEAD or known is None or known[0] < time.monotonic() or known[1] != kind:
            await _refuse(writer, HTTPStatus.NOT_FOUND, "no such stream: its URL is good once, for a minute")
            return
        request = known[2]
        upgrade = headers.get("upgrade", "").lower()
        if upgrade == "websocket":
            await self._websocket(kind, request, head, websocket.WebSocket(reader, writer), writer)
        elif upgrade == "spdy/3.1":
            await self._spdy(kind, request, headers.get("x-stream-protocol-version", ""), reader, writer)
        else:
            await _refuse(writer, HTTPStatus.BAD_REQUEST, "upgrade this connection to a WebSocket or to SPDY/3.1")

    async def _websocket(
        self, kind: str, request: Any, head: bytes, socket: websocket.WebSocket, writer: asyncio.StreamWriter
    ) -> None:
        forwards = kind == "portforward"
        try:
            await socket.accept(head, websocket.FORWARD_PROTOCOLS if forwards else websocket.PROTOCOLS)
        except websocket.ProtocolError as error:
            await _refuse(writer, HTTPStatus.BAD_REQUEST, str(error))
            return
        if not forwards:
            await self._carry(kind, request, socket)
        elif socket.protocol == websocket.TUNNEL:
            await spdy_streams.port_forward(
                self._core, request.pod_sandbox_id, spdy.Session(socket.receive_bytes, socket.send_bytes)
            )
        else:
            await websocket.begin_forward(socket, list(request.port))
            await forward.over_websocket(self._core, request, socket)

    async def _spdy(
        self, kind: str, request: Any, offered: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        known = spdy_streams.FORWARD_PROTOCOLS if kind == "portforward" else spdy_streams.EXEC_PROTOCOLS
        chosen = next((name for name in known if name in offered.replace(" ", "").split(",")), "")
        if not chosen:
            await _refuse(writer, HTTPStatus.FORBIDDEN, f"offer one of the stream protocols {', '.join(known)}")
            return
        head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        writer.write(f"{head}X-Stream-Protocol-Version: {chosen}\r\n\r\n".encode())

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        session = spdy.Session(lambda: reader.read(_READ), write)
        if kind == "portforward":
            await spdy_streams.port_forward(self._core, request.pod_sandbox_id, session)
            return
        carrier = spdy_streams.SpdyCarrier(session)
        try:
            tty = request.tty if kind == "exec" else self._core.container(request.container_id).config.tty
            await carrier.open(request, tty=tty)
            await self._carry(kind, request, carrier)
        finally:
            await carrier.close()

    async def _carry(self, kind: str, request: Any, carrier: Carrier) -> None:
        try:
            if kind == "exec":
                session = await self._execs.start(request.container_id, list(request.cmd), stdin=request.stdin, tty=request.tty)
            else:
                session = await self._execs.attach(request.container_id, stdin=request.stdin)
        except (CriError, KeeperError) as error:
            await carrier.finish(failure(str(error)))
            return
        code: int | None = None
        try:
            code = await self._run(kind, request, session, carrier)
        except ConnectionError:
            pass  # Nobody is left to be told.
        finally:
            if kind == "exec" and code is None:
                await self._execs.kill(session)
            session.close()
        if code is not None:
            with contextlib.suppress(ConnectionError):
                await carrier.finish(exit_status(code))

    async def _run(self, kind: str, request: Any, session: Session, carrier: Carrier) -> int | None:
        """Carry both ways until the process has ended (its exit code) or the client has gone (None)."""

        def sink(name: str) -> Sink:
            wanted = request.stdout if name == "stdout" else request.stderr

            async def send(data: bytes) -> None:
                if wanted:
                    await carrier.send(name, data)

            return send

        pump = asyncio.create_task(self._execs.pump(session, {name: sink(name) for name in session.outputs}))
        feed = asyncio.create_task(self._feed(kind, request, session, carrier))
        try:
            await asyncio.wait({pump, feed}, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                return None
            try:
                await pump
            except ExceptionGroup as group:
                if group.subgroup(ConnectionError):
                    return None
                raise
            return await session.exited if kind == "exec" else 0
        finally:
            for task in (pump, feed):
                task.cancel()
            await asyncio.gather(pump, feed, return_exceptions=True)

    async def _feed(self, kind: str, request: Any, session: Session, carrier: Carrier) -> None:
        """What the client sends, until it has gone."""
        while True:
            message = await carrier.receive()
            if message is None:
                break
            what, data = message
            if what == "resize":
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    size = json.loads(data)
                    session.resize(int(size["Width"]), int(size["Height"]))
            elif not data:
                await self._stdin_ended(kind, request, session)
            elif request.stdin:
                await session.write(data)
        await self._stdin_ended(kind, request, session)

    async def _stdin_ended(self, kind: str, request: Any, session: Session) -> None:
        session.close_stdin()
        if kind == "attach" and request.stdin and self._core.container(request.container_id).config.stdin_once:
            await self._execs.container_stdin_closed(request.container_id)


def exit_status(code: int) -> dict[str, Any]:
    """The Status that tells a client how its command ended."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500}


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    target = parts[1] if len(parts) > 1 else ""
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name = name.strip().lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return target.partition("?")[0], headers


async def _refuse(writer: asyncio.StreamWriter, status: HTTPStatus, text: str) -> None:
    body = (text + "\n").encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
