"""Sockets towards the nodes. Where the nodes live in a network namespace of their own the sockets are made in there, a few at a time."""

from __future__ import annotations

import asyncio
import socket

from kubeling.linux.netns import inside

_SPARE = 8
CONNECT_SECONDS = 2.0


class Dialer:
    """Dials from the namespace at `netns`, or plainly where that is empty."""

    def __init__(self, netns: str = "") -> None:
        self._netns = netns
        self._spare: dict[int, list[socket.socket]] = {}

    def fresh(self, kind: int, family: int = socket.AF_INET) -> socket.socket:
        """A fresh non-blocking socket. OSError where the namespace is gone."""
        if not self._netns:
            return _make(family, kind)
        if family != socket.AF_INET:
            return inside(self._netns, lambda: _make(family, kind))
        spare = self._spare.setdefault(kind, [])
        if not spare:
            # Entering the namespace takes a thread: worth sharing.
            spare += inside(self._netns, lambda: [_make(family, kind) for _ in range(_SPARE)])
        return spare.pop()

    async def connect(self, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A connected socket. OSError (TimeoutError is one) where nobody answers in time."""
        sock = self.fresh(kind, socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Close the spare sockets."""
        for each in self._spare.values():
            while each:
                each.pop().close()


def _make(family: int, kind: int) -> socket.socket:
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if kind == socket.SOCK_STREAM:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made


def listen(address: str, port: int, kind: int) -> socket.socket:
    """A bound socket of the host's own namespace; a second instance of us may bind the same."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(512)
    except BaseException:
        made.close()
        raise
    return made
