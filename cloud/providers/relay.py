"""A TCP relay: what a listening socket takes is passed to a node and back, byte for byte.

Each direction is a loop of one receive and one send, so at most one buffer of bytes is under way in each, whoever is slow. The end of one direction is
passed on as such and leaves the other open. A connection that is refused by one node is offered to the next; nothing was sent yet, so nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from kubeling.cloud.providers.addresses import Network, allowed
from kubeling.cloud.providers.dialer import Dialer
from kubeling.cloud.providers.targets import Targets
from kubeling.daemon.log import get_logger

log = get_logger("load-balancer")

_BUFFER = 64 * 1024
MAX_CONNECTIONS = 2048


class TcpRelay:
    """Serves one listening socket until :meth:`close`."""

    def __init__(
        self, sock: socket.socket, node_port: int, targets: Targets, dialer: Dialer, ranges: Callable[[], Sequence[Network]]
    ) -> None:
        self._sock = sock
        self.node_port = node_port
        self._targets = targets
        self._dialer = dialer
        self._ranges = ranges
        self._connections: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            try:
                client, peer = await loop.sock_accept(self._sock)
            except OSError as error:
                # Out of file descriptors, or the client left before it was taken.
                self._free.release()
                log.warning("cannot accept", error=str(error))
                await asyncio.sleep(0.1)
                continue
            if not allowed(peer[0], self._ranges()):
                self._free.release()
                client.close()
                continue
            task = loop.create_task(self._serve(client, peer[0]))
            self._connections.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._free.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection failed", error=repr(error))

    async def _serve(self, client: socket.socket, peer: str) -> None:
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            node = await self._dial(peer)
            if node is None:
                return
            with node, contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(client, node))
                    group.create_task(_pump(node, client))

    async def _dial(self, peer: str) -> socket.socket | None:
        loop = asyncio.get_running_loop()
        for target in self._targets.order(peer, loop.time()):
            try:
                node = await self._dialer.connect(target.address, self.node_port)
            except OSError as error:
                self._targets.failed(target, loop.time())
                log.debug("a node did not answer", node=target.node, port=self.node_port, error=str(error))
            else:
                self._targets.answered(target)
                return node
        return None

    async def close(self) -> None:
        """Stop listening and end what is under way."""
        tasks = [self._accepting, *self._connections]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sock.close()


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Until the source's end, which is passed on. An error on either side ends the connection whole, as a reset does."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_BUFFER))
    try:
        while count := await loop.sock_recv_into(source, buffer):
            await loop.sock_sendall(sink, buffer[:count])
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
