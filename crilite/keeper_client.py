"""The daemon's side of the keeper: requests with answers, events, and a new keeper when the old one has died."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from kubeling.crilite import keeper_process
from kubeling.crilite.held import short_path
from kubeling.crilite.switchboard import MAX_MESSAGE
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("crilite.keeper")

_START_SECONDS = 20.0


class KeeperError(Exception):
    """The keeper could not do what it was asked; `code` is the exit code to report where it was to start something."""

    def __init__(self, message: str, code: int = 128, kind: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind


class KeeperGone(KeeperError):
    """The keeper died while it was asked."""


def try_connect(state: str) -> socket.socket | None:
    """A connection to the keeper of `state`, or None where none listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        with short_path(state) as folder:
            sock.connect(f"{folder}/keeper.sock")
    except OSError:
        sock.close()
        return None
    return sock


class KeeperClient:
    """Call :meth:`connect` first; then :meth:`run` keeps the connection alive until it is cancelled.

    `on_lost` is called when a keeper has died, before any request can reach the next one: what was running in its hands is lost, what is
    asked from then on is not.
    """

    def __init__(self, state: str, on_event: Callable[[dict[str, Any]], None], on_lost: Callable[[], None]) -> None:
        self._state = state
        self._on_event = on_event
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._next = 0
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._lost = asyncio.Event()
        self._connected = asyncio.Event()

    async def connect(self) -> dict[str, int]:
        """Connect, starting a keeper where there is none; the containers that it holds, with their pids."""
        held = await self._dial()
        self._connected.set()
        return held

    async def _dial(self) -> dict[str, int]:
        sock = try_connect(self._state)
        if sock is None:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.to_thread(lambda: keeper_process.Start(self._state).wait())
            sock = try_connect(self._state)
            if sock is None:
                raise KeeperError(f"the keeper does not come up; see {self._state}/keeper.log")
        sock.setblocking(False)
        self._socket = sock
        self._lost.clear()
        asyncio.get_running_loop().add_reader(sock, self._receive)
        answer, _ = await self._ask("hello")
        held: dict[str, int] = answer["held"]
        return held

    async def run(self, on_reconnect: Callable[[dict[str, int]], None]) -> None:
        """Whenever the keeper dies, start another and tell `on_reconnect` what it has taken over, before others may ask it for anything."""
        backoff = Backoff(base=0.05, limit=5)
        try:
            while True:
                await self._lost.wait()
                log.warning("the keeper has died; starting another")
                try:
                    held = await self._dial()
                except (KeeperError, OSError, TimeoutError) as error:
                    log.error("no keeper", error=error)
                    await asyncio.sleep(backoff.next())
                    continue
                backoff.reset()
                on_reconnect(held)
                self._connected.set()
        finally:
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._connected.clear()

    async def request(self, op: str, fds: Sequence[int] = (), **values: Any) -> tuple[dict[str, Any], list[int]]:
        """The answer and the descriptors that came with it. Raises KeeperError."""
        if not self._connected.is_set():
            # Another one is being started, see run().
            try:
                async with asyncio.timeout(_START_SECONDS):
                    await self._connected.wait()
            except TimeoutError:
                raise KeeperGone("the keeper is not running") from None
        return await self._ask(op, fds, **values)

    def tell(self, op: str, **values: Any) -> None:
        """As :meth:`request`, of which nobody needs the answer, nor to know whether it was heard."""
        if self._socket is not None:
            self._next += 1
            with contextlib.suppress(OSError):
                self._socket.send(json.dumps({"id": self._next, "op": op, **values}).encode())

    async def _ask(self, op: str, fds: Sequence[int] = (), **values: Any) -> tuple[dict[str, Any], list[int]]:
        self._next += 1
        number = self._next
        data = json.dumps({"id": number, "op": op, **values}).encode()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = loop.create_future()
        self._waiting[number] = future
        try:
            await self._send(data, fds)
            answer, back = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            raise KeeperError(answer["error"], int(answer.get("code", 128)), str(answer.get("kind", "")))
        return answer, back

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        for _ in range(1000):
            if self._socket is None:
                raise KeeperGone("the keeper is not running")
            try:
                socket.send_fds(self._socket, [data], list(fds))
                return
            except BlockingIOError:
                # Its queue is full: it is working through what we sent before.
                writable = asyncio.Event()
                loop = asyncio.get_running_loop()
                loop.add_writer(self._socket, writable.set)
                try:
                    await writable.wait()
                finally:
                    if self._socket is not None:
                        loop.remove_writer(self._socket)
            except OSError as error:
                raise KeeperGone(f"the keeper is gone: {error}") from error
        raise KeeperError("the keeper does not read")

    def _receive(self) -> None:
        assert self._socket is not None
        while self._socket is not None:
            try:
                data, fds, _flags, _address = socket.recv_fds(self._socket, MAX_MESSAGE, 8)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._disconnected()
                return
            message = json.loads(data)
            future = self._waiting.get(message.get("id", -1))
            if future is not None and not future.done():
                future.set_result((message, fds))
                continue
            for fd in fds:
                os.close(fd)
            if "event" in message:
                try:
                    self._on_event(message)
                except Exception:
                    log.exception("an event of the keeper could not be handled", kind=message["event"])

    def _disconnected(self) -> None:
        self.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(KeeperGone("the keeper died"))
        self._on_lost()
        with contextlib.suppress(RuntimeError):
            self._lost.set()
