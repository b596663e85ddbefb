"""Unix sockets whose paths are too long for the kernel (107 bytes): reached through a descriptor of their folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import grpc.aio

LONGEST = 107


class ShortPath:
    """`path` is a name of the socket that fits, good until :meth:`close`. A context manager too. OSError where there is no such folder."""

    def __init__(self, path: str | Path) -> None:
        self._fd = -1
        self.path = str(path)
        if len(os.fsencode(self.path)) > LONGEST:
            folder, name = os.path.split(self.path)
            self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.path = f"/proc/self/fd/{self._fd}/{name}"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class UnixChannel:
    """A gRPC channel to a socket, however long its path. Make it inside a running event loop. A context manager that gives the channel."""

    def __init__(self, path: str | Path, options: Sequence[tuple[str, Any]] = ()) -> None:
        import grpc.aio

        self._short = ShortPath(path)
        # A descriptor's number is soon another folder's. Channels that share connections by their address would go on with the connection, or
        # wait out the failures, of a socket that was reached by the same number before.
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.channel: grpc.aio.Channel = grpc.aio.insecure_channel(f"unix:{self._short.path}", options=[*own, *options])

    async def close(self) -> None:
        await self.channel.close()
        self._short.close()

    async def __aenter__(self) -> grpc.aio.Channel:
        return self.channel

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
