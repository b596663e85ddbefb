"""The supervisor's end of the control socket: see :mod:`.control`.

It is a module of its own because it needs asyncio, which the command line does without: importing it takes as long as making four certificates.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
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
