"""The client port as a peer that speaks raw HTTP/2 sees it: the points of RFC 9113 that matter, and clients that mean harm."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hpack import Decoder, Encoder

from kubeling.etcdlite.transport import frames as h2
from kubeling.proto import etcd_pb2 as pb

from .members import Member, single
from .test_service import resident

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
WATCH = "/etcdserverpb.Watch/Watch"


def message(raw: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(raw)) + raw


def put(value: bytes = b"v", key: bytes = b"k") -> bytes:
    return message(pb.PutRequest(key=key, value=value).SerializeToString())


class Wire:
    """A raw connection: frames out, frames in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = Encoder(), Decoder()

    def block(self, path: str, **more: str) -> bytes:
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        return self.encoder.encode(fields + [(name.replace("_", "-"), value) for name, value in more.items()])

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def request(self, number: int, path: str, body: bytes | None, *, end: bool = True, **more: str) -> None:
        self.send(h2.frame(h2.HEADERS, h2.END_HEADERS, number, self.block(path, **more)))
        if body is not None:
            self.send(h2.frame(h2.DATA, h2.END_STREAM if end else 0, number, body))

    async def frame(self) -> tuple[int, int, int, bytes]:
        async with asyncio.timeout(10):
            first, flags, number = h2.HEAD.unpack(await self.reader.readexactly(9))
            return first & 255, flags, number, await self.reader.readexactly(first >> 8)

    async def next(self, kind: int) -> tuple[int, int, bytes]:
        """The next frame of a kind; others are skipped."""
        while True:
            found, flags, number, payload = await self.frame()
            if found == h2.HEADERS:
                self.fields = dict(self.decoder.decode(payload))
            if found == kind:
                return flags, number, payload

    async def status(self, number: int) -> tuple[str, str]:
        """gRPC's status and message of a stream."""
        while True:
            flags, found, _ = await self.next(h2.HEADERS)
            if found == number and flags & h2.END_STREAM:
                return self.fields["grpc-status"], self.fields.get("grpc-message", "")

    async def goaway(self) -> tuple[int, str]:
        """The code and the reason with which the server hangs up, and that it does."""
        _, _, payload = await self.next(h2.GOAWAY)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass
        return int.from_bytes(payload[4:8], "big"), payload[8:].decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def member(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Member]:
    async with single(tmp_path_factory.mktemp("transport")) as running:
        yield running


pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("transport")]


@contextlib.asynccontextmanager
async def wire(member: Member, settings: dict[int, int] | None = None, *, greet: bool = True) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", member.port)
    made = Wire(reader, writer)
    if greet:
        made.send(h2.PREFACE, h2.settings(settings or {}))
    try:
        yield made
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_call_may_come_in_any_pieces(member: Member) -> None:
    async with wire(member) as one:
        body = put()
        block = one.block(PUT, x_padding="y" * 300)
        # Padded, with a priority, the block in three frames, the message in single bytes.
        head = b"\x05" + struct.pack(">IB", 0, 16) + block[:100] + bytes(5)
        data = h2.frame(h2.HEADERS, h2.PADDED | h2.PRIORITIZED, 1, head)
        data += h2.frame(h2.CONTINUATION, 0, 1, block[100:200])
        data += h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, block[200:])
        data += b"".join(h2.frame(h2.DATA, h2.PADDED, 1, b"\x03" + body[at : at + 1] + bytes(3)) for at in range(len(body)))
        data += h2.frame(h2.DATA, h2.END_STREAM, 1)
        for at in range(len(data)):
            one.send(data[at : at + 1])
            await one.writer.drain()
        assert await one.status(1) == ("0", "")
        # Trailers of the request end it too; unknown frames and PRIORITY are ignored.
        one.request(3, PUT, body, end=False)
        one.send(h2.frame(0xBB, 0xFF, 3, b"?"), h2.frame(h2.PRIORITY, 0, 3, struct.pack(">IB", 1, 1)))
        one.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 3, one.encoder.encode([("x-check", "sum")])))
        assert await one.status(3) == ("0", "")


async def test_repeated_headers_are_recognised_and_changed_ones_are_not_mistaken(member: Member) -> None:
    async with wire(member) as one:
        for number in range(1, 41, 2):
            # Each third call adds to the table, so that all the references before it mean something else.
            more = {"x_new": f"value-{number}"} if number % 3 == 0 else {}
            one.request(number, PUT if number % 4 == 1 else RANGE, put(b"") if number % 4 == 1 else message(b"\x0a\x01k"), **more)
            _, found, payload = await one.next(h2.DATA)
            assert found == number
            answer = pb.RangeResponse.FromString(payload[5:])
            assert len(answer.kvs) == (0 if number % 4 == 1 else 1)


async def test_errors_of_calls_are_statuses(member: Member) -> None:
    async with wire(member) as one:
        one.request(1, "/etcdserverpb.KV/Nothing", put())
        assert await one.status(1) == ("12", "unknown method Nothing for service etcdserverpb.KV")
        one.request(3, PUT, message(b""))
        assert await one.status(3) == ("3", "etcdserver: key is not provided")
        one.request(5, PUT, b"\0\0\0\0")
        assert (await one.status(5))[0] == "13"
        one.request(7, PUT, struct.pack(">BI", 0, 3 << 20) + b"x" * 100, end=False)
        assert await one.status(7) == ("8", "grpc: received message larger than max (3145728 vs. 2097152)")
        one.request(9, PUT, message(gzip.compress(put()[5:]), 1), grpc_encoding="gzip")
        assert await one.status(9) == ("0", "")
        one.request(11, PUT, message(gzip.compress(bytes(3 << 20)), 1), grpc_encoding="gzip")
        assert (await one.status(11))[0] == "8"
        one.request(13, PUT, message(b"x", 1), grpc_encoding="br")
        assert (await one.status(13))[0] == "12"
        one.request(
            15, WATCH, message(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")).SerializeToString()), end=False
        )
        assert (await one.next(h2.DATA))[1] == 15
        one.request(17, WATCH, None, grpc_timeout="50m")
        assert await one.status(17) == ("4", "context deadline exceeded")
        # A client that has half-closed still gets its events, as from etcd.
        one.send(h2.frame(h2.DATA, h2.END_STREAM, 15))
        one.request(19, PUT, put())
        assert {(await one.next(h2.DATA))[1] for _ in range(2)} == {15, 19}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (h2.frame(h2.DATA, 0, 1, b"x"), h2.PROTOCOL_ERROR),
        (h2.frame(h2.HEADERS, 4, 2, b"\x82"), h2.PROTOCOL_ERROR),
        (h2.frame(h2.HEADERS, 4, 0, b"\x82"), h2.PROTOCOL_ERROR),
        (h2.frame(h2.HEADERS, 4, 1, b"\xff\xff\xff\xff\x0f"), h2.COMPRESSION_ERROR),
        (h2.frame(h2.HEADERS, 4, 1, b"\x40\x7f"), h2.COMPRESSION_ERROR),
        (h2.frame(h2.HEADERS, 0, 1, b"\x82") + h2.frame(h2.PING, 0, 0, bytes(8)), h2.PROTOCOL_ERROR),
        (h2.frame(h2.HEADERS, 8, 1, b"\x09\x82"), h2.PROTOCOL_ERROR),
        (h2.frame(h2.CONTINUATION, 4, 1, b"\x82"), h2.PROTOCOL_ERROR),
        (h2.frame(h2.PING, 0, 0, b"x"), h2.FRAME_SIZE_ERROR),
        (h2.frame(h2.PING, 0, 1, bytes(8)), h2.PROTOCOL_ERROR),
        (h2.frame(h2.RST_STREAM, 0, 1, bytes(4)), h2.PROTOCOL_ERROR),
        (h2.frame(h2.RST_STREAM, 0, 1, b""), h2.FRAME_SIZE_ERROR),
        (h2.frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)), h2.PROTOCOL_ERROR),
        (h2.frame(h2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), h2.FLOW_CONTROL_ERROR),
        (h2.frame(h2.SETTINGS, 0, 0, b"x"), h2.FRAME_SIZE_ERROR),
        (h2.frame(h2.SETTINGS, 1, 0, bytes(6)), h2.FRAME_SIZE_ERROR),
        (h2.settings({h2.SETTING_MAX_FRAME_SIZE: 5}), h2.PROTOCOL_ERROR),
        (h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: 1 << 31}), h2.FLOW_CONTROL_ERROR),
        (h2.settings({h2.SETTING_ENABLE_PUSH: 2}), h2.PROTOCOL_ERROR),
        (h2.frame(h2.PUSH_PROMISE, 4, 1, bytes(5)), h2.PROTOCOL_ERROR),
        (h2.frame(h2.DATA, 0, 1, bytes(16_385)), h2.FRAME_SIZE_ERROR),
        (b"".join(h2.frame(h2.PING, 0, 0, bytes(8)) for _ in range(5)), h2.ENHANCE_YOUR_CALM),
        (h2.settings({}) * 2000, h2.ENHANCE_YOUR_CALM),
        (h2.frame(h2.HEADERS, 0, 1, b"\x82") + h2.frame(h2.CONTINUATION, 0, 1, b"\x82") * 100, h2.ENHANCE_YOUR_CALM),
        (h2.frame(h2.HEADERS, 0, 1, b"\x82") + h2.frame(h2.CONTINUATION, 0, 1, b"\x82" * 16_000) * 3, h2.ENHANCE_YOUR_CALM),
        (h2.frame(h2.HEADERS, 4, 1, b"\x40\x01a\x7f\xd9\x1d" + b"b" * 3928 + b"\xbe" * 100), h2.ENHANCE_YOUR_CALM),
    ],
)
async def test_what_breaks_the_rules_ends_the_connection_with_the_right_code(member: Member, bad: bytes, code: int) -> None:
    async with wire(member) as one:
        one.send(bad)
        assert (await one.goaway())[0] == code


async def test_the_first_frame_is_settings(member: Member) -> None:
    async with wire(member, greet=False) as one:
        one.send(h2.PREFACE, h2.frame(h2.PING, 0, 0, bytes(8)))
        assert (await one.goaway())[0] == h2.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "POST"), (":scheme", "http")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("connection", "close")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("Upper", "case")],
        [(":method", "POST"), (":scheme", "http"), ("te", "trailers"), (":path", PUT)],
        [(":method", "POST"), (":method", "POST"), (":scheme", "http"), (":path", PUT)],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), (":status", "200")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("te", "gzip")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("x", "a\nb")],
        [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("grpc-timeout", "forever")],
    ],
)
async def test_a_malformed_request_ends_its_stream_only(member: Member, fields: list[tuple[str, str]]) -> None:
    async with wire(member) as one:
        one.send(h2.frame(h2.HEADERS, h2.END_HEADERS, 1, one.encoder.encode(fields)))
        _, number, payload = await one.next(h2.RST_STREAM)
        assert (number, int.from_bytes(payload, "big")) == (1, h2.PROTOCOL_ERROR)
        one.request(3, PUT, put())
        assert await one.status(3) == ("0", "")


async def test_the_windows_of_the_client_are_respected(member: Member) -> None:
    value = bytes(random.Random(1).randbytes(100_000))
    await member.put(b"large", value)
    request = message(pb.RangeRequest(key=b"large").SerializeToString())
    async with wire(member, {h2.SETTING_INITIAL_WINDOW_SIZE: 10}) as one:
        one.request(1, RANGE, request)
        assert len((await one.next(h2.DATA))[2]) == 10
        one.request(3, PUT, put())  # Another stream is not held up by the first.
        got = b""
        one.send(h2.settings({h2.SETTING_INITIAL_WINDOW_SIZE: 70_000}))
        seen = {1: 10, 3: 0}
        while sum(seen.values()) < 65_535:
            _, number, payload = await one.next(h2.DATA)
            seen[number] += len(payload)
            assert len(payload) <= h2.MAX_FRAME
        # The window of the connection is used up, and the rest comes when it grows.
        assert sum(seen.values()) == 65_535
        one.send(h2.window_update(0, 100_000), h2.window_update(1, 100_000))
        while True:
            kind, flags, number, payload = await one.frame()
            if number == 1 and kind == h2.DATA:
                got += payload
            if number == 1 and kind == h2.HEADERS and flags & h2.END_STREAM:
                break
        assert seen[1] + len(got) > 100_000
        assert got.endswith(value[-1000:-100]) or value[-1000:] in got


async def test_a_client_that_overflows_our_windows_is_stopped(member: Member) -> None:
    async with wire(member) as one:
        one.request(1, WATCH, None)
        # Messages that nobody has read yet use up the window: the server cannot be made to hold more.
        chunk = h2.frame(h2.DATA, 0, 1, message(bytes(16_000)))
        one.send(*[chunk] * 70)
        async with asyncio.timeout(10):
            while True:
                kind, _, number, _ = await one.frame()
                if kind == h2.HEADERS or (kind == h2.RST_STREAM and number == 1):
                    break
        assert await _alive(member)


async def _alive(member: Member) -> bool:
    return await member.put(b"alive", b"yes") > 0


async def test_ten_thousand_streams_and_resets_cost_little_and_end(member: Member) -> None:
    before = resident(member.pid)
    async with wire(member) as one:
        watch = message(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"many")).SerializeToString())
        for number in range(1, 24_001, 2):
            one.request(number, WATCH, watch, end=False)
            if number % 1000 == 999:
                await one.writer.drain()
        refused = 0
        while refused < 2000:
            _, _, payload = await one.next(h2.RST_STREAM)
            assert int.from_bytes(payload, "big") == h2.REFUSED_STREAM
            refused += 1
        assert await _alive(member)
        assert resident(member.pid) - before < 200 << 20
    async with wire(member) as one:
        for number in range(1, 10_001, 2):
            one.request(number, WATCH, None)
            one.send(h2.reset(number, h2.CANCEL))
        with contextlib.suppress(ConnectionError):
            assert (await one.goaway())[0] == h2.ENHANCE_YOUR_CALM
    assert await _alive(member)


async def test_a_client_that_does_not_read_costs_bounded_memory(member: Member) -> None:
    await member.put(b"big", bytes(1 << 20))
    before = resident(member.pid)
    settings = {h2.SETTING_INITIAL_WINDOW_SIZE: h2.MAX_WINDOW}
    async with wire(member, settings) as one:
        one.send(h2.window_update(0, h2.MAX_WINDOW - 65_535))
        for number in range(1, 2001, 2):
            one.request(number, RANGE, message(pb.RangeRequest(key=b"big").SerializeToString()))
        await one.writer.drain()
        for _ in range(20):
            assert await _alive(member)
        assert resident(member.pid) - before < 80 << 20


async def test_noise_does_no_harm(member: Member) -> None:
    dice = random.Random(7)
    for round_ in range(150):
        async with wire(member, greet=round_ % 5 != 0) as one:
            good = h2.frame(h2.HEADERS, 4, 1, one.block(PUT)) + h2.frame(h2.DATA, 1, 1, put())
            noisy = bytearray(good * 3)
            for _ in range(dice.randrange(1, 20)):
                noisy[dice.randrange(len(noisy))] = dice.randrange(256)
            kind = dice.randrange(4)
            if kind == 0:
                noisy = bytearray(dice.randbytes(dice.randrange(1, 3000)))
            elif kind == 1:
                noisy = noisy[: dice.randrange(len(noisy))]
            elif kind == 2:
                for number in range(dice.randrange(1, 30)):
                    payload = dice.randbytes(dice.randrange(0, 40))
                    noisy += h2.frame(dice.randrange(12), dice.randrange(256), dice.choice([0, 1, 2, 3, number]), payload)
            with contextlib.suppress(ConnectionError):
                one.send(bytes(noisy))
                await one.writer.drain()
    assert await _alive(member)
    assert "Traceback" not in member.log
    assert "a call failed" not in member.log


async def test_a_stop_lets_calls_end_and_says_goodbye(tmp_path: Path) -> None:
    async with single(tmp_path) as member, wire(member) as one:
        one.request(
            1, WATCH, message(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")).SerializeToString()), end=False
        )
        await one.next(h2.DATA)
        member.signal(15)
        _, _, payload = await one.next(h2.GOAWAY)
        assert int.from_bytes(payload[4:8], "big") == h2.NO_ERROR
        assert await one.status(1) == ("14", "etcdserver: server stopped")
        assert await member.ended() == 0


async def test_the_limits_are_flags(tmp_path: Path) -> None:
    flags = [
        "--max-request-bytes=1000",
        "--max-concurrent-streams=2",
        "--grpc-keepalive-interval=100ms",
        "--grpc-keepalive-timeout=300ms",
    ]
    async with single(tmp_path, *flags) as member, wire(member) as one:
        one.request(1, PUT, put(bytes(1001)))
        assert await one.status(1) == ("3", "etcdserver: request is too large")
        for number in (3, 5, 7):
            one.request(number, WATCH, None)
        assert int.from_bytes((await one.next(h2.RST_STREAM))[2], "big") == h2.REFUSED_STREAM
        # A client that answers pings is kept, one that does not is not.
        for _ in range(3):
            flags_, _, payload = await one.next(h2.PING)
            assert not flags_ & h2.ACK
            one.send(h2.frame(h2.PING, h2.ACK, 0, payload))
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while await one.reader.read(1000):
                    pass
