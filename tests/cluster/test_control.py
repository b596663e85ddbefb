"""The control socket and the channels: what is sent arrives whole, and what is nonsense is refused in words."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from kubeling.cluster import channel
from kubeling.cluster.control import Control
from kubeling.cluster.controlserver import MAX_LINE, ControlServer, Progress
from kubeling.cluster.state import ClusterError


async def _echo(request: dict[str, Any], tell: Progress) -> dict[str, Any]:
    value = request["value"]
    tell({"step": "one"})
    return {"got": value}


async def _refuse(_request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
    raise ClusterError("not today")


async def _break(_request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
    raise RuntimeError("a bug")


async def serve(folder: Path) -> ControlServer:
    server = ControlServer(folder / "control.sock", {"echo": _echo, "refuse": _refuse, "break": _break})
    await server.start()
    return server


async def test_requests_are_answered_after_their_progress(tmp_path: Path) -> None:
    server = await serve(tmp_path)

    def talk() -> list[dict[str, Any]]:
        with Control(tmp_path) as control:
            first = list(control.messages("echo", value="é" * 1000))
            return first + list(control.messages("echo", value=2))

    got = await asyncio.to_thread(talk)
    await server.close()
    assert got == [{"step": "one"}, {"ok": True, "got": "é" * 1000}, {"step": "one"}, {"ok": True, "got": 2}]
    assert not (tmp_path / "control.sock").exists()


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    server = await serve(tmp_path)
    assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600
    await server.close()


async def test_a_cluster_may_lie_deep(tmp_path: Path) -> None:
    """The path of a Unix socket takes 107 bytes; that of a home directory may take more."""
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    server = await serve(folder)
    assert await asyncio.to_thread(lambda: Control(folder).call("echo", value=1)) == {"ok": True, "got": 1}
    await server.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{\n", "not a request"),
        (b"[]\n", "not a request"),
        (b'{"op": ["x"]}\n', "not a request"),
        (b'{"op": "sing"}\n', "unknown operation"),
        (b'{"op": "refuse"}\n', "not today"),
        (b'{"op": "break"}\n', "break failed: a bug"),
        (b'{"op": "echo"}\n', "echo failed"),
    ],
)
async def test_what_cannot_be_answered_is_refused_and_the_connection_lives(tmp_path: Path, line: bytes, words: str) -> None:
    server = await serve(tmp_path)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
    writer.write(line)
    assert words in (await reader.readline()).decode()
    writer.write(b'{"op": "echo", "value": 1}\n')
    assert b"step" in await reader.readline()
    writer.close()
    await server.close()


async def test_a_line_without_end_is_hung_up_on(tmp_path: Path) -> None:
    server = await serve(tmp_path)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
    writer.write(b"x" * (MAX_LINE + 2))
    assert await reader.read() == b""
    writer.close()
    await server.close()


def test_a_socket_that_nobody_serves_names_the_remedies(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "control.sock"))
    sock.close()
    with pytest.raises(ClusterError, match=r"kubeling up .*kubeling down"):
        Control(tmp_path)


def test_messages_keep_their_bounds_and_descriptors() -> None:
    ours, theirs = channel.pair()
    reading, writing = os.pipe()
    with ours, theirs:
        channel.send(ours, {"n": 1}, [writing])
        channel.send(ours, {"n": 2, "long": "x" * 100_000})
        os.close(writing)
        first = channel.receive(theirs)
        assert first is not None
        assert first[0] == {"n": 1}
        assert not os.get_inheritable(first[1][0])
        os.write(first[1][0], b"hello")
        assert os.read(reading, 5) == b"hello"
        second = channel.receive(theirs)
        assert second is not None
        assert (second[0]["n"], second[1]) == (2, [])
        with pytest.raises(ValueError, match="longer than"):
            channel.send(ours, {"x": "y" * channel.MAX_MESSAGE})
        ours.close()
        assert channel.receive(theirs) is None
    for fd in (reading, first[1][0]):
        os.close(fd)
