"""The store's client against a server that does what servers may do, and what they may not: frames by hand on a socket."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from kubeling.apiserver.storage import h2
from kubeling.apiserver.storage.rpc import Channel, Code, RpcError

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
Frame = tuple[int, int, int, bytes]
Answer = Callable[["Peer", Frame], Awaitable[None]]
#: ``:status 200`` from the static table.
OK = b"\x88"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def message(payload: bytes) -> bytes:
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def trailers(status: int, text: str = "") -> bytes:
    return literal(b"grpc-status", str(status).encode()) + (literal(b"grpc-message", text.encode()) if text else b"")


def answer(stream: int, payload: bytes) -> bytes:
    """A whole answer."""
    return frame(HEADERS, 4, stream, OK) + frame(DATA, 0, stream, message(payload)) + frame(HEADERS, 5, stream, trailers(0))


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[Frame] = []

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def take(self) -> Frame:
        size, flags, stream = struct.unpack(">IBI", await self.reader.readexactly(9))
        found = (size & 0xFF, flags, stream, await self.reader.readexactly(size >> 8))
        self.frames.append(found)
        return found


class Server:
    """Greets with `settings`, then gives each frame but those of the connection to `answer`."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.answer: Answer
        self.settings = b""
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await reader.readexactly(24)
            peer.send(frame(SETTINGS, 0, 0, self.settings))
            while True:
                found = await peer.take()
                if found[2] or found[0] in (PING, WINDOW):
                    await self.answer(peer, found)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has gone, which is how most tests end.
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listener.close()
        for each in made.peers:
            each.writer.close()


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[Channel]:
    made = Channel(server.url, None)
    try:
        yield made
    finally:
        await made.close()


async def call(channel: Channel, request: bytes = b"question", seconds: float = 20) -> bytes:
    return await channel.unary("/a.B/C", request, seconds)


async def test_answers_find_their_calls_in_any_order(server: Server, channel: Channel) -> None:
    async def later(peer: Peer, found: Frame) -> None:
        asked = [each for each in peer.frames if each[0] == DATA]
        if len(asked) == 3:
            peer.send(*(answer(each[2], each[3][5:].upper()) for each in reversed(asked)))

    server.answer = later
    assert await asyncio.gather(*(call(channel, each) for each in (b"a", b"b", b"c"))) == [b"A", b"B", b"C"]
    assert len(server.peers) == 1


async def test_header_blocks_and_data_come_in_pieces_and_padded(server: Server, channel: Channel) -> None:
    async def odd(peer: Peer, found: Frame) -> None:
        if found[0] == DATA:
            padded = b"\3" + message(b"answer")[:4] + b"\0\0\0"
            peer.send(frame(HEADERS, 4 | 8 | 32, found[2], b"\2" + bytes(5) + OK + b"\0\0"), frame(DATA, 8, found[2], padded))
            peer.send(frame(DATA, 0, found[2], message(b"answer")[4:]), frame(77, 0, found[2], b"of a kind that nobody knows"))
            whole = trailers(0)
            peer.send(frame(HEADERS, 1, found[2], whole[:5]), frame(CONTINUATION, 4, found[2], whole[5:]))

    server.answer = odd
    assert await call(channel) == b"answer"


async def test_sends_no_more_than_the_windows_allow(server: Server, channel: Channel) -> None:
    server.settings = struct.pack(">HIHI", 4, 10, 5, 16_384)
    got: list[bytes] = []

    async def slowly(peer: Peer, found: Frame) -> None:
        if found[0] != DATA:
            return
        got.append(found[3])
        assert len(found[3]) <= 10
        if found[1] & 1:
            peer.send(answer(found[2], b"".join(got)[5:]))
        else:
            peer.send(frame(WINDOW, 0, found[2], struct.pack(">I", len(found[3]))))

    server.answer = slowly
    assert await call(channel, b"x" * 95) == b"x" * 95
    assert len(got) == 10


async def test_room_is_given_back_for_what_was_taken(server: Server, channel: Channel) -> None:
    piece = b"y" * 16_000
    count = h2.STREAM_WINDOW // len(piece) + 10
    sizes = {0: 65_535, 1: h2.STREAM_WINDOW}

    async def much(peer: Peer, found: Frame) -> None:
        if found[0] == WINDOW:
            sizes[found[2]] += struct.unpack(">I", found[3])[0]
        if found[0] != DATA:
            return
        peer.send(frame(HEADERS, 4, 1, OK), frame(DATA, 0, 1, b"\0" + (count * len(piece)).to_bytes(4, "big")))
        for _ in range(count):
            while min(sizes.values()) < len(piece):
                kind, _, stream, payload = await peer.take()
                if kind == WINDOW:
                    sizes[stream] += struct.unpack(">I", payload)[0]
            peer.send(frame(DATA, 0, 1, piece))
            await peer.writer.drain()
            sizes[0] -= len(piece)
            sizes[1] -= len(piece)
        peer.send(frame(HEADERS, 5, 1, trailers(0)))

    server.answer = much
    assert len(await call(channel)) == count * len(piece)


@pytest.mark.parametrize(
    ("frames", "code", "sent"),
    [
        ((HEADERS, 5, OK + trailers(11, "etcdserver: mvcc: required revision%20has been compacted")), Code.OUT_OF_RANGE, True),
        ((RST, 0, struct.pack(">I", 7)), Code.UNAVAILABLE, False),
        ((RST, 0, struct.pack(">I", 2)), Code.UNAVAILABLE, True),
        ((HEADERS, 5, b"\x8d"), Code.UNKNOWN, True),
    ],
)
async def test_failures(server: Server, channel: Channel, frames: tuple[int, int, bytes], code: Code, sent: bool) -> None:
    async def refuse(peer: Peer, found: Frame) -> None:
        if found[0] == DATA:
            peer.send(frame(frames[0], frames[1], found[2], frames[2]))

    server.answer = refuse
    with pytest.raises(RpcError) as caught:
        await call(channel)
    assert (caught.value.code, caught.value.sent) == (code, sent)
    assert "%20" not in caught.value.details


async def test_what_a_server_that_goes_has_not_begun_is_known_to_be_undone(server: Server, channel: Channel) -> None:
    async def go(peer: Peer, found: Frame) -> None:
        asked = [each for each in peer.frames if each[0] == DATA]
        if len(server.peers) == 2:
            peer.send(answer(found[2], b"of the next")) if found[0] == DATA else None
        elif len(asked) == 2:
            peer.send(frame(GOAWAY, 0, 0, struct.pack(">II", asked[0][2], 0)), answer(asked[0][2], b"the last"))

    server.answer = go
    first, second = await asyncio.gather(call(channel), call(channel), return_exceptions=True)
    assert first == b"the last"
    assert isinstance(second, RpcError)
    assert not second.sent
    assert await call(channel) == b"of the next"


async def test_the_end_of_a_connection_leaves_the_outcome_open(server: Server, channel: Channel) -> None:
    async def hang_up(peer: Peer, found: Frame) -> None:
        if found[0] == DATA:
            peer.writer.close()

    server.answer = hang_up
    with pytest.raises(RpcError) as caught:
        await call(channel)
    assert (caught.value.code, caught.value.sent) == (Code.UNAVAILABLE, True)


async def test_nobody_there_is_certainly_nothing_done() -> None:
    channel = Channel("http://127.0.0.1:1", None)
    for _ in range(2):
        with pytest.raises(RpcError) as caught:
            await call(channel)
        assert (caught.value.code, caught.value.sent) == (Code.UNAVAILABLE, False)
    await channel.close()


async def test_a_deadline_ends_the_stream(server: Server, channel: Channel) -> None:
    ended = asyncio.Event()

    async def never(peer: Peer, found: Frame) -> None:
        if found[0] == RST:
            ended.set()

    server.answer = never
    with pytest.raises(RpcError) as caught:
        await call(channel, seconds=0.2)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 20)


async def test_a_dead_server_is_noticed(server: Server, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2, "PING_SECONDS", 0.1)
    monkeypatch.setattr(h2, "PONG_SECONDS", 0.1)

    async def silent(peer: Peer, found: Frame) -> None:
        """Reads all and says nothing."""

    server.answer = silent
    stream = await channel.stream("/a.B/Watch", 20)
    with pytest.raises(RpcError, match="pings"):
        await asyncio.wait_for(stream.read(), 20)


async def test_a_server_that_breaks_the_protocol_is_left(server: Server, channel: Channel) -> None:
    async def broken(peer: Peer, found: Frame) -> None:
        if found[0] == DATA:
            peer.send(frame(HEADERS, 0, found[2], OK), frame(DATA, 1, found[2], b"in the middle of a header block"))

    server.answer = broken
    with pytest.raises(RpcError, match="broke the protocol"):
        await call(channel)


async def test_messages_both_ways_until_the_end(server: Server, channel: Channel) -> None:
    async def echo(peer: Peer, found: Frame) -> None:
        if found[0] == HEADERS:
            peer.send(frame(HEADERS, 4, found[2], OK))
        elif found[0] == DATA and found[3][5:] == b"end":
            peer.send(frame(HEADERS, 5, found[2], trailers(0)))
        elif found[0] == DATA:
            # Two messages in one frame, and the beginning of a third.
            peer.send(
                frame(DATA, 0, found[2], found[3] * 2 + message(b"third")[:3]), frame(DATA, 0, found[2], message(b"third")[3:])
            )

    server.answer = echo
    stream = await channel.stream("/a.B/Watch", 20, ("hasleader", "true"))
    stream.send(b"again")
    assert [await stream.read() for _ in range(3)] == [b"again", b"again", b"third"]
    stream.send(b"end")
    assert await stream.read() is None
