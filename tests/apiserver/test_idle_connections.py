"""How long a connection may be idle: one that was used longer than one that never was."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kubeling.apiserver import server
from kubeling.apiserver.server import Server


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    assert scope["state"]["connection"].reply(send, 200, [(b"content-type", b"text/plain")], b"fine")


async def test_a_used_connection_outlives_one_that_was_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_FIRST_REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 30)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    serving = Server(app, None, None)
    await serving.start([listener])
    try:
        address = listener.getsockname()
        used, unused = [await asyncio.open_connection(*address) for _ in range(2)]
        request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        for _ in range(2):
            used[1].write(request)
            head = await asyncio.wait_for(used[0].readuntil(b"\r\n\r\n"), 20)
            assert head == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\n"
            assert await used[0].readexactly(4) == b"fine"
            # The one that never asked anything is closed; by then the other has been looked at as well.
            assert await asyncio.wait_for(unused[0].read(), 20) == b""
        for _, writer in (used, unused):
            writer.close()
    finally:
        await serving.stop(1)
