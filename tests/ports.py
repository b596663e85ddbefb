"""Ports for daemons that tests start."""

from __future__ import annotations

import random
import socket

#: Below those that the kernel gives to outgoing connections, and below the NodePorts: nobody takes one between the choice and the use by accident.
_PORTS = range(10_000, 30_000)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now and that were not given out before in this process."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as sock:
            # As servers do it: what is left of an old connection does not make a port taken.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
