"""A UDP relay: each client's datagrams go to one node, from a socket of their own, until neither side has said anything for a minute."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from kubeling.cloud.providers.addresses import Network, allowed
from kubeling.cloud.providers.dialer import Dialer
from kubeling.cloud.providers.targets import Target, Targets
from kubeling.daemon.log import get_logger

log = get_logger("load-balancer")

MAX_SESSIONS = 1024
IDLE_SECONDS = 60.0
_BUFFER = 65536


class _Session:
    """One client's way to one node."""

    def __init__(self, relay: UdpRelay, client: Any, target: Target, sock: socket.socket) -> None:
        self.target = target
        self._relay, self._client, self._sock = relay, client, sock
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(IDLE_SECONDS, self._expire)
        self._loop.add_reader(sock.fileno(), self._answer)

    def send(self, data: bytes) -> None:
        self._last = self._loop.time()
        with contextlib.suppress(OSError):  # A datagram may be lost; a refused port shows at the next receive.
            self._sock.send(data)

    def _answer(self) -> None:
        try:
            data = self._sock.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self._relay.targets.failed(self.target, self._loop.time())
            self._relay.drop(self._client)
            return
        self._last = self._loop.time()
        self._relay.reply(data, self._client)

    def _expire(self) -> None:
        left = self._last + IDLE_SECONDS - self._loop.time()
        if left <= 0:
            self._relay.drop(self._client)
        else:
            self._timer = self._loop.call_later(left, self._expire)

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()


class UdpRelay:
    """Serves one bound socket until :meth:`close`. At most MAX_SESSIONS clients; the one that was quiet longest makes room."""

    def __init__(
        self, sock: socket.socket, node_port: int, targets: Targets, dialer: Dialer, ranges: Callable[[], Sequence[Network]]
    ) -> None:
        self._sock = sock
        self.node_port = node_port
        self.targets = targets
        self._dialer = dialer
        self._ranges = ranges
        self._sessions: OrderedDict[Any, _Session] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._receive)

    def _receive(self) -> None:
        try:
            data, client = self._sock.recvfrom(_BUFFER)
        except OSError:
            return
        session = self._sessions.get(client) or self._open(client)
        if session is not None:
            self._sessions.move_to_end(client)
            session.send(data)

    def _open(self, client: Any) -> _Session | None:
        order = self.targets.order(client[0], self._loop.time())
        if not order or not allowed(client[0], self._ranges()):
            return None
        target = order[0]
        try:
            sock = self._dialer.fresh(socket.SOCK_DGRAM, socket.AF_INET6 if ":" in target.address else socket.AF_INET)
            sock.connect((target.address, self.node_port))
        except OSError as error:
            log.debug("cannot reach a node", node=target.node, error=str(error))
            return None
        while len(self._sessions) >= MAX_SESSIONS:
            self.drop(next(iter(self._sessions)))
        session = self._sessions[client] = _Session(self, client, target, sock)
        return session

    def reply(self, data: bytes, client: Any) -> None:
        """Pass a node's datagram to the client."""
        with contextlib.suppress(OSError):
            self._sock.sendto(data, client)

    def drop(self, client: Any) -> None:
        """Forget a client."""
        session = self._sessions.pop(client, None)
        if session is not None:
            session.close()

    async def close(self) -> None:
        """Stop serving."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for client in list(self._sessions):
            self.drop(client)
