"""What Kubernetes does with SPDY streams: exec and attach, with a stream for each of stdin, stdout, stderr, terminal size and final status; and
port-forward, with a pair of streams for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from kubeling.crilite import forward
from kubeling.crilite.core import Core
from kubeling.crilite.spdy import Session, Stream

EXEC_PROTOCOLS = ("v4.channel.k8s.io",)
FORWARD_PROTOCOLS = ("portforward.k8s.io",)
_OPEN_SECONDS = 30.0


class SpdyCarrier:
    """An exec or attach in a SPDY connection; see :class:`kubeling.crilite.streaming.Carrier`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._streams: dict[str, Stream] = {}
        self._messages: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(16)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, request: Any, *, tty: bool) -> None:
        """Wait until the client has opened all that the request asks for. A ConnectionError if it does not."""
        wanted = {"error"} | {name for name in ("stdin", "stdout", "stderr") if getattr(request, name)}
        if tty:
            wanted.add("resize")
        self._tasks.append(asyncio.create_task(self._session.run()))
        async with asyncio.timeout(_OPEN_SECONDS):
            while wanted - set(self._streams):
                stream = await self._session.accept()
                if stream is None:
                    raise ConnectionResetError("the client has gone")
                self._streams[stream.headers.get("streamtype", "")] = stream
        for name, read in (("stdin", self._read_stdin), ("resize", self._read_sizes)):
            if name in self._streams:
                self._tasks.append(asyncio.create_task(read(self._streams[name])))
        self._tasks.append(asyncio.create_task(self._watch_client()))

    async def _watch_client(self) -> None:
        await asyncio.wait(self._tasks[:1])
        await self._messages.put(None)

    async def _read_stdin(self, stream: Stream) -> None:
        while data := await stream.read():
            await self._messages.put(("stdin", data))
        await self._messages.put(("stdin", b""))

    async def _read_sizes(self, stream: Stream) -> None:
        """JSON objects, one after another, cut anywhere."""
        decoder, text = json.JSONDecoder(), ""
        while data := await stream.read():
            text += data.decode("utf-8", "replace")
            with contextlib.suppress(json.JSONDecodeError):
                while text.strip():
                    size, end = decoder.raw_decode(text.lstrip())
                    text = text.lstrip()[end:]
                    await self._messages.put(("resize", json.dumps(size).encode()))
            text = text[-4096:]

    async def receive(self) -> tuple[str, bytes] | None:
        return await self._messages.get()

    async def send(self, stream: str, data: bytes) -> None:
        if stream in self._streams:
            await self._streams[stream].write(data)

    async def finish(self, status: dict[str, Any]) -> None:
        for name in ("stdout", "stderr"):
            if name in self._streams:
                await self._streams[name].close()
        if "error" in self._streams:
            await self._streams["error"].write(json.dumps(status).encode())
            await self._streams["error"].close()
        # The client has read everything when it closes its side; one that does not is not waited for.
        await asyncio.wait(self._tasks[:1], timeout=2)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def port_forward(core: Core, sandbox_id: str, session: Session) -> None:
    """Serve connections until the client goes: each is a stream for errors and one for data, which name their port and a request."""
    sandbox = core.sandbox(sandbox_id)
    halves: dict[str, dict[str, Stream]] = {}
    tasks = {asyncio.create_task(session.run())}
    try:
        while (stream := await session.accept()) is not None:
            key = stream.headers.get("requestid", "")
            pair = halves.setdefault(key, {})
            pair[stream.headers.get("streamtype", "")] = stream
            if "data" in pair and "error" in pair:
                del halves[key]
                task = asyncio.create_task(_forward(core, sandbox, session, pair["data"], pair["error"]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
    finally:
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(core: Core, sandbox: Any, session: Session, data: Stream, error: Stream) -> None:
    port = data.headers.get("port", "")
    try:
        try:
            reader, writer = await forward.connect(core, sandbox, int(port))
        except (OSError, TimeoutError, ValueError) as failure:
            await error.write(f"cannot connect to port {port} of the pod: {failure}".encode())
            return
        try:
            await _both_ways(reader, writer, data)
        finally:
            writer.close()
    except ConnectionError:
        pass  # The client has gone, and with it whoever could be told.
    finally:
        with contextlib.suppress(ConnectionError):
            await data.close()
            await error.close()
        session.forget(data)
        session.forget(error)


async def _both_ways(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: Stream) -> None:
    async def up() -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await data.read():
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    upward = asyncio.create_task(up())
    try:
        while chunk := await reader.read(32 * 1024):
            await data.write(chunk)
    finally:
        upward.cancel()
        await asyncio.gather(upward, return_exceptions=True)
