"""The control socket of a cluster: one JSON object a line each way, over a Unix socket that only its owner may open.

A request is ``{"op": NAME, …}``. Answers are ``{"ok": true, …}`` or ``{"ok": false, "error": TEXT}``, after any number of ``{"step": …}`` lines
where the operation reports its progress. A connection carries one request at a time, as many as one likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from kubeling.cluster.state import ClusterError
from kubeling.daemon.log import get_logger
from kubeling.daemon.unixpath import short_path

log = get_logger("cluster.control")

MAX_LINE = 1024 * 1024
MAX_CONNECTIONS = 64
#: How long `close` waits for what is still being answered.
CLOSE_SECONDS = 1.0

Progress = Callable[[dict[str, Any]], None]
Handler = Callable[[dict[str, Any], Progress], Awaitable[dict[str, Any]]]


class ControlServer:
    """Serves operations by name, until closed."""

    def __init__(self, path: Path, handlers: dict[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._adopted: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind the socket; one that a dead supervisor left is replaced."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short_path(self._path.parent) as folder:
            before = os.umask(0o177)
            try:
                sock.bind(f"{folder}/{self._path.name}")
            finally:
                os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=MAX_LINE)

    async def adopt(self, sock: socket.socket) -> asyncio.Task[None]:
        """Serve a connection that somebody else made; the task ends with it."""
        reader, writer = await asyncio.open_connection(sock=sock, limit=MAX_LINE)
        self._adopted = asyncio.create_task(self._serve(reader, writer), name="control/adopted")
        return self._adopted

    async def close(self) -> None:
        """Stop listening, hang up, and take the socket away."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.close()
        if self._open:
            await asyncio.wait(list(self._open.values()), timeout=CLOSE_SECONDS)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            while line := await reader.readline():
                answer = await self._answer(line, lambda step: _write(writer, step))
                _write(writer, answer)
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # The client hung up, or sent a line without end: there is nobody to answer.
        finally:
            del self._open[writer]
            writer.close()

    async def _answer(self, line: bytes, progress: Progress) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self._handlers.get(request["op"])
        except (ValueError, KeyError, TypeError):
            return {"ok": False, "error": "not a request: a line with a JSON object that has an `op`"}
        if handler is None:
            return {"ok": False, "error": f"unknown operation {request['op']!r}"}
        try:
            return {"ok": True, **await handler(request, progress)}
        except ClusterError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:
            log.exception("an operation failed", op=request["op"])
            return {"ok": False, "error": f"{request['op']} failed: {error}"}


def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


class Control:
    """The client side, blocking: a command line needs no event loop for it. `sock` is a connection that is there already."""

    def __init__(self, root: Path, timeout: float | None = 120.0, sock: socket.socket | None = None) -> None:
        self._root = root
        self._socket = sock or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        if sock is None:
            self._connect()
        self._file = self._socket.makefile("rb")

    def _connect(self) -> None:
        root = self._root
        try:
            with short_path(root) as folder:
                self._socket.connect(f"{folder}/control.sock")
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise ClusterError(
                f"the cluster {root.name!r} does not answer (its supervisor is not running): "
                f"`kubeling up --name {root.name}` boots it again, `kubeling down --name {root.name}` removes it"
            ) from error

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def messages(self, op: str, **values: Any) -> Iterator[dict[str, Any]]:
        """Send a request and yield what comes back, the answer last. Raises ClusterError where the answer is a refusal."""
        try:
            self._socket.sendall(json.dumps({"op": op, **values}).encode() + b"\n")
            while line := self._file.readline():
                message: dict[str, Any] = json.loads(line)
                if message.get("ok") is False:
                    raise ClusterError(str(message["error"]))
                yield message
                if "ok" in message:
                    return
        except TimeoutError as error:
            raise ClusterError(
                f"the supervisor of {self._root.name!r} has not answered {op!r} in time: see {self._root}/logs"
            ) from error
        except ConnectionError:
            pass  # As with a plain end: the supervisor is gone.
        raise ClusterError(
            f"the supervisor of {self._root.name!r} ended while it was asked to {op}: see {self._root}/logs/supervisor.log"
        )

    def call(self, op: str, **values: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        answer: dict[str, Any] = {}
        for message in self.messages(op, **values):
            answer = message
        return answer
