"""Exchanges on kept connections, against a server that does what real ones do and should not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kubeling.client import wire
from kubeling.client.wire import BrokenOff, NotSent, Wire, origin_of, target_of

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[tuple[Wire, str, list[int]]]:
    """(a Wire, the URL of a server that does `serve` to each connection, a list with an entry for each of those)."""
    connections: list[int] = []
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        writers.append(writer)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has gone, as it may.
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made = Wire(None, headers=[("user-agent", "test")])
    try:
        yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    finally:
        await made.close()
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its own body, in chunks."""
    while True:
        head = await head_of(reader)
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0)
        body = await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nX-Head: " + head.split(b"\r\n")[0] + b"\r\n\r\n")
        for at in range(0, len(body), 3):
            piece = body[at : at + 3]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


async def test_requests_after_one_another_share_a_connection() -> None:
    async with served(echo) as (made, url, connections):
        for number in range(5):
            body = b"hello %d" % number
            answer = await made.request(url, "POST", "/a b", {"x": "1 2"}, {"content-type": "text/plain"}, body)
            assert (answer.status_code, answer.content) == (200, body)
            assert answer.values("x-head") == ["POST /a%20b?x=1%202 HTTP/1.1"]
        assert len(connections) == 1


async def test_requests_at_once_have_connections_of_their_own_which_are_kept() -> None:
    async with served(echo) as (made, url, connections):
        for _ in range(2):
            bodies = [b"%d" % number * 100 for number in range(10)]
            answers = await asyncio.gather(*(made.request(url, "PUT", "/", {}, {}, body) for body in bodies))
            assert [each.content for each in answers] == bodies
        assert len(connections) == 10


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    closed = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        closed.set()

    async with served(once) as (made, url, connections):
        for number in range(3):
            closed.clear()
            assert (await made.request(url, "GET", "/", {}, {}, None)).status_code == 204
            await closed.wait()
            await asyncio.sleep(0.05)  # The end travels through the kernel.
            assert len(connections) == number + 1


async def test_an_interim_answer_is_not_the_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 429 Slow\r\nRetry-After: 2\r\ncontent-length: 4\r\n\r\nwait"
        )
        await head_of(reader)

    async with served(serve) as (made, url, _):
        answer = await made.request(url, "GET", "/", {}, {}, None)
        assert (answer.status_code, answer.values("retry-after"), answer.content) == (429, ["2"], b"wait")


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\ncont", b"SSH-2.0-x\r\n\r\n"]
)
async def test_an_exchange_that_breaks_off_is_not_taken_for_one_that_never_began(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(said)

    async with served(serve) as (made, url, _):
        with pytest.raises(BrokenOff):
            await made.request(url, "PUT", "/", {}, {}, b"")


async def test_where_nobody_listens_nothing_was_sent() -> None:
    async with served(echo) as (made, url, _):
        pass
    with pytest.raises(NotSent):
        await made.request(url, "POST", "/", {}, {}, b"{}")


async def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with served(serve) as (made, url, _):
        with pytest.raises(BrokenOff, match="said nothing"):
            await made.request(url, "GET", "/", {}, {}, None)


async def test_the_answer_to_who_was_cancelled_is_not_given_to_the_next() -> None:
    go, arrived = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await head_of(reader)
            if b"/slow" in head:
                arrived.set()
                await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + (b"slow!" if b"/slow" in head else b"quick"))

    async with served(serve) as (made, url, connections):
        slow = asyncio.create_task(made.request(url, "GET", "/slow", {}, {}, None))
        await arrived.wait()
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        go.set()
        assert (await made.request(url, "GET", "/", {}, {}, None)).content == b"quick"
        assert len(connections) == 2


def test_targets() -> None:
    origin = origin_of("https://user@[::1]:6443/cluster/a/")
    assert (origin.host, origin.port, origin.tls, origin.netloc) == ("::1", 6443, True, "[::1]:6443")
    assert target_of(origin, "/api/v1/nodes/ä%2f", {"labelSelector": "a=b,c in (d)"}) == (
        b"/cluster/a/api/v1/nodes/%C3%A4%2f?labelSelector=a%3Db%2Cc%20in%20%28d%29"
    )
    assert target_of(origin_of("http://h"), "/x?y=1", {"z": "2"}) == b"/x?y=1&z=2"


async def test_a_header_cannot_smuggle_another() -> None:
    async with served(echo) as (made, url, _):
        with pytest.raises(ValueError, match="line break"):
            await made.request(url, "GET", "/", {}, {"x": "a\r\nevil: b"}, None)


async def test_a_header_of_the_request_takes_the_place_of_the_default() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await head_of(reader))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with served(serve) as (made, url, _):
        await made.request(url, "GET", "/", {}, {"User-Agent": "mine"}, None)
        await made.request(url, "GET", "/", {}, {}, None)
    agents = [[line for line in head.split(b"\r\n") if line.startswith(b"user-agent")] for head in heads]
    assert agents == [[b"user-agent: mine"], [b"user-agent: test"]]
