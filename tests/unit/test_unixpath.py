"""Sockets whose paths are too long, and gRPC over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from kubeling.linux.unixpath import LONGEST, ShortPath, UnixChannel
from kubeling.proto import pluginregistration_pb2 as pb
from kubeling.proto import pluginregistration_pb2_grpc as pb_grpc


class Named(pb_grpc.RegistrationServicer):
    def __init__(self, name: str) -> None:
        self._name = name

    async def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.PluginInfo(name=self._name)


async def serve(path: Path) -> grpc.aio.Server:
    path.parent.mkdir(parents=True, exist_ok=True)
    server = grpc.aio.server()
    pb_grpc.add_RegistrationServicer_to_server(Named(path.parent.name[0]), server)  # type: ignore[no-untyped-call]
    with ShortPath(path) as short:
        server.add_insecure_port(f"unix:{short.path}")
        await server.start()
    return server


async def name_of(channel: grpc.aio.Channel) -> str:
    stub: Any = pb_grpc.RegistrationStub(channel)  # type: ignore[no-untyped-call]
    found = await stub.GetInfo(pb.InfoRequest(), timeout=5)
    return str(found.name)


async def test_a_channel_is_to_its_own_socket_whatever_was_reached_by_the_same_descriptor(tmp_path: Path) -> None:
    paths = [tmp_path / (letter * 120) / "x.sock" for letter in "ab"]
    assert all(len(str(path)) > LONGEST for path in paths)
    servers = [await serve(path) for path in paths]
    first = UnixChannel(paths[0])
    try:
        assert await name_of(first.channel) == "a"
        # As after `close`, when the connection is not gone yet: the number is free for the next folder.
        first._short.close()
        async with UnixChannel(paths[1]) as second:
            assert await name_of(second) == "b"
    finally:
        await first.close()
        for server in servers:
            await server.stop(None)


async def test_a_new_channel_does_not_wait_out_the_failures_of_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / ("c" * 120) / "x.sock"
    path.parent.mkdir()
    first = UnixChannel(path)
    with pytest.raises(grpc.aio.AioRpcError):
        await name_of(first.channel)
    first._short.close()
    server = await serve(path)
    try:
        async with UnixChannel(path) as second:
            assert await name_of(second) == "c"
    finally:
        await first.close()
        await server.stop(None)
